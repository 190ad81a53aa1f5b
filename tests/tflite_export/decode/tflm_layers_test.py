"""Whatever Keras layers a model has: shrunk and encoded, TFLM computes the same."""

import numpy as np
import pytest
import tensorflow as tf

from tflite_export.conversion.convert import convert
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.runtimes import tflm

LAYERS = tf.keras.layers


def sparse(*shape, density=0.1, seed=0):
  generator = np.random.default_rng(seed)
  values = generator.normal(size=shape) * (generator.random(shape) < density)
  return values.astype(np.float32)


class Constant(tf.keras.layers.Layer):
  """Applies a function that has a constant in it."""

  def __init__(self, function):
    super().__init__()
    self._function = function

  def call(self, inputs):
    return self._function(inputs)


# Input shape, and the layers before a dense one of 4 outputs.
CASES = {
  "product": ((12, 12, 8), lambda: [Constant(lambda x: x * sparse(12, 12, 8))]),
  "sum": ((12, 12, 8), lambda: [Constant(lambda x: x + sparse(12, 12, 8))]),
  "concatenation": (
    (12, 12, 8),
    lambda: [Constant(lambda x: tf.concat([x, sparse(1, 12, 12, 8)], -1))],
  ),
  "choice": (
    (12, 12, 8),
    lambda: [Constant(lambda x: tf.where(sparse(12, 12, 8) != 0, x, 2 * x))],
  ),
  "matrix": ((16, 32), lambda: [Constant(lambda x: tf.matmul(x, sparse(1, 32, 48)))]),
  "prelu": (
    (12, 12, 8),
    lambda: [
      LAYERS.PReLU(alpha_initializer=tf.constant_initializer(sparse(12, 12, 8)))
    ],
  ),
  "transposed": ((8, 8, 8), lambda: [LAYERS.Conv2DTranspose(16, 3, strides=2)]),
  "separable": ((12, 12, 8), lambda: [LAYERS.SeparableConv2D(32, 3)]),
  "dilated": ((12, 12, 8), lambda: [LAYERS.Conv2D(16, 3, dilation_rate=2)]),
  "grouped": ((8, 8, 8), lambda: [LAYERS.Conv2D(16, 3, groups=2)]),
  "lstm": ((8, 16), lambda: [LAYERS.LSTM(24)]),
  "unrolled": ((4, 16), lambda: [LAYERS.GRU(24, unroll=True)]),
  "normalised": ((16, 32), lambda: [LAYERS.LayerNormalization()]),
}


@pytest.mark.parametrize("format", ["int8_dense", "fp32_dense"])
@pytest.mark.parametrize("name", CASES)
def test_same_outputs(name, format):
  shape, layers = CASES[name]
  head = [LAYERS.Flatten(), LAYERS.Dense(4)]
  model = tf.keras.Sequential([LAYERS.Input(shape), *layers(), *head])
  for number, variable in enumerate(model.trainable_variables):
    if variable.shape.rank > 1 and "alpha" not in variable.name:
      variable.assign(sparse(*variable.shape, density=0.2, seed=number))
  generator = np.random.default_rng(1)
  rows = generator.normal(size=(16, *shape)).astype(np.float32)
  content = convert(model, format, rows)
  wanted = tflm.run(content, rows[:4]).stored_outputs
  shrunk = shrink(content).model_bytes
  encoded = encode_pruned(shrunk)
  assert len(encoded.model_bytes) <= len(shrunk) < len(content)
  # An LSTM's kernel reads all its weights in Prepare; few others are left to it.
  assert any(each.encoded for each in encoded.tensors) or name == "lstm"
  for file in (shrunk, encoded.model_bytes):
    np.testing.assert_array_equal(tflm.run(file, rows[:4]).stored_outputs, wanted)
