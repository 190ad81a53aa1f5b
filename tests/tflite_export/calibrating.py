"""The converter's own calibration, and models that it takes apart in different ways."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.optimize import calibrator

from tests.tflite_export import models
from tflite_export import native_output
from tflite_export.file_format import activation_ranges, flatbuffer_model

layers = tf.keras.layers


def converters_ranges(
  float_file: bytes, rows: np.ndarray
) -> activation_ranges.ActivationRanges:
  """Returns what TensorFlow's calibrator finds on rows."""
  with native_output.captured_stderr():
    calibrated = calibrator.Calibrator(float_file, [], []).calibrate(
      lambda: ([row[np.newaxis]] for row in rows)
    )
  model = flatbuffer_model.read_model(calibrated)
  quantisation = [
    model.subgraphs[0].tensors[index].quantization
    for index in activation_ranges.activation_indices(model)
  ]
  return activation_ranges.ActivationRanges(
    activation_ranges.activations(float_file),
    np.asarray([each.min[0] for each in quantisation], np.float32),
    np.asarray([each.max[0] for each in quantisation], np.float32),
  )


def plain_cnn() -> tf.keras.Model:
  """Returns a classifier of 8x8x2, each of whose operators has one input.

  Where an operator writes its result over one of several inputs, the converter takes
  both for that input's values, and finds a range that is too wide.
  """
  inputs = layers.Input((8, 8, 2))
  x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(inputs)
  x = layers.BatchNormalization(name="norm")(x)
  x = layers.ReLU(name="relu")(x)
  x = layers.MaxPooling2D(name="pool")(x)
  x = layers.Conv2D(6, 3, activation="relu", name="conv2")(x)
  x = layers.Flatten(name="flatten")(x)
  return _finished(inputs, layers.Dense(3, name="logits")(x), "plain_cnn")


def _pre_activation() -> tf.keras.Model:
  """Batch norms without a convolution before them: products and sums of the file."""
  inputs = layers.Input((8, 8, 3))
  x = layers.Conv2D(4, 3, padding="same")(inputs)
  y = layers.ReLU()(layers.BatchNormalization()(x))
  y = layers.Conv2D(4, 3, padding="same")(y)
  x = layers.Concatenate()([x, y])
  x = layers.ReLU()(layers.BatchNormalization()(x))
  x = layers.GlobalAveragePooling2D()(x)
  return _finished(inputs, layers.Dense(3)(x), "pre_activation")


def _attention() -> tf.keras.Model:
  inputs = layers.Input((12, 8))
  x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
  x = layers.LayerNormalization()(layers.Add()([x, inputs]))
  x = layers.TimeDistributed(layers.Dense(4, activation="gelu"))(x)
  x = layers.Flatten()(layers.Dropout(0.3)(x))
  return _finished(inputs, layers.Dense(3, activation="softmax")(x), "attention")


def _moved() -> tf.keras.Model:
  """Layers that move values: pads, transposes, crops, concatenates."""
  inputs = layers.Input((12, 12, 3))
  x = layers.Conv2D(8, 3, dilation_rate=2)(inputs)
  x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(x))
  x = layers.SeparableConv2D(8, 3, padding="same")(x)
  y = layers.Conv2DTranspose(8, 3, strides=2, padding="same")(layers.LeakyReLU()(x))
  x = layers.Concatenate()([layers.UpSampling2D()(x), y])
  x = layers.ZeroPadding2D(1)(layers.Cropping2D(1)(x))
  x = layers.Reshape((256, -1))(layers.Permute((3, 1, 2))(x))
  x = layers.GlobalMaxPooling1D()(layers.ELU()(x))
  return _finished(inputs, layers.Dense(4, activation="tanh")(x), "moved")


def _gated() -> tf.keras.Model:
  """Squeeze and excitation; SELU, which the file computes in five steps."""
  inputs = layers.Input((12, 12, 3))
  x = layers.AveragePooling2D()(layers.Conv2D(8, 3, activation="selu")(inputs))
  gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
  gate = layers.Dense(8, activation="sigmoid")(gate)
  x = layers.Maximum()([layers.Multiply()([x, gate]), layers.Subtract()([x, gate])])
  x = layers.Dense(4)(layers.Flatten()(x))
  return _finished(inputs, layers.Softmax()(x), "gated")


def _sequence() -> tf.keras.Model:
  inputs = layers.Input((16, 3))
  x = layers.Conv1D(8, 3, padding="causal", activation="swish")(inputs)
  x = layers.GRU(4, unroll=True)(layers.AveragePooling1D(4)(x))
  return _finished(inputs, layers.Dense(3)(x), "sequence")


def _finished(inputs: tf.Tensor, outputs: tf.Tensor, name: str) -> tf.keras.Model:
  model = tf.keras.Model(inputs, outputs, name=name)
  models.randomise(model, seed=0)
  return model


OWN_MODELS: dict[str, Callable[[], tf.keras.Model]] = {
  "plain_cnn": plain_cnn,
  "pre_activation": _pre_activation,
  "attention": _attention,
  "moved": _moved,
  "gated": _gated,
  "sequence": _sequence,
}
