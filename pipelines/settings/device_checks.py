"""Flags that make no sense in a run whose clients are devices."""

from typing import Any

from fedtiny_tff.errors import InputError
from fedtiny_tff.protection import poisoning, secure_config
from tflite_export.targets import INTEGER_TARGETS

_SIMULATED = "there are no simulated clients"
_ONE_BY_ONE = "devices' reports arrive one by one"
# Flag to the value it must have, as a flag has it, and why.
_NEEDED: dict[str, tuple[Any, str]] = {
  "dense_baseline": (False, "devices have a file of the sparse model alone"),
  "workers": ([], _SIMULATED),
  "profile": (0, _SIMULATED),
  "client_dropout": (0.0, _SIMULATED),
  "client_stragglers": (0.0, _SIMULATED),
  "byzantine_attack": (poisoning.NONE, _SIMULATED),
  "target_epsilon": (0.0, _ONE_BY_ONE),
  "noise_multiplier": (0.0, _ONE_BY_ONE),
  "secure_aggregation": (secure_config.NONE, _ONE_BY_ONE),
  "calibration_source": ("public", "devices are not asked for ranges"),
}


def check(values: dict[str, Any]) -> None:
  """Refuses what devices are not asked for.

  Args:
    values: Every flag of a run, by name.

  Raises:
    InputError: Naming the flag and the mend.
  """
  if not 0.0 < values["device_timeout_seconds"] <= 1e7:
    raise InputError(
      "--device_timeout_seconds must be in (0, 1e7], got "
      f"{values['device_timeout_seconds']:g}"
    )
  if not values["device_exchange"]:
    return
  for name, (needed, reason) in _NEEDED.items():
    if values[name] != needed:
      given = "" if needed == [] else str(needed).lower()
      raise InputError(
        f"--{name} cannot be had with --device_exchange, as {reason}; set "
        f"--{name}={given}"
      )
  if not INTEGER_TARGETS.intersection(values["targets"]):
    return
  if values["quantisation_aware"] in ("auto", "always"):
    raise InputError(
      f"--device_exchange excludes --quantisation_aware={values['quantisation_aware']}, "
      "which asks clients; set it to never or public"
    )
  if not values["public_samples_per_class"]:
    raise InputError(
      "--device_exchange: integer files are calibrated on the server's samples; raise "
      "--public_samples_per_class, or export nothing (--targets=)"
    )
