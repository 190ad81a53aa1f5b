"""Convolutions that keep a part of their input for the backward pass.

Source: scaled activation pruning of FedMef (H. Huang et al., CVPR 2024, arXiv
2403.14737): the forward pass is exact and so is the gradient that a layer hands on to
its input; the gradient of its kernel comes from the activations of largest magnitude.
Kernels are standardised, so that activations lie about zero and the small ones tell
little; the scaling is that of A. Brock et al. (arXiv 2101.08692).

A device stores the kept values, one scale, and a bit for each position. TensorFlow,
which simulates it here, computes the same gradients and stores the whole input.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.sparsity import spec as spec_lib

# Of the activations of a mini-batch, as a share of all of them.
KEPT_SHARE = 0.3
# Keeps the variance of a ReLU's output, for inputs of variance 1.
_GAIN = math.sqrt(2.0 / (1.0 - 1.0 / math.pi))
# Two weights would become plus and minus one, whatever they are, and a single one zero.
_LEAST_WEIGHTS = 3
_LEAST_SPREAD = 1e-4
# A share of 0.3 times 10 is 3 values, although the float product may exceed 3.
_ROUNDING = 1e-9
_VALUE_BYTES = 4
# Sign, exponent and the first 7 bits of the mantissa of a float32.
_COARSE_BITS = 16
# A convolution's kernel: height, width, inputs, outputs.
_KERNEL_RANK = 4


def kept_count(values: int) -> int:
  """Returns how many of so many activations are kept."""
  return math.ceil(KEPT_SHARE * values - _ROUNDING)


def stored_bytes(values: int) -> int:
  """Returns what is stored of so many activations.

  Args:
    values: Of a whole mini-batch.

  Returns:
    4 bytes for each kept value and for the scale, and a bit for every position.
  """
  return _VALUE_BYTES * (kept_count(values) + 1) + -(-values // 8)


def largest(activations: tf.Tensor) -> tf.Tensor:
  """Keeps the `KEPT_SHARE` of largest magnitude, zero elsewhere.

  Of equal magnitudes those at lower positions are kept. Zeros are not sought: they
  are the same kept or not.

  Args:
    activations: float32 of any shape, a whole mini-batch.

  Returns:
    float32 of the same shape.
  """
  flat = tf.reshape(activations, [-1])
  magnitudes = tf.abs(flat)
  # Bit patterns of non-negative floats are ordered as the floats. A full sort would
  # take longer than the convolution.
  coarse = tf.bitwise.right_shift(tf.bitcast(magnitudes, tf.int32), _COARSE_BITS)
  bins = 1 << (32 - _COARSE_BITS - 1)
  in_bin = tf.math.bincount(coarse, minlength=bins, maxlength=bins)
  from_bin = tf.cumsum(in_bin, reverse=True)
  count = tf.cast(
    tf.math.ceil(KEPT_SHARE * tf.cast(tf.size(flat), tf.float64) - _ROUNDING), tf.int32
  )
  border = tf.math.count_nonzero(from_bin >= count, dtype=tf.int32) - 1
  above = coarse > border
  at_border = tf.where(tf.logical_and(tf.equal(coarse, border), coarse > 0))[:, 0]
  missing = tf.minimum(
    count - tf.math.count_nonzero(above, dtype=tf.int32), tf.size(at_border)
  )
  chosen = tf.math.top_k(tf.gather(magnitudes, at_border), missing).indices
  places = tf.gather(at_border, chosen)
  kept = tf.tensor_scatter_nd_update(
    tf.where(above, flat, 0.0), places[:, tf.newaxis], tf.gather(flat, places)
  )
  return tf.reshape(kept, tf.shape(activations))


def pruned(activations: tf.Tensor) -> tf.Tensor:
  """Keeps the largest activations, scaled so that magnitudes add up to what they did.

  Args:
    activations: float of any shape, a whole mini-batch.

  Returns:
    The same type and shape.
  """
  whole = tf.cast(activations, tf.float32)
  kept = largest(whole)
  scale = tf.math.divide_no_nan(
    tf.reduce_sum(tf.abs(whole)), tf.reduce_sum(tf.abs(kept))
  )
  return tf.cast(kept * scale, activations.dtype)


def standardised(kernel: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
  """Gives the active weights of each output channel mean 0 and a fixed variance.

  Of n active weights the variance becomes 2 / (1 - 1 / pi) / n. Channels of fewer than
  three active weights stay as they are. Pruned weights stay zero; their gradient is
  that of the active ones' scale, so that gradients tell where to grow.

  Args:
    kernel: float32 [..., outputs], zero where pruned.
    mask: float32 of the same shape, 1 where active.
  """
  axes = list(range(len(kernel.shape) - 1))
  count = tf.reduce_sum(mask, axes)
  divisor = tf.maximum(count, 1.0)
  mean = tf.reduce_sum(kernel * mask, axes) / divisor
  centred = (kernel - mean) * mask
  spread = tf.reduce_sum(tf.square(centred), axes) / divisor * count
  scale = _GAIN * tf.math.rsqrt(tf.maximum(spread, _LEAST_SPREAD))
  return tf.where(count < _LEAST_WEIGHTS, kernel, (kernel - mean * mask) * scale)


def standardise_convolutions(
  prunable: Array, mask: Array, spec: spec_lib.PrunableSpec
) -> Array:
  """Bakes the standardisation into the weights of a model.

  Args:
    prunable: float32 [prunable weights], as trained.
    mask: bool [prunable weights].
    spec: Prunable layers; those of other kernels than convolutions stay as they are.

  Returns:
    float32 [prunable weights] with which plain convolutions compute what
    `ActivationPrunedConvolution`s compute with `prunable`.
  """
  baked = np.where(mask, prunable, np.float32(0.0))
  for index, layer in enumerate(spec.layers):
    if len(layer.shape) != _KERNEL_RANK:
      continue
    place = spec.slice(index)
    kernel = tf.constant(baked[place].reshape(layer.shape), tf.float32)
    active = tf.constant(mask[place].reshape(layer.shape), tf.float32)
    baked[place] = standardised(kernel, active).numpy().reshape(-1)
  return baked


class ActivationPrunedConvolution(tf.keras.layers.Conv2D):
  """Convolves with a standardised kernel, and keeps a part of its input.

  Grouped convolutions have standardised kernels and keep all of it.

  Attributes:
    active: Returns the kernel's mask, 1 where active; set before the first call.
  """

  active: Callable[[], tf.Tensor]

  def get_prunable_weights(self) -> list[tf.Variable]:
    """Returns what tfmot's wrapper masks."""
    return [self.kernel]

  def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves; Keras's own hook for variants of the layer.

    Args:
      inputs: float [batch, height, width, channels].
      kernel: float [height, width, channels, outputs], zero where pruned.
    """
    plain = super().convolution_op
    exact = tf.cast(tf.convert_to_tensor(kernel), tf.float32)
    mask = tf.cast(tf.convert_to_tensor(self.active()), tf.float32)
    scaled = tf.cast(standardised(exact, mask), inputs.dtype)
    if self.groups > 1:
      return plain(inputs, scaled)

    @tf.custom_gradient
    def convolved(
      x: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], Sequence[tf.Tensor]]]:
      def gradient(upstream: tf.Tensor) -> Sequence[tf.Tensor]:
        kept = pruned(x)
        # Neither gradient reads these outputs, and graphs compute only what is read.
        with tf.GradientTape(persistent=True) as tape:
          tape.watch([x, weights])
          of_input = plain(x, tf.stop_gradient(weights))
          of_kernel = plain(tf.stop_gradient(kept), weights)
        return (
          tape.gradient(of_input, x, upstream),
          tape.gradient(of_kernel, weights, upstream),
        )

      return plain(x, weights), gradient

    return convolved(inputs, scaled)


def prune_activations(
  layer: tf.keras.layers.Layer, active: Callable[[], tf.Tensor]
) -> tf.keras.layers.Layer:
  """Replaces a convolution; other layers are returned as they are.

  Args:
    layer: Not built yet.
    active: Returns its kernel's mask when the model is called.
  """
  if type(layer) is not tf.keras.layers.Conv2D:
    return layer
  replaced = ActivationPrunedConvolution.from_config(layer.get_config())
  replaced.active = active
  return replaced
