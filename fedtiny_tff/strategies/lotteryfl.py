"""LotteryFL style: dense training, and magnitude pruning step by step.

"LotteryFL: Personalized and Communication-Efficient Federated Learning with Lottery
Ticket Hypothesis on Non-IID Datasets", A. Li et al., arXiv 2008.03371.

    start dense
    every few rounds, in the whole model:
      server: in every layer the smallest |weights| go for good; what is left shrinks by
              the same factor each time, and after the last event is what was asked for

What is taken from the paper is its pruning, iterative and by magnitude, from a dense
model. It is of one global model here, as of the other methods: the paper lets every
client prune a model of its own, when that is accurate enough, and rewinds what is left
to its first values. Clients need room for the dense model, so that is what is charged.
"""

from collections.abc import Sequence

import tensorflow as tf

from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.adjustment import (
  ServerAdjustment,
  ServerModel,
  largest_active,
)
from fedtiny_tff.strategies.pruning_config import PruningConfig, check_entire


class MagnitudeAdjustment(ServerAdjustment):
  """Drops the smallest weights of every layer."""

  def __init__(self, plan: base.AdjustmentPlan):
    """Takes the layout; the block is the whole model."""
    self._spec = plan.spec

  def apply(
    self,
    model: ServerModel,
    mean: tuple[()],
    counts: tf.Tensor,
    round_index: tf.Tensor,
  ) -> ServerModel:
    """Drops `counts` groups.

    Args:
      model: After averaging.
      mean: Nothing: clients send nothing.
      counts: int32, groups to drop in each layer.
      round_index: Has no influence.
    """
    del mean, round_index
    mask = largest_active(model.weights.prunable, model.mask, self._spec, counts)
    prunable = tf.where(mask, model.weights.prunable, 0.0)
    return model._replace(weights=model.weights._replace(prunable=prunable), mask=mask)


def falling_counts(start: int, end: int, events: int) -> tuple[int, ...]:
  """Returns what is left of a layer before the first event and after each.

  Args:
    start: Groups before the first.
    end: Groups after the last, at least 1 and at most `start`.
    events: Number of events.
  """
  shares = (step / events for step in range(1, events + 1))
  return (start, *(round(start * (end / start) ** share) for share in shares))


class LotteryFL(base.Strategy):
  """Iterative magnitude pruning of one global model."""

  name = "lotteryfl"
  citation = "LotteryFL style pruning (arXiv 2008.03371)"
  is_sparse = True
  granularity = "entire"

  def starting_counts(
    self, spec: spec_lib.PrunableSpec, kept: Sequence[int]
  ) -> tuple[int, ...]:
    """Returns every weight."""
    del kept
    return spec.sizes

  def plan_events(
    self,
    spec: spec_lib.PrunableSpec,
    active_counts: Sequence[int],
    config: PruningConfig,
  ) -> tuple[schedules.AdjustmentEvent, ...]:
    """Shrinks every layer by a constant factor at each event, down to its last count.

    Args:
      spec: Prunable layers, in one block.
      active_counts: Unpruned weights per layer before the first round.
      config: Rounds of the adjustments, and the density in the end.

    Raises:
      InputError: When no round adjusts masks, so that nothing would be pruned.
      ValueError: When layers are not in one block.
    """
    check_entire(spec, self.name)
    final = self.expected_counts(spec, config)
    rounds = [
      number
      for number in range(config.rounds)
      if schedules.is_event(
        number, config.adjust_every_rounds, config.adjust_until_round
      )
    ]
    if not rounds and sum(final) < sum(active_counts):
      raise InputError(
        f"strategy {self.name!r} prunes at adjustments, and none of the "
        f"{config.rounds} rounds has one: lower adjust_every_rounds, now "
        f"{config.adjust_every_rounds}, or raise rounds or adjust_until_round, now "
        f"{config.adjust_until_round}"
      )
    left = [
      falling_counts(first // size, last // size, len(rounds))
      for size, first, last in zip(
        spec.channel_blocks, active_counts, final, strict=True
      )
    ]
    return tuple(
      schedules.AdjustmentEvent(
        number, 0, tuple(of[event] - of[event + 1] for of in left), grows=False
      )
      for event, number in enumerate(rounds)
    )

  def adjustment(self, plan: base.AdjustmentPlan) -> MagnitudeAdjustment:
    """Drops the smallest weights."""
    return MagnitudeAdjustment(plan)

  def round_cost(
    self,
    profile: model_profile.ModelProfile,
    workload: device_cost.Workload,
    active: Sequence[int],
    blocks: Sequence[Sequence[int]],
  ) -> device_cost.RoundCost:
    """Charges the dense model, which the first rounds train."""
    del active, blocks
    return cost.dense_cost(profile, workload)
