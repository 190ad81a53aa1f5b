"""Layers that the architectures share, and the conventions they follow.

A layer has no bias where batch norm follows; batch norm has momentum 0.9 and
epsilon 1e-5, as small client data sets need; weights start as He et al. draw them
(arXiv 1502.01852). The layers after a convolution bear its name with a suffix.
"""

import dataclasses
import math
from typing import Optional

import tensorflow as tf

# Height and width, or one number for both.
Size = int | tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Style:
  """How an architecture pads and where its activations end.

  Attributes:
    symmetric: Whether strided kernels are padded by half their size on every side,
      and grey images given three channels, which XNNPACK's sparse path demands;
      otherwise padding is as TensorFlow's "same" does it.
    relu_limit: Largest output of a ReLU, None for no limit.
  """

  symmetric: bool = False
  relu_limit: Optional[float] = None


_PLAIN = Style()


def scaled(channels: int, width: float) -> int:
  """Multiplies a number of channels by a width: rounded half up, at least 1."""
  return max(1, math.floor(channels * width + 0.5))


def three_channels(image: tf.Tensor, style: Style) -> tf.Tensor:
  """Repeats a grey image where the style wants the stem to read three channels.

  Images of another number of channels are returned as they are.
  """
  if not style.symmetric or image.shape[-1] != 1:
    return image
  return tf.keras.layers.Concatenate(name="three_channels")([image] * 3)


def batch_norm(x: tf.Tensor, name: str) -> tf.Tensor:
  """Normalises the output of the layer called `name`."""
  return tf.keras.layers.BatchNormalization(
    momentum=0.9, epsilon=1e-5, name=f"{name}_batch_norm"
  )(x)


def relu(x: tf.Tensor, name: str, style: Style = _PLAIN) -> tf.Tensor:
  """Applies ReLU to what belongs to `name`."""
  return tf.keras.layers.ReLU(style.relu_limit, name=f"{name}_relu")(x)


def _padded(
  x: tf.Tensor, size: Size, stride: int, name: str, style: Style
) -> tuple[tf.Tensor, str]:
  """Returns (padded input, padding of the kernel)."""
  # At stride 1 "same" is symmetric, and needs no layer of its own.
  if not style.symmetric or stride == 1:
    return x, "same"
  sides = (size, size) if isinstance(size, int) else size
  half = tuple(side // 2 for side in sides)
  return tf.keras.layers.ZeroPadding2D(half, name=f"{name}_pad")(x), "valid"


def convolution(
  x: tf.Tensor,
  filters: int,
  size: Size,
  stride: int,
  name: str,
  style: Style = _PLAIN,
) -> tf.Tensor:
  """Convolves without bias; the output has ⌈input / stride⌉ rows and columns."""
  x, padding = _padded(x, size, stride, name, style)
  return tf.keras.layers.Conv2D(
    filters,
    size,
    strides=stride,
    padding=padding,
    use_bias=False,
    kernel_initializer="he_normal",
    name=name,
  )(x)


def convolution_unit(
  x: tf.Tensor,
  filters: int,
  size: Size,
  stride: int,
  name: str,
  style: Style = _PLAIN,
) -> tf.Tensor:
  """Convolves, normalises and applies ReLU."""
  x = convolution(x, filters, size, stride, name, style)
  return relu(batch_norm(x, name), name, style)


def depthwise_unit(
  x: tf.Tensor, stride: int, name: str, style: Style = _PLAIN
) -> tf.Tensor:
  """Convolves each channel with its own 3×3 kernel, normalises and applies ReLU."""
  x, padding = _padded(x, 3, stride, name, style)
  # Keras counts all channels as inputs of each output; he_normal itself would start
  # the kernels smaller by the square root of their number.
  initializer = tf.keras.initializers.VarianceScaling(
    2.0 * x.shape[-1], "fan_in", "truncated_normal"
  )
  x = tf.keras.layers.DepthwiseConv2D(
    3,
    strides=stride,
    padding=padding,
    use_bias=False,
    depthwise_initializer=initializer,
    name=name,
  )(x)
  return relu(batch_norm(x, name), name, style)


def hidden(x: tf.Tensor, units: int, name: str) -> tf.Tensor:
  """Applies a dense layer with bias and ReLU."""
  return tf.keras.layers.Dense(
    units, activation="relu", kernel_initializer="he_normal", name=name
  )(x)


def dense_unit(x: tf.Tensor, units: int, name: str) -> tf.Tensor:
  """Applies a dense layer without bias, normalises and applies ReLU."""
  x = tf.keras.layers.Dense(
    units, use_bias=False, kernel_initializer="he_normal", name=name
  )(x)
  return relu(batch_norm(x, name), name)


def pool(x: tf.Tensor) -> tf.Tensor:
  """Averages over all positions, [None, height, width, c] to [None, c]."""
  return tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)


def logits(x: tf.Tensor, num_classes: int) -> tf.Tensor:
  """Maps features [None, c] to logits [None, num_classes]."""
  return tf.keras.layers.Dense(num_classes, name="logits")(x)
