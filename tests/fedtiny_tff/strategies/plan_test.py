"""A plan fails when it is made, with the value found."""

import pytest

from fedtiny_tff.local_training.optimizers import OptimizerConfig
from fedtiny_tff.local_training.training import TrainingConfig
from fedtiny_tff.strategies import plan as plan_lib
from fedtiny_tff.strategies.plan import FedTinyPlan
from fedtiny_tff.strategies.pruning_config import PruningConfig
from pipelines.settings import flag_values


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"target_density": 1.4}, "1.4"),
    ({"rounds": 0}, "rounds must be at least 1, got 0"),
    ({"granularity": "row"}, "'row'"),
    ({"learning_rate_schedule": "linear"}, "constant, cosine, step, got 'linear'"),
    ({"prune_for": "gpu"}, "'gpu'"),
    ({"channel_block": 0}, "got 0"),
    ({"pool_size": 1001}, "pool_size must be at most 1000, got 1001$"),
    ({"target_density": 1e-5}, "at most 1000, got 10000, the paper's .*; set it"),
    ({"training": {"local_epochs": 2}}, "TrainingConfig"),
    ({"blocks": ("conv", "dense")}, "tuples of layer names"),
  ],
)
def test_bad_values(changes, said):
  with pytest.raises(ValueError, match=said):
    FedTinyPlan(**{"target_density": 0.1, "rounds": 4, **changes})


def test_the_smallest_density_with_the_paper_s_pool():
  assert FedTinyPlan(1e-4, 4).pool_size == 0
  assert FedTinyPlan(1e-5, 4, pool_size=1000).pool_size == 1000
  assert plan_lib.MOST_CANDIDATES == flag_values.MOST_CANDIDATES


def test_it_is_what_strategies_read_and_does_not_change():
  plan = FedTinyPlan(0.1, 4, blocks=[["conv"], ["dense"]])  # type: ignore[arg-type]
  assert isinstance(plan, PruningConfig)
  assert plan.blocks == (("conv",), ("dense",))
  assert hash(plan) == hash(FedTinyPlan(0.1, 4, blocks=(("conv",), ("dense",))))
  with pytest.raises(AttributeError):
    plan.rounds = 5  # type: ignore[misc]


def test_the_learning_rate_follows_the_schedule():
  training = TrainingConfig(OptimizerConfig(learning_rate=0.2))
  plan = FedTinyPlan(0.1, 4, training=training, learning_rate_schedule="cosine")
  # 0.2 · ½ (1 + cos(π r / 4))
  assert [plan.learning_rate(r) for r in (0, 2)] == pytest.approx([0.2, 0.1])
  assert FedTinyPlan(0.1, 4, training=training).learning_rate(3) == 0.2
