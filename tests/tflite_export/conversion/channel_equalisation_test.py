"""Tests of equalised channels: factors by hand, the same outputs, better integers."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.models import registry
from tests.fedtiny_tff.support import floats
from tests.tflite_export import models
from tflite_export.conversion.channel_equalisation import equalise
from tflite_export.conversion.convert import convert
from tflite_export.runtimes import litert

keras = tf.keras.layers
SIZE, CHANNELS = 8, 3


def chain(activation=None, between=None, **norm):
  """Returns convolution, batch norm, ReLU, depthwise convolution and batch norm."""
  inputs = keras.Input((SIZE, SIZE, 2))
  x = keras.Conv2D(CHANNELS, 1, use_bias=False, name="conv")(inputs)
  x = keras.BatchNormalization(epsilon=1e-5, name="norm", **norm)(x)
  x = (activation or keras.ReLU())(x)
  if between is not None:
    x = between(x)
  x = keras.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
  x = keras.BatchNormalization(epsilon=1e-5, name="last")(x)
  model = tf.keras.Model(inputs, keras.Flatten()(x))
  models.randomise(model, 0)
  return model


def normalised(model, gamma, beta, dead=()):
  """Gives the first batch norm values; channels that are dead lose their weights."""
  layer, kernel = model.get_layer("norm"), model.get_layer("conv").kernel
  variance = np.full(CHANNELS, 1.0 - layer.epsilon)
  variance[list(dead)] = 0.0
  layer.set_weights([np.array(each) for each in (gamma, beta, [0.0] * 3, variance)])
  values = kernel.numpy()
  values[..., list(dead)] = 0.0
  kernel.assign(values)
  return model


def inputs(rows=4, seed=0):
  shape = (rows, SIZE, SIZE, 2)
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def outputs(model, rows):
  return model(rows, training=False).numpy()


def test_factors_by_hand():
  # They reach to 4, 0.25 + 4 * 0.125 = 0.75, and 0.04: 1, 5.3 and 100 times that is 4.
  model = normalised(chain(), [1.0, 0.125, 0.01], [0.0, 0.25, 0.0])
  kernel = model.get_layer("depthwise").depthwise_kernel.numpy()
  assert equalise(model) == 2
  factors = np.array([1.0, 4.0, 64.0], np.float32)
  gamma, beta, *_ = model.get_layer("norm").get_weights()
  np.testing.assert_array_equal(gamma, floats([1.0, 0.125, 0.01]) * factors)
  np.testing.assert_array_equal(beta, floats([0.0, 1.0, 0.0]))
  changed = model.get_layer("depthwise").depthwise_kernel.numpy()
  np.testing.assert_array_equal(changed, kernel / factors[:, np.newaxis])
  # Once is enough.
  assert equalise(model) == 0


def test_the_largest_factor_is_256():
  model = normalised(chain(), [1.0, 1e-4, 1.0], [0.0, 0.0, 0.0])
  assert equalise(model) == 1
  gamma = model.get_layer("norm").gamma.numpy()
  np.testing.assert_array_equal(gamma, floats([1.0, 1e-4 * 256, 1.0]))


def test_a_channel_that_is_never_on_stays():
  model = normalised(chain(), [1.0, 1.0, 0.1], [0.0, -5.0, -0.5])
  assert equalise(model) == 0


class TestConstants:
  GAMMA, BETA = [1.0, 1.0, 0.9], [0.0, 0.0, 0.03]

  def test_gain_is_1_and_the_constant_counts(self):
    model = normalised(chain(), self.GAMMA, self.BETA, dead=[2])
    assert equalise(model) == 1
    gamma, beta, mean, variance = model.get_layer("norm").get_weights()
    # 4 / 0.03 is 133: 128.
    assert (gamma[2], mean[2]) == (1.0, 0.0)
    assert beta[2] == np.float32(0.03) * 128
    assert variance[2] == pytest.approx(1 - 1e-5)

  def test_moments_of_a_channel_before_it_died(self):
    model = normalised(chain(), self.GAMMA, self.BETA, dead=[2])
    layer = model.get_layer("norm")
    layer.moving_mean.assign([0.0, 0.0, -0.2])
    layer.moving_variance.assign([1.0, 1.0, 0.5])
    before = outputs(model, inputs())
    equalise(model)
    np.testing.assert_allclose(outputs(model, inputs()), before, rtol=1e-4, atol=1e-5)
    # 0.03 + 0.2 * 0.9 / sqrt(0.50001) is 0.2846, which 8 brings below 4.
    assert layer.beta.numpy()[2] == pytest.approx(8 * 0.28456, rel=1e-4)

  def test_behind_a_limit_only_constants_move_and_stay_below_it(self):
    model = normalised(
      chain(keras.ReLU(6.0)), [1.0, 0.01, 0.9], [0.0, 0.0, 0.05], dead=[2]
    )
    before = outputs(model, inputs())
    assert equalise(model) == 1
    # 6 / 0.05 is 120: 64.
    np.testing.assert_array_equal(
      model.get_layer("norm").beta.numpy(), floats([0.0, 0.0, 0.05]) * 64
    )
    np.testing.assert_array_equal(outputs(model, inputs()), before)

  def test_a_constant_above_the_limit_stays(self):
    model = normalised(chain(keras.ReLU(6.0)), [1.0] * 3, [0.0, 0.0, 7.0], dead=[2])
    assert equalise(model) == 0

  def test_int8_keeps_what_batch_norm_makes_of_a_tiny_constant(self):
    model = normalised(chain(), self.GAMMA, [0.0, 0.0, 0.004], dead=[2])
    last = model.get_layer("last")
    # Of that channel only the border differs, as training finds.
    kernel = model.get_layer("depthwise").depthwise_kernel
    kernel.assign(np.full(kernel.shape, 0.5, np.float32))
    last.moving_mean.assign([0.0, 0.0, 9 * 0.5 * 0.004])
    last.moving_variance.assign([4.0, 4.0, 1e-5])
    rows = inputs(16)
    wanted = outputs(model, rows)
    errors = []
    for _ in range(2):
      found = litert.run(convert(model, "int8_dense", rows), rows)
      errors.append(np.abs(found - wanted).reshape(-1, CHANNELS)[:, 2].max())
      equalise(model)
    before, after = errors
    assert after < 0.1 * np.ptp(wanted.reshape(-1, CHANNELS)[:, 2])
    assert before > 5 * after


class TestWholeModels:
  CASES = (
    ("mobilenet_v1_025", (32, 32, 3)),
    ("ds_cnn", (49, 10, 1)),
    ("mobilenet_v1_sparse", (32, 32, 3)),
  )

  @pytest.mark.parametrize(("name", "shape"), CASES)
  def test_outputs_are_the_same_to_the_bit(self, name, shape):
    model = registry.get_model(name, shape, 4, 0.5).build()
    models.randomise(model, 0)
    dead = model.get_layer("unit1_pointwise").kernel
    values = dead.numpy()
    values[..., :2] = 0.0
    dead.assign(values)
    norm = model.get_layer("unit1_pointwise_batch_norm")
    norm.moving_mean.assign(norm.moving_mean * (values.any((0, 1, 2))))
    norm.beta.assign(np.abs(norm.beta) + 0.01)
    rows = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    before = outputs(model, rows)
    assert equalise(model) > 0
    np.testing.assert_array_equal(outputs(model, rows), before)
    assert np.ptp(before) > 0

  def test_layers_that_another_model_uses_too(self):
    found = registry.get_model("ds_cnn", (16, 8, 1), 4, 0.25)
    model = found.build()
    models.randomise(model, 0)
    wrapped = tfmot_masking.MaskedModel(found)
    wrapped.copy_from(model)
    for mask in wrapped.masks:
      mask.assign(tf.ones_like(mask))
    assert equalise(tfmot_masking.strip(wrapped)) == equalise(model) > 0

  @pytest.mark.parametrize("name", ["resnet8", "digits_cnn"])
  def test_without_depthwise_convolutions_nothing_changes(self, name):
    model = registry.get_model(name, (8, 8, 1), 4, 0.5).build()
    models.randomise(model, 0)
    weights = model.get_weights()
    assert equalise(model) == 0
    for found, wanted in zip(model.get_weights(), weights, strict=True):
      np.testing.assert_array_equal(found, wanted)


class TestWhatIsLeftAlone:
  GAMMA, BETA = [1.0, 0.1, 0.01], [0.0, 0.0, 0.0]

  @pytest.mark.parametrize(
    ("activation", "between"),
    [
      (None, keras.ZeroPadding2D(1)),
      (keras.Activation("relu"), None),
    ],
  )
  def test_forms_that_are_known(self, activation, between):
    model = normalised(chain(activation, between), self.GAMMA, self.BETA)
    before = outputs(model, inputs())
    assert equalise(model) == 2
    np.testing.assert_array_equal(outputs(model, inputs()), before)

  @pytest.mark.parametrize(
    ("activation", "between"),
    [
      (keras.Activation("tanh"), None),
      (keras.ReLU(threshold=0.5), None),
      (keras.LeakyReLU(), None),
      (None, keras.MaxPooling2D(1)),
    ],
  )
  def test_other_layers(self, activation, between):
    model = normalised(chain(activation, between), self.GAMMA, self.BETA)
    assert equalise(model) == 0

  def test_batch_norm_without_gamma(self):
    assert equalise(chain(scale=False)) == 0

  def test_an_activation_that_others_read(self):
    model = normalised(chain(), self.GAMMA, self.BETA)
    names = [layer.name for layer in model.layers]
    read = model.layers[names.index("norm") + 1].output
    both = keras.Add()([model.get_layer("last").output, read])
    assert equalise(tf.keras.Model(model.input, both)) == 0
    assert equalise(tf.keras.Model(model.input, [model.output, read])) == 0

  def test_an_activation_that_an_operation_reads(self):
    model = normalised(chain(), self.GAMMA, self.BETA)
    names = [layer.name for layer in model.layers]
    read = model.layers[names.index("norm") + 1].output
    both = model.get_layer("last").output + 0.5 * read
    assert equalise(tf.keras.Model(model.input, both)) == 0

  def test_a_convolution_with_an_activation(self):
    model = chain()
    model.get_layer("conv").activation = tf.keras.activations.tanh
    assert equalise(normalised(model, self.GAMMA, self.BETA)) == 0
