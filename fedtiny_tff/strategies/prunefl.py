"""PruneFL: adaptive masks by dense squared gradients.

"Model Pruning Enables Efficient Federated Learning on Edge Devices", Y. Jiang et al.,
IEEE TNNLS 2022, arXiv 1909.12326.

    start from the largest pre-trained weights
    every few rounds, in the whole model:
      clients: the mean squared gradient of every weight over all steps of the round
      server:  drop the a smallest |weight|, grow the a largest mean squared gradient

As many weights come as go, so that densities are those of the other methods; the paper
lets its time model decide them. Clients keep no state between rounds here, so that they
accumulate in the rounds that adjust: the dense gradients are what those cost.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.local_training import training
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.strategies import base, sparse
from fedtiny_tff.strategies.adjustment import (
  Adjustment,
  ClientStart,
  ServerModel,
  Trained,
  drop_and_grow,
)


class SquaredGradients(NamedTuple):
  """The squared gradients of every prunable weight.

  Attributes:
    values: float32 [prunable weights], mean over the steps of a round.
  """

  values: tf.Tensor


class SquaredGradientAdjustment(Adjustment):
  """Drop by aggregated magnitude, grow by aggregated squared gradients."""

  def __init__(self, plan: base.AdjustmentPlan):
    """Takes the layout; the block is the whole model."""
    self._spec = plan.spec
    self._layers = plan.spec.blocks[plan.block]

  def train(self, trainer: training.LocalTrainer, start: ClientStart) -> Trained:
    """Trains, and adds up the squares of every step's dense gradient."""
    weights, metrics, (total, steps) = trainer.train_observed(
      start.weights,
      start.mask,
      start.examples,
      start.learning_rate,
      _add_squares,
      (tf.zeros([self._spec.size]), tf.zeros([])),
    )
    return Trained(weights, metrics, SquaredGradients(total / tf.maximum(steps, 1.0)))

  def statistics_specs(self) -> SquaredGradients:
    """Returns the shape of what a client sends."""
    return SquaredGradients(tf.TensorSpec([self._spec.size], tf.float32))

  def zero(self) -> tf.Tensor:
    """Returns float32 zeros for every prunable weight."""
    return tf.zeros([self._spec.size], tf.float32)

  def accumulate(
    self, total: tf.Tensor, statistics: SquaredGradients, weight: tf.Tensor
  ) -> tf.Tensor:
    """Adds weighted squared gradients."""
    return total + statistics.values * weight

  def apply(
    self,
    model: ServerModel,
    mean: tf.Tensor,
    counts: tf.Tensor,
    round_index: tf.Tensor,
  ) -> ServerModel:
    """Drops and grows in every layer.

    Args:
      model: After averaging.
      mean: Weighted mean squared gradients, float32 [prunable weights].
      counts: int32, groups to move in each layer.
      round_index: Has no influence.
    """
    del round_index
    scores = [mean[self._spec.slice(layer)] for layer in self._layers]
    return drop_and_grow(model, self._spec, self._layers, scores, counts)


def _add_squares(
  seen: tuple[tf.Tensor, tf.Tensor], gradients: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
  total, steps = seen
  return total + tf.square(tf.concat(gradients, 0)), steps + 1.0


class PruneFL(sparse.AdjustingStrategy):
  """Adaptive pruning by dense squared gradients."""

  name = "prunefl"
  citation = "PruneFL (arXiv 1909.12326)"
  granularity = "entire"

  def adjustment(self, plan: base.AdjustmentPlan) -> SquaredGradientAdjustment:
    """Moves weights by aggregated squared gradients."""
    return SquaredGradientAdjustment(plan)

  def round_cost(
    self,
    profile: model_profile.ModelProfile,
    workload: device_cost.Workload,
    active: Sequence[int],
    blocks: Sequence[Sequence[int]],
  ) -> device_cost.RoundCost:
    """Charges sparse training with dense weight gradients at adjustments."""
    del blocks
    return cost.dense_gradient_cost(profile, workload, active)
