"""The defaults are dense FedAvg; a bad configuration is refused when made."""

import numpy as np
import pytest

from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.base import PruningConfig
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(4, 6)


def test_nothing_is_pruned():
  masks = base.Strategy().candidate_masks(
    np.zeros(10, np.float32), _SPEC, PruningConfig(0.1, 5)
  )
  assert masks.shape == (1, 10)
  assert masks.dtype == bool
  assert masks.all()


def test_nothing_is_adjusted():
  strategy = base.Strategy()
  assert strategy.plan_events(_SPEC, (4, 6), PruningConfig(0.1, 300)) == ()
  assert not strategy.is_sparse
  with pytest.raises(ValueError, match="'fedavg' never adjusts masks, asked for 1"):
    strategy.adjustment(_SPEC, 1, (1,))


@pytest.mark.parametrize("density", [0.0, -0.5, 1.4, float("nan")])
def test_density_must_be_in_its_range(density):
  message = rf"target density must be in \(0, 1\], got {density}"
  with pytest.raises(ValueError, match=message):
    PruningConfig(density, 10)


def test_density_one_is_allowed():
  assert PruningConfig(1.0, 1).target_density == 1.0


@pytest.mark.parametrize("value", [0, -3])
def test_rounds_and_interval_must_be_at_least_one(value):
  with pytest.raises(ValueError, match=f"rounds must be at least 1, got {value}"):
    PruningConfig(0.1, value)
  message = f"adjust_every_rounds must be at least 1, got {value}"
  with pytest.raises(ValueError, match=message):
    PruningConfig(0.1, 10, adjust_every_rounds=value)


@pytest.mark.parametrize(("until", "pool"), [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(until, pool):
  with pytest.raises(ValueError, match=f"at least 0, got {until} and {pool}"):
    PruningConfig(0.1, 10, adjust_until_round=until, pool_size=pool)


@pytest.mark.parametrize("name", ["adjust_order", "granularity", "layer_counts"])
def test_an_unknown_choice_is_refused(name):
  with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'sideways'"):
    PruningConfig(0.1, 10, **{name: "sideways"})  # type: ignore[arg-type]
