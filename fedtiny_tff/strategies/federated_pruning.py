"""Federated Pruning: the server chooses channels, clients train the smaller model.

"Federated Pruning: Improving Neural Network Efficiency with Federated Learning",
R. Lin et al., Interspeech 2022, arXiv 2209.06359.

    the server holds the full model
    width of the small one = the largest with <= floor(density * its prunable weights)
    start from the channels of largest norm of the pre-trained weights
    every few rounds, in the whole model:
      clients: nothing but their small model
      server:  put its weights back into the full model, choose the channels of largest
               norm anew, cut the next small model out

The paper drops rows or columns of a Conformer's matrices; here output channels of
convolutions and dense layers go, with all that belongs to them (`Reduction`).
Channels left out keep the values they had. As many are kept in each layer as the same
architecture has at the smaller width, so that the small model can be trained, exported
and run like any other. Its mask is full: density is kept weights over all prunable
weights of the full model.
"""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.masked_models.channel_reduction import Reduction
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import narrowing
from fedtiny_tff.sparsity import densities, schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.adjustment import ServerAdjustment, ServerModel
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events


class ChannelAdjustment(ServerAdjustment):
  """Chooses the channels anew; the memory is the full model and which are kept."""

  def __init__(self, reduction: Optional[Reduction]):
    """Takes how the small model lies in the full one; None tells only what is sent."""
    self._planned = reduction

  def apply(
    self,
    model: ServerModel,
    mean: Any,
    counts: tf.Tensor,
    round_index: tf.Tensor,
  ) -> ServerModel:
    """Puts the small model back into the full one and cuts the next one out.

    Args:
      model: The small model after averaging.
      mean: Empty.
      counts: Have no influence: as many channels are kept as before.
      round_index: Has no influence.
    """
    del mean, counts, round_index
    reduction = _required(self._planned)
    *vectors, kept = model.memory
    full = reduction.scatter(ModelWeights(*vectors), kept, model.weights)
    weights, kept = reduction.reduce(full)
    return ServerModel(weights, model.mask, (*full, kept))


def _required(reduction: Optional[Reduction]) -> Reduction:
  if reduction is None:
    raise ValueError("federated_pruning needs its models: call plan_models first")
  return reduction


class FederatedPruning(base.Strategy):
  """Dense FedAvg of a small model whose channels change."""

  name = "federated_pruning"
  citation = "Federated Pruning (arXiv 2209.06359)"
  is_smaller = True
  granularity = "entire"

  def __init__(self, reduction: Optional[Reduction] = None):
    """Takes how the small model lies in the full one; None until that is planned."""
    self._planned = reduction

  def plan_models(
    self, find: narrowing.FindModel, width: float, config: PruningConfig
  ) -> base.ModelPlan:
    """Pre-trains the full model and trains the widest that the density allows.

    Args:
      find: The architecture asked for.
      width: The width asked for.
      config: Density.

    Raises:
      InputError: When the narrowest model is denser, or there is a layer that channels
        cannot be followed through.
    """
    full = find(width)
    limit = densities.total_count(full.spec, config.target_density)
    small = narrowing.widest(find, width, narrowing.prunable_weights, limit)
    bound = FederatedPruning(Reduction(full, small))
    return base.ModelPlan(full, full, small, bound)

  def candidate_masks(self, start: base.Pretrained, config: PruningConfig) -> Array:
    """Returns the full mask of the small model."""
    del start, config
    small = _required(self._planned).definition
    return np.ones([1, small.spec.size], dtype=bool)

  def begin(
    self, start: base.Pretrained, mask: Array
  ) -> tuple[ModelWeights, tuple[Array, ...]]:
    """Cuts the channels of largest norm out of the pre-trained model.

    Args:
      start: The pre-trained full model.
      mask: The full mask of the small one.

    Returns:
      The small model's weights; the full model's vectors, and which channels are kept.
    """
    del mask
    full = ModelWeights(*(tf.constant(v, tf.float32) for v in start.weights))
    weights, kept = _required(self._planned).reduce(full)
    memory = tuple(part.numpy() for part in (*full, kept))
    return ModelWeights(*(vector.numpy() for vector in weights)), memory

  def kept_weights(self, mask: Array, memory: Sequence[Array]) -> Array:
    """Returns where in the full model the kept channels' weights are."""
    del mask
    mask_of = _required(self._planned).mask
    kept: Array = mask_of(tf.constant(memory[-1])).numpy()
    return kept

  def plan_events(
    self,
    spec: spec_lib.PrunableSpec,
    active_counts: Sequence[int],
    config: PruningConfig,
  ) -> tuple[schedules.AdjustmentEvent, ...]:
    """Chooses channels every few rounds."""
    return regular_events(spec, active_counts, config)

  def adjustment(self, plan: base.AdjustmentPlan) -> ChannelAdjustment:
    """Chooses channels by norm."""
    del plan
    return ChannelAdjustment(self._planned)
