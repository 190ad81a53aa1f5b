"""Masks found on the server before the first round, by the saliency of every weight.

All layers are ranked together, so that saliency itself says how dense each layer is:

    for k in 1..5:
      scores of the weights that are left, of the model as it is pruned now
      keep the d^(k/5) of all weights that score highest

The steps are those of SynFlow's code (exponential schedule, pruned weights stay
pruned). What methods differ in is the score.

At least one group of weights is kept in every layer: of a layer without any, nothing
would reach the output, whatever else is kept. With channel blocks a group's score is
the sum of its weights', as saliency adds up over weights; where layers have groups of
different sizes, it is that sum per weight.

Densities of layers (`layer_densities`) have no say. Where costs are worked out without a
run they stand in for saliency, which nobody knows then; their sum is the same.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.sparsity import densities
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base

STEPS = 5
# Below every score, so that what was pruned loses even to a zero.
_PRUNED = -1.0

# From the mask so far, bool [prunable weights], to scores of at least 0, of that shape.
Scores = Callable[[Array], Array]
MakeLayer = Callable[[tf.keras.layers.Layer], tf.keras.layers.Layer]


class PlainModel:
  """The pre-trained model without wrappers, of layers that a method makes.

  Attributes:
    model: The Keras model.
    kernels: Prunable kernels, in the order of the spec.
  """

  def __init__(self, start: base.Pretrained, make_layer: MakeLayer):
    """Builds the model eagerly.

    Args:
      start: The model and its weights.
      make_layer: From a layer to a new one of the same name; its weights are copied,
        unless it has none.
    """
    spec = start.definition.spec
    masked = tfmot_masking.MaskedModel(start.definition)
    masked.assign(start.weights, tf.ones([spec.size], tf.bool))
    plain = tfmot_masking.strip(masked)
    self.model = tf.keras.models.clone_model(plain, clone_function=make_layer)
    for layer in self.model.layers:
      if layer.weights:
        layer.set_weights(plain.get_layer(layer.name).get_weights())
    self.kernels = [self.model.get_layer(layer.name).kernel for layer in spec.layers]
    self._bounds = spec.offsets[1:-1]

  def assign(self, prunable: Array) -> None:
    """Sets the prunable weights, [prunable weights]."""
    parts = np.split(prunable, self._bounds)
    for kernel, part in zip(self.kernels, parts, strict=True):
      kernel.assign(part.reshape(kernel.shape))


def flat(gradients: Sequence[tf.Tensor]) -> Array:
  """Lays the gradients of kernels end to end, float64 [prunable weights]."""
  return np.concatenate([g.numpy().astype(np.float64).ravel() for g in gradients])


def group_scores(scores: Array, spec: spec_lib.PrunableSpec) -> list[Array]:
  """Sums scores over each group of weights.

  Args:
    scores: float [prunable weights].
    spec: Layout of the vector.

  Returns:
    float64 [groups] for each layer.
  """
  parts = np.split(scores.astype(np.float64), spec.offsets[1:-1])
  return [
    part.reshape(-1, size).sum(axis=1)
    for part, size in zip(parts, spec.channel_blocks, strict=True)
  ]


def keep_by_layer(
  scores: Sequence[Array], spec: spec_lib.PrunableSpec, counts: Sequence[int]
) -> Array:
  """Keeps in each layer the groups of largest score, of equal ones the first.

  Args:
    scores: float [groups] for each layer.
    spec: Layout of the vector.
    counts: Weights to keep per layer, in whole groups.

  Returns:
    bool [prunable weights].
  """
  parts = []
  for score, size, count in zip(scores, spec.channel_blocks, counts, strict=True):
    kept = np.zeros(len(score), dtype=bool)
    kept[np.argsort(-score, kind="stable")[: count // size]] = True
    parts.append(np.repeat(kept, size))
  return np.concatenate(parts)


def keep_overall(
  scores: Sequence[Array], spec: spec_lib.PrunableSpec, count: int
) -> Array:
  """Keeps of all layers the groups of largest score, of equal ones the first.

  Where groups differ in size and the next one would be too large, the largest layers
  make up for what is missing, less than a group.

  Args:
    scores: float [groups] for each layer.
    spec: Layout of the vector.
    count: Weights to keep, as `densities.total_count` gives it.

  Returns:
    bool [prunable weights], with exactly `count` True and one group or more in each
    layer.
  """
  groups = [layer.groups for layer in spec.layers]
  sizes = np.repeat(spec.channel_blocks, groups)
  per_weight = np.concatenate(scores) / sizes
  starts = np.cumsum([0, *groups[:-1]])
  best = [int(np.argmax(s)) for s in scores]
  per_weight[starts + best] = np.inf
  order = np.argsort(-per_weight, kind="stable")
  taken = order[np.cumsum(sizes[order]) <= count]
  layer_of = np.repeat(np.arange(len(groups)), groups)[taken]
  wanted = np.bincount(layer_of, minlength=len(groups)) * spec.channel_blocks
  counts = densities.fit_counts(wanted.tolist(), spec.sizes, count, spec.channel_blocks)
  return keep_by_layer(scores, spec, counts)


def mask_in_steps(spec: spec_lib.PrunableSpec, density: float, scores: Scores) -> Array:
  """Prunes to a density in steps, each by the scores of what the last one left.

  What a step prunes stays pruned; where groups differ in size, less than one of them
  may come back for the sake of an exact count.

  Args:
    spec: Prunable layers.
    density: Target share of active weights.
    scores: Of every weight under a mask. Those of pruned weights do not matter, and
      what is not a number counts as 0.

  Returns:
    bool [prunable weights], with exactly `densities.total_count` True.
  """
  mask = np.ones(spec.size, dtype=bool)
  for step in range(1, STEPS + 1):
    count = densities.total_count(spec, density ** (step / STEPS))
    if count == np.count_nonzero(mask):
      continue
    left = np.where(mask, np.nan_to_num(scores(mask), nan=0.0), _PRUNED)
    mask = keep_overall(group_scores(left, spec), spec, count)
  return mask
