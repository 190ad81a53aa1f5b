"""FedTiny: adaptive BN selection and progressive pruning.

"Distributed Pruning Towards Tiny Neural Networks in Federated Learning",
H. Huang et al., ICDCS 2023, arXiv 2212.01977.

    pool = magnitude masks of the pre-trained weights, layer densities with noise
    start from the candidate of least loss under pooled BN statistics
    every few rounds, in one block, output to input:
      clients: the a largest |gradient| at pruned positions, as (index, value)
      server:  drop the a smallest |weight|, grow the a largest |mean gradient|

With channel blocks (`LayerSpec.channel_block`) all of it works on whole groups of
neighbouring weights: |.| is a group's Euclidean norm, and what is sent of a group is
one index and the gradient of each of its weights.

What a client keeps and sends is O(a). Of the dense gradient one layer's is needed at a
time: each is reduced to its a largest entries by itself. A device that back-propagates
layer by layer therefore never holds two; TensorFlow, which simulates it here, computes
the same values and frees them when it sees fit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.sparsity import candidates, masks
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base, sparse
from fedtiny_tff.strategies.adjustment import Adjustment, ServerModel, drop_and_grow
from fedtiny_tff.strategies.pruning_config import PruningConfig


class TopGradients(NamedTuple):
  """The largest gradients of one block at pruned positions.

  Layers follow one another; a layer has as many slots as its largest event
  needs. Unused slots hold index 0 and value 0, which adds nothing.

  Attributes:
    indices: int32 [slots], position within the block's layers laid end to end; of a
      group, that of its first weight.
    values: float32 [slots], signed gradients; of a group, those of all its weights,
      one after the other.
  """

  indices: tf.Tensor
  values: tf.Tensor


class TopGradientAdjustment(Adjustment):
  """Drop by aggregated magnitude, grow by aggregated top-a gradients."""

  def __init__(self, plan: base.AdjustmentPlan):
    """Fixes the block's layout; its capacities are slots for what is sent."""
    spec = plan.spec
    self._spec = spec
    self._layers = spec.blocks[plan.block]
    self._capacities = plan.capacities
    self._group_sizes = [spec.channel_blocks[i] for i in self._layers]
    sizes = [spec.sizes[i] for i in self._layers]
    self._starts = np.cumsum([0, *sizes]).tolist()

  def client_statistics(
    self, gradients: Sequence[tf.Tensor], mask: tf.Tensor, counts: tf.Tensor
  ) -> TopGradients:
    """Keeps each layer's `count` largest gradients among its pruned positions.

    Args:
      gradients: Dense gradients, one flat tensor per prunable layer of the model.
      mask: bool [prunable weights].
      counts: int32, groups to move in each layer of the block.
    """
    all_indices, all_values = [], []
    for position, (layer, slots, size) in enumerate(
      zip(self._layers, self._capacities, self._group_sizes, strict=True)
    ):
      gradient = gradients[layer]
      active = masks.group_mask(mask[self._spec.slice(layer)], size)
      # Active groups rank below every pruned one, whatever its gradient.
      scores = tf.where(active, -1.0, masks.group_norms(gradient, size))
      groups = tf.math.top_k(scores, k=slots).indices
      used = tf.range(slots) < counts[position]
      chosen = tf.gather(tf.reshape(gradient, [-1, size]), groups)
      values = tf.where(used[:, tf.newaxis], chosen, 0.0)
      first = groups * size + self._starts[position]
      all_indices.append(tf.where(used, first, 0))
      all_values.append(tf.reshape(values, [slots * size]))
    return TopGradients(tf.concat(all_indices, 0), tf.concat(all_values, 0))

  def statistics_specs(self) -> TopGradients:
    """Returns the shapes of what a client sends."""
    values = sum(
      slots * size
      for slots, size in zip(self._capacities, self._group_sizes, strict=True)
    )
    return TopGradients(
      tf.TensorSpec([sum(self._capacities)], tf.int32),
      tf.TensorSpec([values], tf.float32),
    )

  def positions_fit(self, statistics: TopGradients) -> tf.Tensor:
    """Whether every group that was sent lies within the block; see the base."""
    parts = tf.split(statistics.indices, self._capacities)
    fits = [
      tf.reduce_all((part >= 0) & (part <= self._starts[-1] - size))
      for part, size in zip(parts, self._group_sizes, strict=True)
    ]
    return tf.reduce_all(fits)

  def zero(self) -> tf.Tensor:
    """Returns float32 zeros for every weight of the block."""
    return tf.zeros([self._starts[-1]], tf.float32)

  def accumulate(
    self, total: tf.Tensor, statistics: TopGradients, weight: tf.Tensor
  ) -> tf.Tensor:
    """Adds weighted gradients at their positions."""
    places = [
      tf.reshape(first[:, tf.newaxis] + tf.range(size), [-1, 1])
      for first, size in zip(
        tf.split(statistics.indices, self._capacities), self._group_sizes, strict=True
      )
    ]
    return tf.tensor_scatter_nd_add(
      total, tf.concat(places, 0), statistics.values * weight
    )

  def apply(
    self,
    model: ServerModel,
    mean: tf.Tensor,
    counts: tf.Tensor,
    round_index: tf.Tensor,
  ) -> ServerModel:
    """Drops and grows in the block's layers; all others stay as they are.

    Args:
      model: After averaging.
      mean: Weighted mean gradients of the block, float32 [block weights].
      counts: int32, groups to move in each layer of the block.
      round_index: Has no influence.
    """
    del round_index
    scores = tf.split(mean, [self._spec.sizes[layer] for layer in self._layers])
    return drop_and_grow(model, self._spec, self._layers, scores, counts)


class FedTiny(sparse.AdjustingStrategy):
  """The paper's method."""

  name = "fedtiny"
  citation = "FedTiny (arXiv 2212.01977)"
  selects = True

  def candidate_masks(self, start: base.Pretrained, config: PruningConfig) -> Array:
    """Prunes the pre-trained weights by magnitude, once per candidate."""
    return candidates.candidate_masks(
      start.weights.prunable, start.definition.spec, **_pool(config)
    )

  def candidate_counts(
    self, spec: spec_lib.PrunableSpec, config: PruningConfig
  ) -> Sequence[tuple[int, ...]]:
    """Draws each candidate's layer densities, as `candidate_masks` does."""
    return candidates.candidate_counts(spec, **_pool(config))

  def adjustment(self, plan: base.AdjustmentPlan) -> TopGradientAdjustment:
    """Moves weights by aggregated top-a gradients."""
    return TopGradientAdjustment(plan)


def _pool(config: PruningConfig) -> dict[str, Any]:
  """Names what the pool is drawn by."""
  return {
    "density": config.target_density,
    "pool_size": config.pool_size
    or candidates.default_pool_size(config.target_density),
    "layer_densities": config.layer_densities,
    "seed": config.seed,
  }
