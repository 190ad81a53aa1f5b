"""Pruned activations and standardised kernels, by hand and against plain layers."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedtiny_tff.local_training import training
from fedtiny_tff.local_training.optimizers import OptimizerConfig
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.sparsity import activation_pruning
from tests.fedtiny_tff import support

_GAIN = math.sqrt(2.0 / (1.0 - 1.0 / math.pi))


def _largest(values):
  return activation_pruning.largest(tf.constant(values, tf.float32)).numpy()


class TestLargest:
  def test_three_of_ten_with_their_sign(self):
    found = _largest([1, -5, 0, 2, 3, -4, 0.5, 0, 0, 6])
    assert found.tolist() == [0, -5, 0, 0, 0, -4, 0, 0, 0, 6]

  def test_of_a_whole_mini_batch(self):
    found = _largest([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
    assert found.tolist() == [[0] * 5, [0, 0, 8, 9, 10]]

  def test_ties_take_the_lower_position(self):
    assert _largest([2] * 10).tolist() == [2, 2, 2] + [0] * 7
    assert _largest([6, 1, -6, 6, 6, 0, 0, 0, 6, 6]).tolist() == (
      [6, 0, -6, 6] + [0] * 6
    )

  def test_magnitudes_that_differ_in_the_last_bit(self):
    near = np.nextafter(np.float32(1), np.float32(2))
    values = np.full(10, 1, np.float32)
    values[[4, 7, 9]] = near
    assert np.flatnonzero(_largest(values)).tolist() == [4, 7, 9]

  def test_fewer_than_the_share_that_are_not_zero(self):
    assert _largest([0, 0, 0, 0, 0, 0, 0, 3, 0, 0]).tolist() == [0] * 7 + [3, 0, 0]
    assert not _largest(np.zeros(10)).any()

  def test_counts_are_rounded_up(self):
    assert [activation_pruning.kept_count(n) for n in (1, 3, 10, 11, 70)] == (
      [1, 1, 3, 4, 21]
    )
    assert np.count_nonzero(_largest(np.arange(1, 12))) == 4

  def test_any_number_of_examples(self):
    found = tf.function(
      activation_pruning.largest, input_signature=[tf.TensorSpec([None, 5], tf.float32)]
    )
    for examples in (1, 3):
      values = tf.reshape(tf.range(1.0, 5.0 * examples + 1.0), [examples, 5])
      kept = np.count_nonzero(found(values))
      assert kept == activation_pruning.kept_count(5 * examples)

  @support.quick
  @hypothesis.given(
    arrays.arrays(
      np.float32,
      st.integers(1, 60),
      elements=st.one_of(
        st.sampled_from([0.0, 0.5, -0.5, 6.0]), st.floats(-100, 100, width=16)
      ),
    )
  )
  def test_equals_a_stable_sort(self, values):
    count = activation_pruning.kept_count(values.size)
    kept = np.argsort(-np.abs(values), kind="stable")[:count]
    expected = np.zeros_like(values)
    expected[kept] = values[kept]
    np.testing.assert_array_equal(_largest(values), expected)


def test_kept_activations_are_scaled_to_the_sum_of_all_magnitudes():
  found = activation_pruning.pruned(
    tf.constant([1, -5, 0, 2, 3, -4, 0.5, 0, 0, 6], tf.float32)
  ).numpy()
  # All: 21.5. Kept: 5 + 4 + 6.
  expected = np.array([0, -5, 0, 0, 0, -4, 0, 0, 0, 6]) * 21.5 / 15
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert not activation_pruning.pruned(tf.zeros([10])).numpy().any()


def test_bytes_by_hand():
  # 3 values, the scale, 10 bits; 30 values, the scale, 100 bits.
  assert activation_pruning.stored_bytes(10) == 4 * 4 + 2
  assert activation_pruning.stored_bytes(100) == 4 * 31 + 13


class TestStandardised:
  # Output 0: active 1, 2, 6. Output 1: active 3, 4, too few.
  KERNEL = support.floats([[1, 3], [0, 0], [2, 4], [6, 0]])
  MASK = support.floats([[1, 1], [0, 0], [1, 1], [1, 0]])

  def test_by_hand(self):
    found = activation_pruning.standardised(self.KERNEL, self.MASK).numpy()
    # Mean 3; -2, -1 and 3 have squares of 14, which is variance times number.
    scale = _GAIN / math.sqrt(14)
    expected = np.array([[-2 * scale, 3], [0, 0], [-1 * scale, 4], [3 * scale, 0]])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not found[self.MASK == 0].any()

  def test_scale_and_shift_of_a_channel_make_no_difference(self):
    moved = np.where(self.MASK == 1, 5 * self.KERNEL + 2, 0).astype(np.float32)
    first, second = (
      activation_pruning.standardised(kernel, self.MASK).numpy()[:, 0]
      for kernel in (self.KERNEL, moved)
    )
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)

  def test_a_grown_weight_of_zero_counts_as_active(self):
    mask = np.array(self.MASK)
    mask[1, 0] = 1
    found = activation_pruning.standardised(self.KERNEL, mask).numpy()[:, 0]
    # Mean 9 / 4.
    centred = np.array([1, 0, 2, 6]) - 2.25
    expected = centred * _GAIN / np.sqrt(np.sum(centred**2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_pruned_weights_have_the_gradient_of_their_channel(self):
    kernel = tf.constant(self.KERNEL)
    upstream = tf.reshape(tf.range(1.0, 9.0), [4, 2])
    with tf.GradientTape() as tape:
      tape.watch(kernel)
      found = activation_pruning.standardised(kernel, self.MASK)
      loss = tf.reduce_sum(found * upstream)
    gradient = tape.gradient(loss, kernel).numpy()
    assert gradient[1, 0] == pytest.approx(3 * _GAIN / math.sqrt(14))
    np.testing.assert_array_equal(gradient[:, 1], upstream[:, 1])
    # Neither scale nor shift changes what comes out.
    active = self.MASK[:, 0] == 1
    assert np.sum(gradient[active, 0]) == pytest.approx(0, abs=1e-5)
    assert gradient[active, 0] @ self.KERNEL[active, 0] == pytest.approx(0, abs=1e-5)

  def test_equal_weights_are_finite(self):
    kernel = tf.ones([4, 1])
    with tf.GradientTape() as tape:
      tape.watch(kernel)
      found = activation_pruning.standardised(kernel, tf.ones([4, 1]))
    assert not found.numpy().any()
    assert np.isfinite(tape.gradient(found, kernel)).all()


def _layer(kernel, mask=None, **config):
  """Returns a layer that keeps a part of its input, and the plain one beside it."""
  kernel = np.asarray(kernel, np.float32)
  plain = tf.keras.layers.Conv2D(
    kernel.shape[-1], kernel.shape[:2], use_bias=False, **config
  )
  mask = tf.ones(kernel.shape) if mask is None else tf.constant(mask, tf.float32)
  pruning = activation_pruning.prune_activations(plain, lambda: mask)
  for layer in (plain, pruning):
    layer.build([None, None, None, kernel.shape[2]])
    layer.kernel.assign(kernel)
  return pruning, plain


def _gradients(layer, inputs, upstream):
  with tf.GradientTape() as tape:
    tape.watch(inputs)
    outputs = layer(inputs)
    loss = tf.reduce_sum(outputs * upstream)
  return outputs, *tape.gradient(loss, [inputs, layer.kernel])


class TestLayer:
  def test_a_kernel_of_one_weight_by_hand(self):
    values = support.floats([1, -5, 0, 2, 3, -4, 0.5, 0, 0, 6]).reshape(2, 5, 1, 1)
    upstream = support.floats([1, 1, 1, 1, 1, 2, 2, 2, 2, 3]).reshape(2, 5, 1, 1)
    layer, _ = _layer([[[[2.0]]]])
    outputs, of_input, of_kernel = _gradients(layer, tf.constant(values), upstream)
    np.testing.assert_array_equal(outputs, 2 * values)
    np.testing.assert_array_equal(of_input, 2 * upstream)
    # Kept -5, -4 and 6 with upstream 1, 2 and 3, scaled by 21.5 / 15.
    assert of_kernel.numpy().item() == pytest.approx((-5 - 8 + 18) * 21.5 / 15)
    # All of them would give 1 - 5 + 0 + 2 + 3 - 8 + 1 + 0 + 0 + 18.
    assert of_kernel.numpy().item() != pytest.approx(12)

  @pytest.mark.parametrize(
    "config",
    [{}, {"padding": "same"}, {"padding": "same", "strides": 2}, {"dilation_rate": 2}],
  )
  def test_as_a_plain_convolution_of_pruned_inputs(self, config):
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(3, 3, 2, 4)).astype(np.float32)
    mask = generator.uniform(size=kernel.shape) < 0.5
    kernel *= mask
    layer, plain = _layer(kernel, mask, **config)
    baked = activation_pruning.standardised(kernel, mask.astype(np.float32))
    plain.kernel.assign(baked)
    inputs = tf.constant(generator.normal(size=(2, 6, 6, 2)), tf.float32)
    upstream = generator.normal(size=plain(inputs).shape).astype(np.float32)
    outputs, of_input, of_kernel = _gradients(layer, inputs, upstream)
    expected, exact, _ = _gradients(plain, inputs, upstream)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_allclose(of_input, exact, rtol=1e-5, atol=1e-5)
    _, _, of_baked = _gradients(plain, activation_pruning.pruned(inputs), upstream)
    with tf.GradientTape() as tape:
      tape.watch(layer.kernel)
      standard = activation_pruning.standardised(
        tf.convert_to_tensor(layer.kernel), mask.astype(np.float32)
      )
    through = tape.gradient(standard, layer.kernel, of_baked)
    np.testing.assert_allclose(of_kernel, through, rtol=1e-4, atol=1e-4)

  def test_other_layers_are_left_alone(self):
    for layer in (
      tf.keras.layers.Dense(3), tf.keras.layers.DepthwiseConv2D(3),
      tf.keras.layers.Conv2DTranspose(3, 3),
    ):  # fmt: skip
      assert activation_pruning.prune_activations(layer, lambda: tf.ones([])) is layer


class TestModel:
  @pytest.fixture(name="state", scope="class")
  def fixture_state(self):
    model = support.cnn()
    mask = support.random_mask(model.spec.size, 30, seed=2)
    weights = support.random_weights(model, seed=3)
    return weights._replace(prunable=weights.prunable * tf.cast(mask, tf.float32)), mask

  def test_the_plain_model_with_baked_weights_computes_the_same(self, state):
    weights, mask = state
    model = support.cnn()
    masked = tfmot_masking.MaskedModel(
      model, layer_transform=activation_pruning.prune_activations
    )
    masked.assign(weights, mask)
    baked = activation_pruning.standardise_convolutions(
      weights.prunable.numpy(), mask.numpy(), model.spec
    )
    assert not baked[~mask.numpy()].any()
    plain = support.plain_model(model, weights._replace(prunable=baked), mask)
    features, _ = support.random_images(5)
    expected = masked.model(features, training=False)
    np.testing.assert_allclose(
      plain(features, training=False), expected, rtol=1e-5, atol=1e-6
    )
    other = support.plain_model(model, weights, mask)(features, training=False)
    assert np.max(np.abs(other - expected)) > 0.01

  def test_dense_layers_are_not_standardised(self, state):
    weights, mask = state
    spec = support.cnn().spec
    baked = activation_pruning.standardise_convolutions(
      weights.prunable.numpy(), mask.numpy(), spec
    )
    np.testing.assert_array_equal(
      baked[spec.slice(1)], weights.prunable.numpy()[spec.slice(1)]
    )
    assert np.any(baked[spec.slice(0)] != weights.prunable.numpy()[spec.slice(0)])

  @pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
  def test_trains_with_gradients_at_pruned_positions(self, state, compute_dtype):
    weights, mask = state
    model = support.cnn()
    config = training.TrainingConfig(OptimizerConfig("sgd", 0.1), 1, 4)
    masked = tfmot_masking.MaskedModel(
      model, compute_dtype, activation_pruning.prune_activations
    )
    assert [type(tfmot_masking.unwrapped(layer)) for layer in masked.model.layers][
      1:5:3
    ] == [tf.keras.layers.Conv2D, activation_pruning.ActivationPrunedConvolution]
    trainer = training.LocalTrainer(model, config, support.decode_images, masked)
    trainer.start(weights, mask, tf.constant(0.1))
    features, labels = support.random_images(8)
    gradients, _ = tf.function(trainer.gradients)(
      tf.constant(features), tf.constant(labels)
    )
    found = gradients[0].numpy().reshape(-1)
    assert np.isfinite(found).all()
    assert np.count_nonzero(found[~mask.numpy()[: found.size]]) > 10
    trainer.apply(gradients)
    assert not masked.read().prunable.numpy()[~mask.numpy()].any()
