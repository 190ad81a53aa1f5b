"""A small convolutional network for 8×8 grey-scale digits."""

import tensorflow as tf

# Output channels and stride of each 3×3 convolution.
_CONVOLUTIONS = ((16, 1), (32, 1), (32, 2), (64, 1))
_HIDDEN_UNITS = 64

BLOCK_LAYERS = (("conv2",), ("conv3", "conv4"), ("dense1", "logits"))


def build(input_shape: tuple[int, ...], num_classes: int) -> tf.keras.Model:
  """Builds four convolutions with batch norm and two dense layers.

  Args:
    input_shape: (height, width, channels).
    num_classes: Number of logits.

  Returns:
    Keras model, [None, height, width, channels] to [None, num_classes].
  """
  inputs = tf.keras.Input(input_shape, name="image")
  x = inputs
  for number, (filters, stride) in enumerate(_CONVOLUTIONS, start=1):
    x = tf.keras.layers.Conv2D(
      filters,
      3,
      strides=stride,
      padding="same",
      use_bias=False,
      kernel_initializer="he_normal",
      name=f"conv{number}",
    )(x)
    x = tf.keras.layers.BatchNormalization(
      momentum=0.9, epsilon=1e-5, name=f"batch_norm{number}"
    )(x)
    x = tf.keras.layers.ReLU(name=f"relu{number}")(x)
  x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
  x = tf.keras.layers.Dense(
    _HIDDEN_UNITS, activation="relu", kernel_initializer="he_normal", name="dense1"
  )(x)
  outputs = tf.keras.layers.Dense(num_classes, name="logits")(x)
  return tf.keras.Model(inputs, outputs, name="digits_cnn")
