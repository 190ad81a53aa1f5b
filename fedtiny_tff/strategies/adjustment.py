"""How masks move at the end of a round: what a client does, what the server does.

    clients: train -> statistics
    server:  weighted mean of the statistics -> new masks

A method overrides what differs. The defaults train as in any round and send what the
method makes of the last step's gradient.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import masks
from fedtiny_tff.sparsity import spec as spec_lib


class ServerModel(NamedTuple):
  """The global model as the server adjusts it.

  Attributes:
    weights: Flat vectors, zero where pruned; after a round their averages.
    mask: bool [prunable weights].
    memory: Tensors that the method keeps from one adjustment to the next, of the types
      of `Strategy.initial_memory`.
  """

  weights: ModelWeights
  mask: tf.Tensor
  memory: tuple[tf.Tensor, ...]


class ClientStart(NamedTuple):
  """What a client begins an adjusting round with.

  Attributes:
    weights: The global model.
    mask: bool [prunable weights].
    examples: Its records, and the order and seed of their use.
    learning_rate: float32.
    counts: int32 [layers of the block], groups of weights to move.
  """

  weights: ModelWeights
  mask: tf.Tensor
  examples: batches.Examples
  learning_rate: tf.Tensor
  counts: tf.Tensor


class Trained(NamedTuple):
  """What a client ends it with.

  Attributes:
    weights: Its model; masked, unless the adjustment `replaces_weights`.
    metrics: Summed over its steps.
    statistics: What it sends beside the model: a NamedTuple of tensors of static shape,
      or nothing.
  """

  weights: ModelWeights
  metrics: tasks.Metrics
  statistics: Any


class OwnWeights(NamedTuple):
  """A client's prunable weights under the mask that it ended with.

  Attributes:
    values: float32 [active weights], in order of position.
    positions: uint8 [bytes], where they are, see `fedtiny_tff.sparsity.positions`.
  """

  values: tf.Tensor
  positions: tf.Tensor


class Adjustment:
  """How one block's mask is adjusted; built per block, used in graphs.

  Attributes:
    replaces_weights: Whether clients' masks differ after their training, so that their
      prunable weights cannot be averaged as vectors of one mask; these then travel in
      the statistics alone, which are `OwnWeights`, and `apply` makes the new ones of
      them.
    statistics_are_scores: Whether only the order of the accumulated statistics
      matters, so that a client's may be scaled.
  """

  replaces_weights = False
  statistics_are_scores = True

  def train(self, trainer: training.LocalTrainer, start: ClientStart) -> Trained:
    """Trains, and looks at the last step's gradient.

    Args:
      trainer: The client's model, in the current graph.
      start: What the client begins with.
    """
    look = functools.partial(
      self.client_statistics, mask=start.mask, counts=start.counts
    )
    return Trained(
      *trainer.train_with_statistics(
        start.weights, start.mask, start.examples, start.learning_rate, look
      )
    )

  def client_statistics(
    self, gradients: Sequence[tf.Tensor], mask: tf.Tensor, counts: tf.Tensor
  ) -> Any:
    """Returns what a client sends beside its model.

    Args:
      gradients: Dense gradients, one flat tensor per prunable layer of the model.
      mask: bool [prunable weights].
      counts: int32, groups to move in each layer of the block.
    """
    raise TypeError(f"{type(self).__name__} must say what clients send")

  def statistics_specs(self) -> Any:
    """Returns what a client sends beside its model as tf.TensorSpecs, () for nothing."""
    raise TypeError(f"{type(self).__name__} must say what shapes clients send")

  def positions_fit(self, statistics: Any) -> tf.Tensor:
    """Whether all positions in what a client sent exist, bool.

    Args:
      statistics: As sent; nothing of it is trusted.
    """
    del statistics
    return tf.constant(True)

  def zero(self) -> Any:
    """Returns the empty accumulator, a structure of tensors."""
    raise TypeError(f"{type(self).__name__} must say what statistics are added up in")

  def accumulate(self, total: Any, statistics: Any, weight: tf.Tensor) -> Any:
    """Adds one client's statistics times its weight."""
    raise TypeError(f"{type(self).__name__} must say how statistics are added up")

  def apply(
    self, model: ServerModel, mean: Any, counts: tf.Tensor, round_index: tf.Tensor
  ) -> ServerModel:
    """Moves the mask.

    Args:
      model: After averaging.
      mean: The accumulator over the sum of weights; empty where clients send nothing.
      counts: int32, groups to move in each layer of the block.
      round_index: int32, the round that ends; with the run's seed, it seeds what is
        random.

    Returns:
      The model with its new mask; weights are zero where that is False.
    """
    raise TypeError(f"{type(self).__name__} must say how the mask moves")


class ServerAdjustment(Adjustment):
  """Masks that the server moves by what it holds: clients send nothing for it."""

  def train(self, trainer: training.LocalTrainer, start: ClientStart) -> Trained:
    """Trains as in any round."""
    weights, metrics = trainer.train(
      start.weights, start.mask, start.examples, start.learning_rate
    )
    return Trained(weights, metrics, ())

  def statistics_specs(self) -> tuple[()]:
    """Returns nothing."""
    return ()


def drop_and_grow(
  model: ServerModel,
  spec: spec_lib.PrunableSpec,
  layers: Sequence[int],
  scores: Sequence[tf.Tensor],
  counts: tf.Tensor,
) -> ServerModel:
  """Moves weights in some layers: the smallest out, the best-scored in.

  Args:
    model: After averaging.
    spec: Layout of its prunable weights.
    layers: Indices of the layers; all others stay as they are.
    scores: float32 [weights of the layer] for each of them.
    counts: int32, groups to move in each of them.
  """
  weights, mask = drop_and_grow_layers(
    model.weights, model.mask, spec, layers, scores, counts
  )
  return model._replace(weights=weights, mask=mask)


def drop_and_grow_layers(
  weights: ModelWeights,
  mask: tf.Tensor,
  spec: spec_lib.PrunableSpec,
  layers: Sequence[int],
  scores: Sequence[tf.Tensor],
  counts: tf.Tensor,
) -> tuple[ModelWeights, tf.Tensor]:
  """Does the same with weights and a mask, on either side.

  Args:
    weights: Flat vectors.
    mask: bool [prunable weights].
    spec: Layout of the prunable weights.
    layers: Indices of the layers; all others stay as they are.
    scores: float32 [weights of the layer] for each of them.
    counts: int32, groups to move in each of them.

  Returns:
    Weights, of which grown ones are zero, and the new mask.
  """
  weights_by_layer = list(tf.split(weights.prunable, spec.sizes))
  masks_by_layer = list(tf.split(mask, spec.sizes))
  for position, layer in enumerate(layers):
    weights_by_layer[layer], masks_by_layer[layer] = masks.drop_and_grow(
      weights_by_layer[layer],
      masks_by_layer[layer],
      scores[position],
      counts[position],
      spec.channel_blocks[layer],
    )
  moved = weights._replace(prunable=tf.concat(weights_by_layer, 0))
  return moved, tf.concat(masks_by_layer, 0)


def largest_active(
  prunable: tf.Tensor,
  mask: tf.Tensor,
  spec: spec_lib.PrunableSpec,
  counts: tf.Tensor,
) -> tf.Tensor:
  """Marks every layer's active weights but the smallest.

  Args:
    prunable: float32 [prunable weights].
    mask: bool [prunable weights].
    spec: Their layout.
    counts: int32, groups to leave out in each layer of the model.

  Returns:
    bool [prunable weights].
  """
  marked = []
  for i, layer in enumerate(spec.layers):
    part, size = spec.slice(i), layer.channel_block
    active = masks.group_mask(mask[part], size)
    norms = masks.group_norms(prunable[part], size)
    left_out = masks.drop_mask(norms, active, counts[i])
    marked.append(masks.spread(tf.logical_and(active, tf.logical_not(left_out)), size))
  return tf.concat(marked, 0)
