"""Tests of the quantisers by themselves, by hand."""

import hypothesis
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.masked_models import tfmot_quantisers
from tests.fedtiny_tff import support


def rounded(values, per_channel: bool, mask=None) -> np.ndarray:
  quantiser = tfmot_quantisers.MaskedWeightQuantizer(per_channel, mask is not None)
  weights = {} if mask is None else {"mask": tf.constant(mask, tf.float32)}
  return quantiser(tf.constant(values, tf.float32), False, weights).numpy()


class TestMaskedWeightQuantizer:
  def test_one_scale_for_all(self):
    # 127 steps of 0.02 up to 2.54; 0.029 is 1.45 steps.
    np.testing.assert_allclose(
      rounded([[2.54, 0.029], [-0.031, 0.0]], False), [[2.54, 0.02], [-0.04, 0.0]],
      rtol=1e-5,
    )  # fmt: skip

  def test_a_scale_for_each_channel(self):
    np.testing.assert_allclose(
      rounded([[2.54, 0.0127], [-0.031, -0.00036]], True),
      [[2.54, 0.0127], [-0.04, -0.0004]],
      rtol=1e-5,
    )

  def test_a_masked_weight_sets_no_scale(self):
    values, mask = [[100.0, 1.27], [0.006, 0.004]], [[0.0, 1.0], [1.0, 1.0]]
    np.testing.assert_allclose(
      rounded(values, False, mask), [[0.0, 1.27], [0.01, 0.0]], rtol=1e-5
    )
    assert rounded(values, False)[1, 0] == 0.0

  def test_a_channel_without_weights_stays_zero(self):
    found = rounded([[1.0, 5.0], [0.5, 5.0]], True, [[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(found[:, 1], [0.0, 0.0])
    np.testing.assert_array_equal(rounded([[3.0]], True, [[0.0]]), [[0.0]])

  @support.quick
  @hypothesis.given(
    arrays.arrays(
      np.float32, (4, 3), elements=hypothesis.strategies.floats(-9, 9, width=32)
    ),
    arrays.arrays(bool, (4, 3)),
  )
  def test_zeros_stay_and_nothing_moves_more_than_half_a_step(self, values, mask):
    found = rounded(values, False, mask)
    assert not found[~mask].any()
    kept = np.where(mask, values, 0.0)
    step = np.abs(kept).max() / 127
    assert np.abs(found - kept).max() <= 0.5001 * step + 1e-6

  def test_gradients_pass_through(self):
    quantiser = tfmot_quantisers.MaskedWeightQuantizer(False, True)
    values = tf.Variable([[1.0, 0.5], [0.3, 0.2]])
    mask = {"mask": tf.constant([[1.0, 0.0], [1.0, 1.0]])}
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(quantiser(values, True, mask))
    np.testing.assert_array_equal(tape.gradient(loss, values), mask["mask"])


class TestActivationQuantizer:
  def ranges(self, low: float, high: float):
    return {"range_min": tf.Variable(low), "range_max": tf.Variable(high)}

  def test_saturates_outside_its_range(self):
    limits = self.ranges(0.0, 2.55)
    found = tfmot_quantisers.ActivationQuantizer()(
      tf.constant([-1.0, 0.006, 9.0]), False, limits
    )
    np.testing.assert_allclose(found, [0.0, 0.01, 2.55], rtol=1e-5)

  def test_observing_widens_and_rounds_nothing(self):
    limits = self.ranges(-1.0, 1.0)
    inputs = tf.constant([0.123456, 3.0])
    with tfmot_quantisers.observing():
      found = tfmot_quantisers.ActivationQuantizer()(inputs, False, limits)
    np.testing.assert_array_equal(found, inputs)
    assert (float(limits["range_min"]), float(limits["range_max"])) == (-1.0, 3.0)

  def test_what_was_always_zero_stays_zero(self):
    found = tfmot_quantisers.ActivationQuantizer()(
      tf.zeros([3]), False, self.ranges(0.0, 0.0)
    )
    np.testing.assert_array_equal(found, [0.0, 0.0, 0.0])


class TestMaskedQuantizeConfig:
  def test_survives_its_configuration(self):
    layer = tf.keras.layers.Dense(2, name="dense")
    layer.build((None, 3))
    scheme = tfmot_quantisers.MaskedPruningPreservingScheme(frozenset({"dense"}))
    first = scheme.get_quantize_registry().get_quantize_config(layer)
    with tfmot_quantisers.scope():
      second = type(first).from_config(first.get_config())
    for config in (first, second):
      ((weight, quantiser),) = config.get_weights_and_quantizers(layer)
      assert weight is layer.kernel
      assert (quantiser.per_channel, quantiser.masked) == (False, True)

  @pytest.mark.parametrize("name", ["dense", "other"])
  def test_only_named_layers_are_masked(self, name):
    layer = tf.keras.layers.Dense(2, name=name)
    layer.build((None, 3))
    scheme = tfmot_quantisers.MaskedPruningPreservingScheme(frozenset({"dense"}))
    config = scheme.get_quantize_registry().get_quantize_config(layer)
    ((_, quantiser),) = config.get_weights_and_quantizers(layer)
    assert quantiser.masked == (name == "dense")
