"""Exact mask arithmetic over flat vectors, in TensorFlow ops.

Counts are always exact: of equal scores the one at the lower index wins, so a
layer with all-equal weights still loses exactly the number asked for. Every
function works eagerly and in a graph; counts may be tensors.

Weights may be kept and dropped in groups of consecutive ones (`LayerSpec.groups`).
A group counts as its Euclidean norm: of all masks with as many whole groups, that
which keeps the largest norms is nearest to the dense weights, and growing the groups
of largest gradient norm lowers the loss most, to first order.
"""

import tensorflow as tf

# Below every magnitude, so that an excluded position loses even to a zero.
_EXCLUDED = -1.0


def group_norms(values: tf.Tensor, group_size: int) -> tf.Tensor:
  """Returns the Euclidean norm of each group of consecutive values.

  Args:
    values: float32 [n].
    group_size: Values of a group; divides n.

  Returns:
    float32 [n / group_size]; the magnitudes themselves for groups of one. What is not
    a number counts as 0, so that counts stay exact when training diverges.
  """
  if group_size == 1:
    norms = tf.abs(values)
  else:
    # Squares of small float32 gradients are zero in float32.
    squares = tf.square(tf.cast(values, tf.float64))
    sums = tf.reduce_sum(tf.reshape(squares, [-1, group_size]), axis=1)
    norms = tf.cast(tf.sqrt(sums), tf.float32)
  return tf.where(tf.math.is_nan(norms), 0.0, norms)


def group_mask(mask: tf.Tensor, group_size: int) -> tf.Tensor:
  """Returns which groups are active, bool [n / group_size], of a mask of whole groups."""
  return mask[::group_size]


def spread(marks: tf.Tensor, group_size: int) -> tf.Tensor:
  """Returns the mask of weights, bool [n], that marks of groups stand for."""
  return marks if group_size == 1 else tf.repeat(marks, group_size)


def top_k_mask(scores: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """Marks exactly the `count` largest scores.

  Args:
    scores: float [n]; equal scores are taken in order of their index.
    count: Integer in [0, n].

  Returns:
    bool [n] with exactly `count` True.
  """
  size = tf.shape(scores)[0]
  indices = tf.math.top_k(scores, k=count).indices
  marked = tf.scatter_nd(
    indices[:, tf.newaxis], tf.ones_like(indices), size[tf.newaxis]
  )
  return tf.ensure_shape(tf.cast(marked, tf.bool), scores.shape)


def magnitude_mask(
  weights: tf.Tensor, count: int | tf.Tensor, group_size: int = 1
) -> tf.Tensor:
  """Keeps exactly the `count` groups of largest norm; by default, single weights.

  Args:
    weights: float [n].
    count: Integer in [0, n / group_size].
    group_size: Weights of a group; divides n.

  Returns:
    bool [n], True where kept.
  """
  return spread(top_k_mask(group_norms(weights, group_size), count), group_size)


def drop_mask(weights: tf.Tensor, mask: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """Marks the `count` active weights of smallest magnitude.

  Args:
    weights: float [n].
    mask: bool [n], True where active.
    count: Integer, at most the number of active weights.

  Returns:
    bool [n] with exactly `count` True, all of them active.
  """
  active = tf.math.count_nonzero(mask, dtype=tf.int32)
  magnitudes = tf.where(mask, tf.abs(weights), _EXCLUDED)
  kept = top_k_mask(magnitudes, active - count)
  return tf.logical_and(mask, tf.logical_not(kept))


def grow_mask(scores: tf.Tensor, mask: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """Marks the `count` pruned positions of largest score magnitude.

  Args:
    scores: float [n], for instance aggregated gradients.
    mask: bool [n], True where active; active positions are never marked.
    count: Integer, at most the number of pruned weights.

  Returns:
    bool [n] with exactly `count` True, none of them active.
  """
  return top_k_mask(tf.where(mask, _EXCLUDED, tf.abs(scores)), count)


def drop_and_grow(
  weights: tf.Tensor,
  mask: tf.Tensor,
  scores: tf.Tensor,
  count: int | tf.Tensor,
  group_size: int = 1,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Moves `count` groups of one layer: smallest out, best-scored in.

  A weight that is dropped here cannot come back in the same step, because only
  positions pruned *before* it may grow. Density is unchanged. Source: FedTiny
  (arXiv 2212.01977), progressive pruning, there of single weights.

  Args:
    weights: float [n]; zero where `mask` is False.
    mask: bool [n], of whole groups.
    scores: float [n]; only their norms at pruned groups matter.
    count: Integer, at most min(groups pruned, groups active).
    group_size: Weights of a group; divides n.

  Returns:
    New weights (grown ones are zero) and new mask, both [n].
  """
  active = group_mask(mask, group_size)
  dropped = drop_mask(group_norms(weights, group_size), active, count)
  grown = grow_mask(group_norms(scores, group_size), active, count)
  kept = spread(tf.logical_and(active, tf.logical_not(dropped)), group_size)
  new_mask = tf.logical_or(kept, spread(grown, group_size))
  return tf.where(kept, weights, 0.0), new_mask
