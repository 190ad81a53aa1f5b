"""FedDST: every client moves its own mask, the server votes and prunes back.

"Federated Dynamic Sparse Training: Computing Less, Communicating Less, Yet Learning
Better", S. Bibikar et al., AAAI 2022, arXiv 2112.09824.

    start from the largest pre-trained weights
    every few rounds, in the whole model:
      clients: train for ceil(steps / 2) steps; drop the a smallest |weight|, grow the a
               largest |gradient| of the last mini-batch; train on; send weights and mask
      server:  mean of each weight over the clients that have it, weighted by examples;
               of those the largest stay, as many in each layer as before

The paper moves the mask after one of a round's epochs. Here it is half of the steps, so
that it is moved in rounds of a single epoch too, with a half to train what was grown.
As in the other methods, a weight that was just dropped cannot come back at once, and
grown weights start at zero. How many move follows the cosine of all methods.

What a client sends are the values of its own active weights, exactly as many as the
server's, and their positions, coded as those of the model on its way down.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import masks, packing, positions
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base, sparse
from fedtiny_tff.strategies.adjustment import (
  Adjustment,
  ClientStart,
  OwnWeights,
  ServerModel,
  Trained,
  drop_and_grow_layers,
)
from fedtiny_tff.strategies.pruning_config import (
  check_entire,
)


class MaskedSums(NamedTuple):
  """Sums over clients, each times its weight; or, divided by all weights, their means.

  Attributes:
    values: float32 [prunable weights], of the weights, 0 where a client has none.
    shares: float32 [prunable weights], of the masks as 0 and 1.
  """

  values: tf.Tensor
  shares: tf.Tensor


class ClientMaskAdjustment(Adjustment):
  """Drop and grow at the clients; average what they have, and prune back."""

  replaces_weights = True
  statistics_are_scores = False

  def __init__(self, plan: base.AdjustmentPlan):
    """Takes the layout and the length of messages; the block is the whole model."""
    check_entire(plan.spec, "feddst")
    self._spec = plan.spec
    self._layers = plan.spec.blocks[plan.block]
    self._active_count = plan.active_count
    self._code = positions.smallest_code(plan.spec.size, plan.active_count)

  def train(self, trainer: training.LocalTrainer, start: ClientStart) -> Trained:
    """Trains, and moves the mask after half of the steps, rounded up."""

    def readjust(
      weights: ModelWeights, gradients: Sequence[tf.Tensor]
    ) -> tuple[ModelWeights, tf.Tensor]:
      scores = [gradients[layer] for layer in self._layers]
      return drop_and_grow_layers(
        weights, start.mask, self._spec, self._layers, scores, start.counts
      )

    weights, mask, metrics = trainer.train_readjusted(
      start.weights,
      start.mask,
      start.examples,
      start.learning_rate,
      (trainer.number_of_steps(start.examples) + 1) // 2,
      readjust,
    )
    return Trained(weights, metrics, self.pack(weights.prunable, mask))

  def pack(self, prunable: tf.Tensor, mask: tf.Tensor) -> OwnWeights:
    """Returns what a client sends of its weights.

    Args:
      prunable: float32 [prunable weights].
      mask: bool [prunable weights], with as many True as the server's.
    """
    values = packing.gather_active(prunable, mask, self._active_count)
    return OwnWeights(values, self._code.encode(mask))

  def statistics_specs(self) -> OwnWeights:
    """Returns the shapes of what a client sends."""
    return OwnWeights(
      tf.TensorSpec([self._active_count], tf.float32),
      tf.TensorSpec([self._code.encoded_bytes], tf.uint8),
    )

  def positions_fit(self, statistics: OwnWeights) -> tf.Tensor:
    """Whether they are those of a mask; see the base."""
    return self._code.fits(statistics.positions)

  def zero(self) -> MaskedSums:
    """Returns float32 zeros for every prunable weight."""
    nothing = tf.zeros([self._spec.size], tf.float32)
    return MaskedSums(nothing, nothing)

  def accumulate(
    self, total: MaskedSums, statistics: OwnWeights, weight: tf.Tensor
  ) -> MaskedSums:
    """Adds a client's weights and mask, times its number of examples."""
    places = self._code.decode(statistics.positions)[:, tf.newaxis]
    shares = tf.fill([self._active_count], weight)
    return MaskedSums(
      tf.tensor_scatter_nd_add(total.values, places, statistics.values * weight),
      tf.tensor_scatter_nd_add(total.shares, places, shares),
    )

  def apply(
    self,
    model: ServerModel,
    mean: MaskedSums,
    counts: tf.Tensor,
    round_index: tf.Tensor,
  ) -> ServerModel:
    """Averages the clients' weights, and keeps as many in each layer as there were.

    Args:
      model: The mask gives their numbers; its weights have no influence.
      mean: Of the clients' weights and masks.
      counts: Have no influence: clients have moved as many.
      round_index: Has no influence.
    """
    del counts, round_index
    is_held = mean.shares > 0.0
    averages = tf.math.divide_no_nan(mean.values, mean.shares)
    mask = tf.concat(
      [
        _largest_held(averages[part], is_held[part], model.mask[part], layer)
        for part, layer in _parts(self._spec)
      ],
      0,
    )
    weights = model.weights._replace(prunable=tf.where(mask, averages, 0.0))
    return model._replace(weights=weights, mask=mask)


def _parts(spec: spec_lib.PrunableSpec) -> list[tuple[slice, spec_lib.LayerSpec]]:
  return [(spec.slice(i), layer) for i, layer in enumerate(spec.layers)]


def _largest_held(
  averages: tf.Tensor, is_held: tf.Tensor, mask: tf.Tensor, layer: spec_lib.LayerSpec
) -> tf.Tensor:
  """Marks a layer's largest groups among those that a client has, as many as `mask`."""
  size = layer.channel_block
  held = masks.group_mask(is_held, size)
  # A group that no client has loses even to one of zeros.
  scores = tf.where(held, masks.group_norms(averages, size), -1.0)
  active = tf.math.count_nonzero(masks.group_mask(mask, size), dtype=tf.int32)
  return masks.spread(masks.top_k_mask(scores, active), size)


class FedDST(sparse.AdjustingStrategy):
  """Dynamic sparse training at the clients."""

  name = "feddst"
  citation = "FedDST (arXiv 2112.09824)"
  granularity = "entire"

  def adjustment(self, plan: base.AdjustmentPlan) -> ClientMaskAdjustment:
    """Averages what clients have made of the mask."""
    return ClientMaskAdjustment(plan)
