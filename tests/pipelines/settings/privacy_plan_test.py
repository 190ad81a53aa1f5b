"""What flags of privacy make of a run, and what they refuse."""

import dataclasses
import types
from typing import Any

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import feddst, fedtiny, snip
from pipelines.runs import participation
from pipelines.settings import privacy_plan
from tests.pipelines import support

ALONE = {"dense_baseline": False, "quantisation_aware": "never"}
PRIVATE = {**ALONE, "noise_multiplier": 1.0}


def _config(**changes):
  return support.make_config(
    **{"num_clients": 0, "clients_per_round": 20, "rounds": 10, **changes}
  )


def _plan(config, population, strategy=None):
  planned = privacy_plan.plan(config, population, strategy or fedtiny.FedTiny())
  assert planned is not None
  return planned


def _secure(config, population):
  secure = privacy_plan.make_secure(config, population, 7)
  assert secure is not None
  return secure


def _data(population) -> Any:
  return types.SimpleNamespace(references=np.zeros([population, 4], np.int64))


def test_a_selection_is_a_release():
  config = _config(**PRIVATE)
  selecting = _plan(config, 200)
  assert selecting.sampling.releases == 11
  assert selecting.sampling.chance == pytest.approx(0.1)
  assert selecting.after_round(9, 10) == selecting.epsilon(11)
  assert 0.0 < selecting.after_round(0, 10) < selecting.after_round(9, 10)
  once = _plan(config, 200, snip.SNIP())
  assert once.sampling.releases == 10
  assert once.after_round(9, 10) == once.epsilon(10)
  assert privacy_plan.plan(_config(), 200, fedtiny.FedTiny()) is None


def test_noise_keeps_to_the_target():
  config = _config(**ALONE, target_epsilon=8.0, target_delta=1e-4)
  planned = _plan(config, 200)
  assert 7.9 < planned.summary()["epsilon"] <= 8.0


def test_every_client_is_drawn_by_itself():
  config, data = _config(**PRIVATE), _data(200)
  drawn = [participation.drawn(config, data, "participants", n) for n in range(300)]
  counts = [len(each) for each in drawn]
  assert np.mean(counts) == pytest.approx(20, abs=1.0)
  # A binomial's standard deviation is √18.
  assert np.std(counts) == pytest.approx(np.sqrt(18), rel=0.2)
  chosen = np.bincount(np.concatenate(drawn).astype(int), minlength=200)
  assert chosen.min() > 5
  assert drawn[0] == participation.drawn(config, data, "participants", 0)
  plain = participation.drawn(_config(), data, "participants", 0)
  assert len(plain) == 20


def test_words_hold_as_many_clients_as_may_come():
  config = _config(**PRIVATE, secure_aggregation="modular")
  secure = _secure(config, 200)
  assert secure.clients == 56
  assert _secure(config, 30).clients == 30
  plain = _config(**ALONE, secure_aggregation="modular")
  secure = _secure(plain, 200)
  assert (secure.clients, secure.largest_examples, secure.vote_buckets) == (20, 7, 0)
  hashed = _config(**ALONE, secure_aggregation="modular", secure_votes="hashed")
  assert _secure(hashed, 200).vote_buckets == 1024


def test_few_clients_are_warned_about():
  config = _config(**PRIVATE)
  for population, count in ((200, 2), (2000, 1)):
    planned = _plan(config, population)
    lines = privacy_plan.warnings(config, planned, 1000)
    assert len(lines) == count
  # √2000 coordinates' worth of noise on a twentieth of the sum.
  few = _plan(config, 200)
  assert "2.2 times as long" in privacy_plan.warnings(config, few, 1000)[1]
  assert privacy_plan.warnings(_config(), None, 1000) == []


def test_integer_files_need_public_samples():
  config = _config(**PRIVATE, targets=["android"])
  privacy_plan.check_calibration(config, 10)
  privacy_plan.check_calibration(_config(targets=["android"]), 0)
  with pytest.raises(InputError, match="raise --public_samples_per_class"):
    privacy_plan.check_calibration(config, 0)


def test_methods_whose_reports_have_no_bound():
  found = registry.get_model("digits_cnn", (8, 8, 1), 10)
  config = _config(**PRIVATE)
  privacy_plan.check_method(config, fedtiny.FedTiny(), found)
  spec = schedules.GRANULARITIES["entire"](found.spec)
  whole = dataclasses.replace(found, spec=spec)
  with pytest.raises(InputError, match="--strategy=feddst lets clients send what has"):
    privacy_plan.check_method(config, feddst.FedDST(), whole)
  privacy_plan.check_method(_config(), feddst.FedDST(), whole)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"quantisation_aware": "auto"}, "set --quantisation_aware=never"),
    ({"quantisation_aware": "public"}, "set --quantisation_aware=never"),
    ({"dense_baseline": True}, "set --nodense_baseline"),
    ({"min_reports": 2}, "--min_reports repeats rounds"),
    ({"calibration_source": "clients"}, "set --calibration_source=public"),
    ({"target_epsilon": 8.0}, "both say how much noise"),
    ({"clip_norm": 0.0}, "--clip_norm must be in"),
    ({"aggregation": "median"}, "aggregation median looks at reports one by one"),
  ],
)
def test_what_a_guarantee_does_not_cover_is_refused(changes, message):
  with pytest.raises(InputError, match=message):
    config = _config(**{**PRIVATE, **changes})
    participation.check(config, [5] * 200, fedtiny.FedTiny())


def test_secure_sums_refuse_what_is_added_up_in_the_open():
  with pytest.raises(InputError, match="--secure_aggregation does not cover"):
    _config(secure_aggregation="modular", quantisation_aware="auto")
  with pytest.raises(InputError, match="--secure_aggregation must be one of none"):
    _config(**ALONE, secure_aggregation="closed")
  # A dense run beside it goes through the same sums.
  _config(secure_aggregation="modular", quantisation_aware="never")
