"""A run whose clients are devices refuses what devices are not asked for."""

import pytest

from fedtiny_tff.errors import InputError
from pipelines.settings import device_checks
from tests.pipelines import support

FITTING = {
  "device_exchange": "folder", "dense_baseline": False, "quantisation_aware": "never",
  "public_samples_per_class": 1,
}  # fmt: skip


def _check(**changes):
  device_checks.check(support.flag_values(**{**FITTING, **changes}))


def test_what_fits_is_taken():
  _check()
  _check(quantisation_aware="public", aggregation="median", early_stopping=3)
  for few in ([], ["device_client"]):
    _check(targets=few, quantisation_aware="auto", public_samples_per_class=0)


@pytest.mark.parametrize(
  ("name", "value", "mend"),
  [
    ("dense_baseline", True, "set --dense_baseline=false"),
    ("workers", ["localhost:1"], "set --workers="),
    ("profile", 1, "set --profile=0"),
    ("client_dropout", 0.1, "set --client_dropout=0.0"),
    ("client_stragglers", 0.1, "set --client_stragglers=0.0"),
    ("byzantine_attack", "sign_flip", "set --byzantine_attack=none"),
    ("target_epsilon", 8.0, "set --target_epsilon=0.0"),
    ("noise_multiplier", 1.0, "set --noise_multiplier=0.0"),
    ("secure_aggregation", "modular", "set --secure_aggregation=none"),
    ("calibration_source", "clients", "set --calibration_source=public"),
    ("quantisation_aware", "auto", "set it to never or public"),
    ("public_samples_per_class", 0, "raise --public_samples_per_class"),
  ],
)
def test_what_does_not_is_named_with_its_mend(name, value, mend):
  with pytest.raises(InputError, match=mend) as caught:
    _check(**{name: value})
  assert f"--{name}" in str(caught.value)
  # Where clients are simulated all of it may be.
  _check(device_exchange="", **{name: value})


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e9, float("nan")])
def test_devices_have_some_time(seconds):
  with pytest.raises(InputError, match="--device_timeout_seconds must be in"):
    _check(device_exchange="", device_timeout_seconds=seconds)
