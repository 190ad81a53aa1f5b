"""What a configuration becomes."""

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models.tfmot_masking import initial_weights
from fedtiny_tff.strategies import base
from pipelines.training import experiments
from tests.fedtiny_tff import support as core_support
from tests.pipelines import support


@pytest.mark.parametrize(
  ("granularity", "blocks"),
  [
    ("block", ((0,), (1, 2), (3, 4))),
    ("layer", ((0,), (1,), (2,), (3,), (4,))),
    ("entire", ((0, 1, 2, 3, 4),)),
  ],
)
def test_granularity_makes_the_blocks(granularity, blocks):
  made = experiments.plan_experiment(support.make_config(granularity=granularity))
  assert made.definition.spec.blocks == blocks
  assert made.definition.spec.size == support.PRUNABLE


def test_the_strategy_is_the_named_one():
  dense = experiments.plan_experiment(support.make_config(strategy="fedavg"))
  assert type(dense.strategy) is base.Strategy
  sparse = experiments.plan_experiment(support.make_config())
  assert sparse.strategy.name == "fedtiny"


def test_a_method_that_would_not_prune_in_these_rounds_is_bad_input():
  config = support.make_config(strategy="lotteryfl", adjust_until_round=0)
  with pytest.raises(
    InputError, match="'lotteryfl' prunes at adjustments, and none of"
  ):
    experiments.plan_experiment(config)


@pytest.mark.parametrize(
  ("changes", "never"),
  [
    ({"rounds": 3, "adjust_every_rounds": 10}, True),
    ({"rounds": 30, "adjust_every_rounds": 10, "adjust_until_round": 20}, False),
    # That was asked for.
    ({"rounds": 3, "adjust_until_round": 0}, False),
    ({"rounds": 3, "adjust_every_rounds": 10, "strategy": "snip"}, False),
  ],
)
def test_a_run_too_short_to_move_masks_is_known(changes, never):
  made = experiments.plan_experiment(support.make_config(**changes))
  assert experiments.never_moves(made) is never


def test_a_method_without_the_samples_it_needs_is_bad_input():
  config = support.make_config(strategy="snip", public_samples_per_class=0)
  with pytest.raises(InputError, match=r"strategy snip .* by --public_samples_per"):
    experiments.plan_experiment(config)
  made = experiments.plan_experiment(support.make_config(strategy="snip"))
  assert made.strategy.name == "snip"


def test_clients_that_cannot_be_filled_are_bad_input():
  with pytest.raises(InputError, match="lower --num_clients"):
    experiments.plan_experiment(support.make_config(num_clients=200))


def test_initial_weights_repeat():
  definition = core_support.cnn()
  first, second = (initial_weights(definition, 4) for _ in range(2))
  for one, other in zip(first, second, strict=True):
    np.testing.assert_array_equal(one, other)
