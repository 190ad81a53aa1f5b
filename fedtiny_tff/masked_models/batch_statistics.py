"""Pooled batch-norm moments of sparse candidates: adaptive BN selection's core.

A client measures the moments of the inputs of every batch-norm layer, the server
pools them exactly (law of total variance). Source: FedTiny (arXiv 2212.01977),
adaptive batch-normalisation selection.
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition


class BatchMoments(NamedTuple):
  """Moments about a fixed center, as sums that add up over clients.

  Attributes:
    count: float64 [BN channels], values seen per channel.
    first: float64 [BN channels], sum of (x - center).
    second: float64 [BN channels], sum of (x - center)^2.
  """

  count: tf.Tensor
  first: tf.Tensor
  second: tf.Tensor


def pool(moments: BatchMoments, center: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Turns summed moments into mean and variance.

  Args:
    moments: Summed over all clients.
    center: float32 [BN channels]; what the sums were centred on.

  Returns:
    Mean and variance, float32 [BN channels]; the variance is at least 0.
  """
  count = tf.maximum(moments.count, 1.0)
  offset = moments.first / count
  variance = tf.maximum(moments.second / count - tf.square(offset), 0.0)
  mean = tf.cast(center, tf.float64) + offset
  return tf.cast(mean, tf.float32), tf.cast(variance, tf.float32)


class BatchStatisticsNormalization(tf.keras.layers.BatchNormalization):
  """Batch norm in training mode, in whatever mode the model is called."""

  def call(
    self, inputs: tf.Tensor, mask: object = None, training: object = None
  ) -> tf.Tensor:
    """Normalises with the statistics of the mini-batch."""
    del mask, training
    return super().call(inputs, training=True)


def make_layer(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
  """Makes a layer anew; batch norm always normalises with its mini-batch's statistics."""
  made = type(layer)
  if isinstance(layer, tf.keras.layers.BatchNormalization):
    made = BatchStatisticsNormalization
  return made.from_config(layer.get_config())


class MomentsProbe:
  """A masked model that also gives out the inputs of its batch-norm layers."""

  def __init__(self, model_definition: definition.ModelDefinition):
    """Creates all variables in the current graph.

    Raises:
      ValueError: When the model has no batch-norm layer.
    """

    def build() -> tf.keras.Model:
      return tf.keras.models.clone_model(
        model_definition.build(), clone_function=make_layer
      )

    self._masked = tfmot_masking.MaskedModel(
      dataclasses.replace(model_definition, build=build)
    )
    layers = self._masked.batch_norm_layers
    if not layers:
      raise ValueError(
        f"model {model_definition.name!r} has no batch normalisation to measure"
      )
    self._axes = [layer.axis for layer in layers]
    self._probe = tf.keras.Model(
      self._masked.model.inputs, [layer.input for layer in layers]
    )

  def _batch(self, features: tf.Tensor, center: tf.Tensor) -> BatchMoments:
    # Nothing else is in training mode: what dropout or noise makes of the inputs is not
    # what the chosen model will see.
    inputs = tf.nest.flatten(self._probe(features, training=False))
    sizes = [x.shape[axis[0]] for x, axis in zip(inputs, self._axes, strict=True)]
    centers = tf.split(tf.cast(center, tf.float64), sizes)
    counts, firsts, seconds = [], [], []
    for x, axis, middle, size in zip(inputs, self._axes, centers, sizes, strict=True):
      channels_last = tf.cast(_move_last(x, axis[0]), tf.float64)
      centred = tf.reshape(channels_last, [-1, size]) - middle
      counts.append(tf.fill([size], tf.cast(tf.shape(centred)[0], tf.float64)))
      firsts.append(tf.reduce_sum(centred, axis=0))
      seconds.append(tf.reduce_sum(tf.square(centred), axis=0))
    return BatchMoments(*(tf.concat(part, 0) for part in (counts, firsts, seconds)))

  @tf.function
  def measure(
    self,
    weights: ModelWeights,
    mask: tf.Tensor,
    features: tf.Tensor,
    batch_size: int,
  ) -> BatchMoments:
    """Measures one pass over a client's held-out part, in its fixed order.

    A last batch of a single example joins the one before, because a batch of one
    has no spread.

    Args:
      weights: Frozen weights; the running means serve as center.
      mask: bool [prunable weights].
      features: float32 [n, ...], n at least 1.
      batch_size: Examples per mini-batch.
    """
    self._masked.assign(weights, mask)
    center = weights.batch_norm_mean
    size = center.shape[0]
    total = BatchMoments(*(tf.zeros([size], tf.float64) for _ in range(3)))
    count = tf.shape(features)[0]
    start = tf.constant(0)
    while start < count:
      stop = tf.minimum(start + batch_size, count)
      # Not `==`: in a TFF computation's graph that compares identities.
      if tf.equal(count - stop, 1):
        stop = count
      batch = self._batch(features[start:stop], center)
      total = BatchMoments(*(a + b for a, b in zip(total, batch, strict=True)))
      start = stop
    return total


def _move_last(x: tf.Tensor, axis: int) -> tf.Tensor:
  rank = len(x.shape)
  if axis % rank == rank - 1:
    return x
  order = [i for i in range(rank) if i != axis % rank] + [axis % rank]
  return tf.transpose(x, order)
