"""ResNet-8, the image-classification model of MLPerf Tiny (32×32 RGB)."""

import tensorflow as tf

# Output channels and stride of each residual unit.
_UNITS = ((16, 1), (32, 2), (64, 2))

BLOCK_LAYERS = (
  ("unit1_conv1", "unit1_conv2"),
  ("unit2_conv1", "unit2_conv2", "unit2_shortcut"),
  ("unit3_conv1", "unit3_conv2", "unit3_shortcut", "logits"),
)


def _convolution(
  x: tf.Tensor, filters: int, size: int, stride: int, name: str
) -> tf.Tensor:
  return tf.keras.layers.Conv2D(
    filters,
    size,
    strides=stride,
    padding="same",
    use_bias=False,
    kernel_initializer="he_normal",
    name=name,
  )(x)


def _batch_norm(x: tf.Tensor, name: str) -> tf.Tensor:
  return tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def build(input_shape: tuple[int, ...], num_classes: int) -> tf.keras.Model:
  """Builds a stem, three residual units of 16, 32 and 64 channels, and a classifier.

  Args:
    input_shape: (height, width, channels).
    num_classes: Number of logits.

  Returns:
    Keras model, [None, height, width, channels] to [None, num_classes].
  """
  inputs = tf.keras.Input(input_shape, name="image")
  x = _convolution(inputs, _UNITS[0][0], 3, 1, "stem")
  x = tf.keras.layers.ReLU(name="stem_relu")(_batch_norm(x, "stem_batch_norm"))
  for number, (filters, stride) in enumerate(_UNITS, start=1):
    prefix = f"unit{number}_"
    y = _convolution(x, filters, 3, stride, prefix + "conv1")
    y = tf.keras.layers.ReLU(name=prefix + "relu1")(_batch_norm(y, prefix + "batch_norm1"))
    y = _convolution(y, filters, 3, 1, prefix + "conv2")
    y = _batch_norm(y, prefix + "batch_norm2")
    if stride != 1:
      x = _convolution(x, filters, 1, stride, prefix + "shortcut")
    x = tf.keras.layers.Add(name=prefix + "add")([x, y])
    x = tf.keras.layers.ReLU(name=prefix + "relu2")(x)
  x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
  outputs = tf.keras.layers.Dense(num_classes, name="logits")(x)
  return tf.keras.Model(inputs, outputs, name="resnet8")
