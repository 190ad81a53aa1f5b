"""Batch normalisation written out: moments of the rows that count, and running ones.

Keras' fused operator has no gradient in TFLite, and averages over every row. A device's
batches have one size; where examples are missing, rows are filled up, and must not count.
"""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Optional

import tensorflow as tf

from fedtiny_tff.errors import InputError


@dataclasses.dataclass(frozen=True)
class Pass:
  """What batch norm does on one way through the model.

  Attributes:
    rows: float32 [batch], 1 for the rows that count and 0 for others.
    follows: Whether running moments follow the batch's.
    measures: Whether the batch's moments are taken although the model is not called in
      training mode, in which dropout and noise would be among what is measured.
    inputs: Where every layer leaves its inputs, by its name.
  """

  rows: tf.Tensor
  follows: bool = True
  measures: bool = False
  inputs: dict[str, tf.Tensor] = dataclasses.field(default_factory=dict)


_PASS: ContextVar[Optional[Pass]] = ContextVar("pass", default=None)


@contextmanager
def passing(way: Pass) -> Iterator[None]:
  """Says what layers do that take a batch's moments within the block."""
  token = _PASS.set(way)
  try:
    yield
  finally:
    _PASS.reset(token)


class MomentNorm(tf.keras.layers.BatchNormalization):
  """Computes what Keras' layer does, in operators that TFLite differentiates.

  Images take the unbiased variance for their running one, and other inputs the biased
  one, as Keras' fused and plain operators do.
  """

  def call(
    self, inputs: tf.Tensor, training: Optional[bool] = None, **options: Any
  ) -> tf.Tensor:
    """Normalises.

    Args:
      inputs: float32 [batch, ..., channels].
      training: Whether by the batch's moments, or by the running ones.
      **options: None; Keras' signature.
    """
    del options
    way = _PASS.get()
    if way is None or not ((training or way.measures) and self.trainable):
      mean, variance = tf.identity(self.moving_mean), tf.identity(self.moving_variance)
    else:
      way.inputs[self.name] = inputs
      mean, variance = self._observe(inputs, way)
    scale = tf.math.rsqrt(variance + self.epsilon)
    if self.scale:
      scale *= self.gamma
    centred = (inputs - mean) * scale
    return centred + self.beta if self.center else centred

  def _observe(self, inputs: tf.Tensor, way: Pass) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the batch's mean and variance, and lets the running ones follow."""
    count, mean, variance = moments(inputs, way.rows)
    unbiased = variance
    if inputs.shape.rank == 4:
      unbiased *= count / tf.maximum(count - 1.0, 1.0)
    pairs = ((self.moving_mean, mean), (self.moving_variance, unbiased))
    for running, of_batch in pairs if way.follows else ():
      running.assign_sub((running - tf.stop_gradient(of_batch)) * (1.0 - self.momentum))
    return mean, variance


def sums(inputs: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns how many values count in each channel, and their sum.

  Args:
    inputs: float32 [batch, ..., channels].
    rows: float32 [batch], 1 for rows that count and 0 for others.
  """
  shares = tf.reshape(rows, [-1] + [1] * (inputs.shape.rank - 1))
  count = tf.reduce_sum(rows) * float(math.prod(inputs.shape[1:-1]))
  total = inputs * shares
  # Axis by axis: one sum over all in float32 is off by thousandths with large images, and
  # what a server has of a constant channel then looks like a lie.
  for _ in inputs.shape[:-1]:
    total = tf.reduce_sum(total, 0)
  return count, total


def moments(
  inputs: tf.Tensor, rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Returns how many values count in each channel, their mean and their variance.

  Args:
    inputs: float32 [batch, ..., channels].
    rows: float32 [batch], 1 for rows that count, at least one, and 0 for others.
  """
  count, first = sums(inputs, rows)
  mean = first / count
  _, second = sums(tf.square(inputs - mean), rows)
  return count, mean, second / count


def with_moment_norm(model: tf.keras.Model) -> tf.keras.Model:
  """Returns the same model, of new variables, with batch norm written out.

  Raises:
    InputError: When a batch norm does not normalise the last axis.
  """

  def clone(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    config = layer.get_config()
    if not isinstance(layer, tf.keras.layers.BatchNormalization):
      return type(layer).from_config(config)
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, len(layer.input_shape) - 1):
      raise InputError(
        f"layer {layer.name!r} normalises axis {axis}; a device trains batch norm over "
        "the last axis only"
      )
    return MomentNorm.from_config(config)

  return tf.keras.models.clone_model(model, clone_function=clone)
