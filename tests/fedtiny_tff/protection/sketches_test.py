"""Count sketches: sums of sketches are sketches of sums."""

import numpy as np
import tensorflow as tf

from fedtiny_tff.protection import sketches

SEED = tf.constant([3, 4])


def _vector(size, count, seed):
  generator = np.random.default_rng(seed)
  vector = np.zeros(size, np.float32)
  vector[generator.choice(size, count, replace=False)] = generator.normal(size=count)
  return vector


def test_a_sum_of_sketches_is_the_sketch_of_the_sum():
  one, two = _vector(500, 40, 0), _vector(500, 40, 1)
  added = sketches.sketch(one, 64, SEED) + sketches.sketch(two, 64, SEED)
  np.testing.assert_allclose(added, sketches.sketch(one + two, 64, SEED), atol=1e-5)


def test_few_large_values_are_found_again():
  vector = _vector(5000, 20, 2)
  found = sketches.estimate(sketches.sketch(vector, 1024, SEED), 5000, SEED).numpy()
  largest = np.argsort(-np.abs(vector))[:10]
  np.testing.assert_allclose(found[largest], vector[largest], atol=0.05)


def test_one_value_by_hand():
  vector = np.zeros(10, np.float32)
  vector[3] = 2.0
  sketch = sketches.sketch(vector, 16, SEED).numpy()
  assert sketch.shape == (3, 16)
  assert [sorted(set(np.abs(row))) for row in sketch] == [[0.0, 2.0]] * 3
  assert sketches.estimate(sketch, 10, SEED)[3] == 2.0


def test_another_seed_does_not_read_it():
  vector = _vector(500, 40, 0)
  found = sketches.estimate(sketches.sketch(vector, 64, SEED), 500, tf.constant([3, 5]))
  assert np.abs(found - vector).max() > 0.5
