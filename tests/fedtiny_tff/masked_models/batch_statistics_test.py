"""Pooled moments equal those of all batch-norm inputs laid end to end."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.masked_models import batch_statistics
from fedtiny_tff.masked_models.batch_statistics import BatchMoments
from fedtiny_tff.model_structure import definition
from tests.fedtiny_tff import support

_BATCH = 4


def _batches(count):
  """Cuts 0..count-1 in fours; a last one of a single example joins the previous."""
  bounds = [*range(0, count, _BATCH), count]
  if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
    del bounds[-2]
  return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def _expected_moments(model, weights, mask, clients):
  """Moments in NumPy of all inputs of each batch norm, in training mode."""
  plain = support.plain_model(model, weights, mask)
  norms = [x for x in plain.layers if isinstance(x, tf.keras.layers.BatchNormalization)]
  probe = tf.keras.Model(plain.inputs, [x.input for x in norms])
  seen: list[list[np.ndarray]] = [[] for _ in norms]
  for features in clients:
    for batch in _batches(len(features)):
      inputs = tf.nest.flatten(probe(features[batch], training=True))
      for values, x, norm in zip(seen, inputs, norms, strict=True):
        last = np.moveaxis(x.numpy(), norm.axis[0], -1)
        values.append(last.reshape(-1, last.shape[-1]).astype(np.float64))
  joined = [np.concatenate(values) for values in seen]
  return (
    np.concatenate([v.mean(0) for v in joined]),
    np.concatenate([v.var(0) for v in joined]),
    np.concatenate([np.full(v.shape[1], len(v)) for v in joined]),
  )


def _pooled(model, weights, mask, clients, batch_size=_BATCH):
  probe = batch_statistics.MomentsProbe(model)
  parts = [
    probe.measure(weights, mask, tf.constant(features), batch_size)
    for features in clients
  ]
  total = BatchMoments(*(sum(fields) for fields in zip(*parts, strict=True)))
  mean, variance = batch_statistics.pool(total, weights.batch_norm_mean)
  return total, mean.numpy(), variance.numpy()


def test_pool_by_hand():
  # Values 1, 3 (center 1): sums 2 and 4; values 10, 10, 13 (center 10): 3 and 9.
  moments = BatchMoments(
    *(tf.constant(v, tf.float64) for v in ([2, 3], [2, 3], [4, 9]))
  )
  mean, variance = batch_statistics.pool(moments, tf.constant([1.0, 10.0]))
  # Mean 2, variance 1; mean 11, variance (1 + 1 + 4) / 3 = 2.
  np.testing.assert_allclose(mean, [2.0, 11.0])
  np.testing.assert_allclose(variance, [1.0, 2.0])
  assert mean.dtype == variance.dtype == tf.float32


def test_pooled_variance_holds_the_variance_between_clients():
  # Two clients, constant 0 and constant 2: no variance inside, 1 between.
  a = BatchMoments(*(tf.constant([v], tf.float64) for v in (2, 0, 0)))
  b = BatchMoments(*(tf.constant([v], tf.float64) for v in (2, 4, 8)))
  total = BatchMoments(*(x + y for x, y in zip(a, b, strict=True)))
  mean, variance = batch_statistics.pool(total, tf.constant([0.0]))
  assert (float(mean[0]), float(variance[0])) == (1.0, 1.0)


def test_rounding_cannot_make_a_variance_negative():
  moments = BatchMoments(
    *(tf.constant([v], tf.float64) for v in (3.0, 0.3, 0.3**2 / 3 - 1e-12))
  )
  _, variance = batch_statistics.pool(moments, tf.constant([0.0]))
  assert variance[0] == 0.0


def test_no_data_leaves_the_center():
  empty = BatchMoments(*(tf.zeros([2], tf.float64) for _ in range(3)))
  mean, variance = batch_statistics.pool(empty, tf.constant([1.5, -2.0]))
  np.testing.assert_array_equal(mean, [1.5, -2.0])
  np.testing.assert_array_equal(variance, [0.0, 0.0])


@pytest.mark.parametrize("sizes", [(8,), (4, 7, 2), (5, 9), (1, 6)])
def test_every_layers_moments_equal_numpys(sizes):
  model = support.cnn()
  weights = support.random_weights(model)
  mask = support.random_mask(model.spec.size, 30)
  # Clients differ in their mean, so averaging their variances would be wrong.
  clients = [
    support.random_images(size, seed=i)[0] + 3.0 * i for i, size in enumerate(sizes)
  ]
  total, mean, variance = _pooled(model, weights, mask, clients)
  expected = _expected_moments(model, weights, mask, clients)
  assert mean.shape == (5,)
  np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(variance, expected[1], rtol=1e-5, atol=1e-5)
  # 16 positions per image in both layers.
  np.testing.assert_array_equal(total.count, expected[2])
  np.testing.assert_array_equal(total.count, [16.0 * sum(sizes)] * 5)


def test_the_candidates_mask_counts():
  model = support.cnn()
  weights = support.random_weights(model)
  clients = [support.random_images(8)[0]]
  results = [
    _pooled(model, weights, support.random_mask(63, active), clients)[1]
    for active in (10, 60)
  ]
  # The first batch norm comes before every prunable layer, the second behind conv2.
  np.testing.assert_allclose(results[0][:2], results[1][:2], atol=1e-6)
  assert (np.abs(results[0][2:] - results[1][2:]) > 1e-3).any()


def _flat_definition(axis=-1, shape=(3,)):
  def build():
    inputs = tf.keras.Input(shape)
    x = tf.keras.layers.BatchNormalization(axis=axis, name="norm")(inputs)
    x = tf.keras.layers.Flatten()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="logits")(x))

  return definition.define_model("flat", build)


@pytest.mark.parametrize("center", [0.0, 30.0])
def test_a_large_mean_with_a_small_spread_is_not_cancelled(center):
  model = _flat_definition()
  generator = np.random.default_rng(0)
  clients = [
    generator.normal(30.0, 0.01, (n, 3)).astype(np.float32) for n in (9, 20, 14)
  ]
  weights = support.random_weights(model)._replace(batch_norm_mean=tf.fill([3], center))
  _, mean, variance = _pooled(model, weights, tf.ones([6], tf.bool), clients)
  joined = np.concatenate(clients).astype(np.float64)
  np.testing.assert_allclose(mean, joined.mean(0), rtol=1e-6)
  np.testing.assert_allclose(variance, joined.var(0), rtol=1e-5)
  assert variance.max() < 2e-4


def test_shifted_inputs_do_not_blur_the_layers_behind():
  def build():
    layers = tf.keras.layers
    inputs = layers.Input((2,))
    x = layers.BatchNormalization(name="norm1")(inputs)
    x = layers.BatchNormalization(name="norm2")(layers.Dense(5, name="hidden")(x))
    return tf.keras.Model(inputs, layers.Dense(3, name="logits")(x))

  model = definition.define_model("perceptron", build)
  generator = np.random.default_rng(0)
  # The means of the clients differ by more than their spread.
  clients = [
    generator.normal(mean, 0.01, (n, 2)).astype(np.float32)
    for n, mean in [(9, 30.0), (6, 30.02), (12, 29.99)]
  ]
  weights = support.random_weights(model)
  mask = support.random_mask(model.spec.size, 20)
  _, mean, variance = _pooled(model, weights, mask, clients)
  expected = _expected_moments(model, weights, mask, clients)
  assert mean.shape == (7,)
  np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(variance, expected[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 4)])
def test_channels_may_come_first(shape):
  model = _flat_definition(axis=1, shape=shape)
  features = np.random.default_rng(0).normal(size=(10, *shape)).astype(np.float32)
  features += np.arange(3.0, dtype=np.float32).reshape(3, *[1] * (len(shape) - 1))
  weights = support.random_weights(model)
  total, mean, variance = _pooled(
    model, weights, tf.ones([model.spec.size], tf.bool), [features]
  )
  axes = (0, *range(2, len(shape) + 1))
  np.testing.assert_allclose(mean, features.mean(axes), atol=1e-5)
  np.testing.assert_allclose(variance, features.var(axes), rtol=1e-5)
  assert total.count[0] == features.size / 3


def test_a_last_batch_of_one_joins_the_previous():
  """Tells by the second layer, whose input depends on how batches were cut."""
  model = support.cnn()
  weights = support.random_weights(model)
  mask = tf.ones([63], tf.bool)
  features = support.random_images(9)[0]
  _, joined, _ = _pooled(model, weights, mask, [features])
  cut = [features[:4], features[4:]]
  _, by_hand, _ = _pooled(model, weights, mask, cut, batch_size=5)
  np.testing.assert_allclose(joined, by_hand, atol=1e-6)
  single = [features[:4], features[4:8], features[8:]]
  _, separate, _ = _pooled(model, weights, mask, single)
  assert (np.abs(joined - separate) > 1e-4).any()


def test_measuring_twice_measures_the_same():
  model = support.cnn()
  weights = support.random_weights(model)
  mask = support.random_mask(63, 30)
  probe = batch_statistics.MomentsProbe(model)
  features = tf.constant(support.random_images(6)[0])
  first = probe.measure(weights, mask, features, _BATCH)
  probe.measure(weights, tf.logical_not(mask), features, _BATCH)
  second = probe.measure(weights, mask, features, _BATCH)
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


def _noisy(rate):
  """The small network with dropout and noise before its second batch norm."""
  layers = tf.keras.layers

  def build():
    inputs = layers.Input(support.IMAGE_SHAPE)
    x = layers.Conv2D(2, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.BatchNormalization(name="batch_norm1")(x)
    x = layers.Dropout(rate, name="dropout")(x)
    x = layers.GaussianNoise(2.0 * rate, name="noise")(x)
    x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv2")(x)
    x = layers.BatchNormalization(name="batch_norm2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, layers.Dense(3, name="logits")(x))

  return definition.define_model("noisy", build)


def test_neither_dropout_nor_noise_is_measured():
  # What is installed is what the chosen model sees, in inference mode.
  quiet = support.random_weights(_noisy(0.0))
  mask = support.random_mask(_noisy(0.0).spec.size, 30)
  clients = [support.random_images(6)[0]]
  _, mean, variance = _pooled(_noisy(0.5), quiet, mask, clients)
  expected = _expected_moments(_noisy(0.0), quiet, mask, clients)
  np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(variance, expected[1], rtol=1e-5, atol=1e-5)


def test_a_model_without_batch_norm_cannot_be_measured():
  with pytest.raises(ValueError, match="'linear' has no batch normalisation"):
    batch_statistics.MomentsProbe(support.linear())
