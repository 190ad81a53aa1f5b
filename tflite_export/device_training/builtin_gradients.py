"""Gradients of TensorFlow's operators, written in operators that TFLite has.

TensorFlow differentiates a convolution by its kernel, a pooling and a ReLU with kernels
of their own (`Conv2DBackpropFilter`, `MaxPoolGrad`, `ReluGrad`, ...) for which TFLite has
no builtin operator. The gradients here are the same functions:

*   a kernel's: the transposed input convolved with the transposed output's gradient, the
    stride being its dilation;
*   an input's: a transposed convolution;
*   ReLU's: a product with a mask of zeros and ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.device_training import windows

Gradient = Callable[[tf.Operation, tf.Tensor], Any]

_GRADIENTS: dict[str, str] = {}


def _gradient_of(operator: str) -> Callable[[Gradient], Gradient]:
  """Registers a function under a name of ours, and for an operator."""

  def register(function: Gradient) -> Gradient:
    name = f"FedTinyBuiltin{operator}"
    tf.RegisterGradient(name)(function)
    _GRADIENTS[operator] = name
    return function

  return register


@contextmanager
def builtin_gradients() -> Iterator[None]:
  """Has the operators made within the block differentiated as this module does.

  Only `tf.gradients` heeds it, in the graph that is being built; a tape does not.
  """
  graph = tf.compat.v1.get_default_graph()
  with graph.gradient_override_map(_GRADIENTS):
    yield


def _spatial(
  operation: tf.Operation, images: tf.Tensor, window: tuple[int, int], attribute: str
) -> tuple[windows.Axis, windows.Axis]:
  """Returns the axes of rows and columns of an operator with a window.

  Raises:
    InputError: When the images are not laid out with channels last.
  """
  if operation.get_attr("data_format") != b"NHWC":
    raise InputError(
      f"{operation.name}: its images have channels first; use channels_last, as TFLite "
      "has no other"
    )
  strides = operation.get_attr("strides")
  dilations = operation.get_attr(attribute) if attribute else (1, 1, 1, 1)
  padding = operation.get_attr("padding").decode()
  rows, columns = (
    windows.axis(
      images.shape[i + 1], window[i], strides[i + 1], dilations[i + 1], padding
    )
    for i in range(2)
  )
  return rows, columns


@_gradient_of("Conv2D")
def _convolution(
  operation: tf.Operation, gradient: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  images, kernel = operation.inputs
  height, width, inputs, _ = kernel.shape
  if images.shape[-1] != inputs:
    raise InputError(
      f"{operation.name}: a convolution in groups cannot be trained on a device; use "
      "groups=1 or DepthwiseConv2D"
    )
  rows, columns = _spatial(operation, images, (height, width), "dilations")
  padded = windows.pad(images, rows, columns)
  seen = padded[:, : rows.covered, : columns.covered, :]
  by_kernel = tf.nn.conv2d(
    tf.transpose(seen, [3, 1, 2, 0]),
    tf.transpose(gradient, [1, 2, 0, 3]),
    strides=[1, rows.dilation, columns.dilation, 1],
    padding="VALID",
    dilations=[1, rows.stride, columns.stride, 1],
  )
  by_seen = _convolution_input(gradient, kernel, tf.shape(seen), rows, columns)
  return windows.unpad(by_seen, rows, columns), tf.transpose(by_kernel, [1, 2, 0, 3])


def _convolution_input(
  gradient: tf.Tensor,
  kernel: tf.Tensor,
  shape: tf.Tensor,
  rows: windows.Axis,
  columns: windows.Axis,
) -> tf.Tensor:
  if rows.dilation == columns.dilation == 1:
    strides = [1, rows.stride, columns.stride, 1]
    return tf.nn.conv2d_transpose(gradient, kernel, shape, strides, "VALID")
  # TFLite's transposed convolution has no dilation.
  turned = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
  around = _around(windows.spread(gradient, rows, columns), rows, columns)
  dilations = [1, rows.dilation, columns.dilation, 1]
  return tf.nn.conv2d(around, turned, 1, "VALID", dilations=dilations)


def _around(images: tf.Tensor, rows: windows.Axis, columns: windows.Axis) -> tf.Tensor:
  """Pads so that a turned window meets every output with each of its taps."""
  sides = [(each.window - 1) * each.dilation for each in (rows, columns)]
  return tf.pad(images, [(0, 0), *((side, side) for side in sides), (0, 0)])


@_gradient_of("DepthwiseConv2dNative")
def _depthwise_convolution(
  operation: tf.Operation, gradient: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  images, kernel = operation.inputs
  height, width, channels, multiplier = kernel.shape
  rows, columns = _spatial(operation, images, (height, width), "dilations")
  padded = windows.pad(images, rows, columns)
  if multiplier > 1:
    padded = _repeated(padded, multiplier)
  taps = [
    tf.reduce_sum(
      padded[:, rows.seen_by(i), columns.seen_by(j), :] * gradient, [0, 1, 2]
    )
    for i in range(height)
    for j in range(width)
  ]
  by_kernel = tf.reshape(tf.stack(taps), [height, width, channels, multiplier])
  around = _around(windows.spread(gradient, rows, columns), rows, columns)
  turned = tf.reshape(
    tf.reverse(kernel, [0, 1]), [height, width, channels * multiplier, 1]
  )
  dilations = [rows.dilation, columns.dilation]
  by_seen = tf.nn.depthwise_conv2d(
    around, turned, [1, 1, 1, 1], "VALID", dilations=dilations
  )
  if multiplier > 1:
    by_seen = _summed(by_seen, multiplier)
  return windows.unpad(by_seen, rows, columns), by_kernel


def _repeated(images: tf.Tensor, times: int) -> tf.Tensor:
  """Repeats every channel, the copies side by side."""
  return tf.gather(
    images, [c // times for c in range(images.shape[-1] * times)], axis=3
  )


def _summed(images: tf.Tensor, times: int) -> tf.Tensor:
  """Adds up channels that lie side by side: the transpose of `_repeated`."""
  return tf.add_n([images[..., i::times] for i in range(times)])


@_gradient_of("MaxPool")
def _max_pool(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
  """Gives every gradient to the first of its window's largest, as TensorFlow does."""
  (images,), pooled = operation.inputs, operation.outputs[0]
  size = operation.get_attr("ksize")[1:3]
  rows, columns = _spatial(operation, images, tuple(size), "")
  padded = windows.pad(images, rows, columns, images.dtype.min)
  waiting = tf.ones_like(pooled)
  parts = []
  for i in range(rows.window):
    for j in range(columns.window):
      met = padded[:, rows.seen_by(i), columns.seen_by(j), :]
      taken = waiting * tf.cast(met >= pooled, gradient.dtype)
      waiting -= taken
      parts.append(gradient * taken)
  return _gathered_taps(parts, rows, columns)


@_gradient_of("AvgPool")
def _average_pool(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
  (images,) = operation.inputs
  size = operation.get_attr("ksize")[1:3]
  rows, columns = _spatial(operation, images, tuple(size), "")
  shares = gradient / tf.constant(_counts(rows)[:, None] * _counts(columns))[..., None]
  parts = [shares] * (rows.window * columns.window)
  return _gathered_taps(parts, rows, columns)


def _counts(axis: windows.Axis) -> Array:
  """Counts the input's positions in each window, float32 [outputs]."""
  inside = [
    sum(
      axis.before <= start + tap < axis.before + axis.size for tap in range(axis.window)
    )
    for start in range(0, axis.outputs * axis.stride, axis.stride)
  ]
  return np.array(inside, np.float32)


def _gathered_taps(
  parts: list[tf.Tensor], rows: windows.Axis, columns: windows.Axis
) -> tf.Tensor:
  """Adds up what each tap of a window sends back to the input it met.

  Args:
    parts: By tap, row by row: [n, output rows, output columns, channels].
    rows: Axis of the rows.
    columns: Axis of the columns.
  """
  total = []
  for number, part in enumerate(parts):
    i, j = divmod(number, columns.window)
    spaced = windows.spread(part, rows, columns)
    sides = [(i, rows.window - 1 - i), (j, columns.window - 1 - j)]
    total.append(tf.pad(spaced, [(0, 0), *sides, (0, 0)]))
  return windows.unpad(tf.add_n(total), rows, columns)


@_gradient_of("Relu")
def _relu(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
  return gradient * tf.cast(operation.outputs[0] > 0, gradient.dtype)


@_gradient_of("Relu6")
def _relu6(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
  output = operation.outputs[0]
  inside = tf.logical_and(output > 0, output < 6)
  return gradient * tf.cast(inside, gradient.dtype)


@_gradient_of("LeakyRelu")
def _leaky_relu(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
  slope = operation.get_attr("alpha")
  is_positive = tf.cast(operation.inputs[0] > 0, gradient.dtype)
  return gradient * (slope + (1.0 - slope) * is_positive)
