"""Long vectors in fewer numbers that still add up: count sketches.

Every position falls into one bucket of each row, with a sign; both follow from a seed.
Sums of sketches are sketches of sums, so devices can send them through a secure sum. A
position's value is estimated as the median over the rows.

Source: "Finding frequent items in data streams", M. Charikar, K. Chen and
M. Farach-Colton, 2002, doi 10.1007/3-540-45465-9_59.
"""

import tensorflow as tf

# With three rows a median stands up to one collision.
ROWS = 3


def _rows(
  size: int, buckets: int, seed: tf.Tensor
) -> list[tuple[tf.Tensor, tf.Tensor]]:
  """Draws bucket and sign of every position, for each row."""
  fold_in = tf.random.experimental.stateless_fold_in
  drawn = []
  for row in range(ROWS):
    bucket = tf.random.stateless_uniform(
      [size], fold_in(seed, 2 * row), 0, buckets, tf.int32
    )
    coin = tf.random.stateless_uniform(
      [size], fold_in(seed, 2 * row + 1), 0, 2, tf.int32
    )
    drawn.append((bucket, tf.cast(2 * coin - 1, tf.float32)))
  return drawn


def sketch(values: tf.Tensor, buckets: int, seed: tf.Tensor) -> tf.Tensor:
  """Sums a vector up in buckets.

  Args:
    values: float32 [positions].
    buckets: Of each row.
    seed: int32 [2]; the same for all that are to be added.

  Returns:
    float32 [rows, buckets].
  """
  return tf.stack(
    [
      tf.math.unsorted_segment_sum(values * sign, bucket, buckets)
      for bucket, sign in _rows(values.shape[0], buckets, seed)
    ]
  )


def estimate(summed: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
  """Estimates the vector of a sketch.

  Args:
    summed: float32 [rows, buckets].
    size: Positions of the vector.
    seed: int32 [2], with which it was made.

  Returns:
    float32 [positions].
  """
  seen = [
    tf.gather(summed[row], bucket) * sign
    for row, (bucket, sign) in enumerate(_rows(size, summed.shape[1], seed))
  ]
  return tf.sort(tf.stack(seen), axis=0)[ROWS // 2]
