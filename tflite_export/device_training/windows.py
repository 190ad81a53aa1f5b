"""How a window slides over a padded axis, as TensorFlow's operators have it.

Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Axis:
  """One spatial axis.

  Attributes:
    size: Positions of the input.
    window: Taps of the window.
    stride: Positions from one output to the next.
    dilation: Positions from one tap to the next.
    before: Zeros in front of the input.
    after: Zeros behind it.
    outputs: Positions of the output.
  """

  size: int
  window: int
  stride: int
  dilation: int
  before: int
  after: int
  outputs: int

  @property
  def covered(self) -> int:
    """Positions of the padded input that any output sees, from the first on."""
    return (self.outputs - 1) * self.stride + (self.window - 1) * self.dilation + 1

  @property
  def padded(self) -> int:
    """Positions of the padded input."""
    return self.before + self.size + self.after

  def seen_by(self, tap: int) -> slice:
    """Returns which positions of the padded input a tap meets, one per output."""
    first = tap * self.dilation
    return slice(first, first + (self.outputs - 1) * self.stride + 1, self.stride)


def axis(size: int, window: int, stride: int, dilation: int, padding: str) -> Axis:
  """Returns an axis that is padded as `padding`, SAME or VALID, has it."""
  extent = (window - 1) * dilation + 1
  if padding == "VALID":
    return Axis(size, window, stride, dilation, 0, 0, (size - extent) // stride + 1)
  outputs = -(-size // stride)
  total = max((outputs - 1) * stride + extent - size, 0)
  before = total // 2
  return Axis(size, window, stride, dilation, before, total - before, outputs)


def pad(images: tf.Tensor, rows: Axis, columns: Axis, value: float = 0.0) -> tf.Tensor:
  """Pads images [n, height, width, channels] as the axes have it."""
  sides = [(rows.before, rows.after), (columns.before, columns.after)]
  if not any(map(any, sides)):
    return images
  return tf.pad(images, [(0, 0), *sides, (0, 0)], constant_values=value)


def unpad(images: tf.Tensor, rows: Axis, columns: Axis) -> tf.Tensor:
  """Takes the input out of what covers it: the inverse of `pad`.

  Args:
    images: [n, covered rows, covered columns, channels]; what no output sees is zero.
    rows: Axis of the rows.
    columns: Axis of the columns.
  """
  unseen = [max(each.padded - each.covered, 0) for each in (rows, columns)]
  if any(unseen):
    images = tf.pad(images, [(0, 0), *((0, count) for count in unseen), (0, 0)])
  top, left = rows.before, columns.before
  return images[:, top : top + rows.size, left : left + columns.size, :]


def spread(images: tf.Tensor, rows: Axis, columns: Axis) -> tf.Tensor:
  """Puts stride - 1 zeros between neighbouring outputs.

  Args:
    images: [n, output rows, output columns, channels].
    rows: Axis of the rows.
    columns: Axis of the columns.

  Returns:
    [n, (output rows - 1) * stride + 1, (output columns - 1) * stride + 1, channels].
  """
  if rows.stride == columns.stride == 1:
    return images
  channels = images.shape[-1]
  # Tensors of up to four dimensions alone can be padded on a device.
  behind = [(0, 0)] * 3 + [(0, (columns.stride - 1) * channels)]
  width = columns.outputs * columns.stride * channels
  flat = tf.reshape(tf.pad(images, behind), [-1, rows.outputs, width, 1])
  below = [(0, 0), (0, 0), (0, (rows.stride - 1) * width), (0, 0)]
  shape = [-1, rows.outputs * rows.stride, columns.outputs * columns.stride, channels]
  spaced = tf.reshape(tf.pad(flat, below), shape)
  height = (rows.outputs - 1) * rows.stride + 1
  return spaced[:, :height, : (columns.outputs - 1) * columns.stride + 1, :]
