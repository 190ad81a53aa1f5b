"""Exact mask arithmetic over flat vectors, in TensorFlow ops.

Counts are always exact: of equal scores the one at the lower index wins, so a
layer with all-equal weights still loses exactly the number asked for. Every
function works eagerly and in a graph; counts may be tensors.
"""

import tensorflow as tf

# Below every magnitude, so that an excluded position loses even to a zero.
_EXCLUDED = -1.0


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


def magnitude_mask(weights: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """Keeps exactly the `count` weights of largest magnitude.

  Args:
    weights: float [n].
    count: Integer in [0, n].

  Returns:
    bool [n], True where kept.
  """
  return top_k_mask(tf.abs(weights), count)


def drop_mask(
  weights: tf.Tensor, mask: tf.Tensor, count: int | tf.Tensor
) -> tf.Tensor:
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
  weights: tf.Tensor, mask: tf.Tensor, scores: tf.Tensor, count: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Moves `count` weights of one layer: smallest out, best-scored in.

  A weight that is dropped here cannot come back in the same step, because only
  positions pruned *before* it may grow. Density is unchanged. Source: FedTiny
  (arXiv 2212.01977), progressive pruning.

  Args:
    weights: float [n]; zero where `mask` is False.
    mask: bool [n].
    scores: float [n]; only their magnitude at pruned positions matters.
    count: Integer, at most min(number pruned, number active).

  Returns:
    New weights (grown ones are zero) and new mask, both [n].
  """
  dropped = drop_mask(weights, mask, count)
  grown = grow_mask(scores, mask, count)
  kept = tf.logical_and(mask, tf.logical_not(dropped))
  return tf.where(kept, weights, 0.0), tf.logical_or(kept, grown)
