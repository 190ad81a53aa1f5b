"""tfmot's pruning-preserving quantisation, with masks and ranges that are assigned.

Part of the adapter `tfmot_quantisation`, which alone uses it.

tfmot's pruning-preserving scheme takes its mask from the weights that it finds when
a layer is built, and lets the weights beneath drift; its activation ranges start at
±6 and move by a thousandth a step. Here its scheme says which layer is quantised
where, and two quantisers of ours say how:

*   weights: int8, symmetric, the range being that of the masked weights, always;
*   activations: int8, ranges that are first observed on floats, as post-training
    calibration does, and then follow the batches as a moving average.

Source: https://www.tensorflow.org/model_optimization/guide/combine/pqat_example
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import tensorflow as tf
import tensorflow_model_optimization as tfmot

from fedtiny_tff.errors import QuantisationError

# Share of a moving range that stays at each step: about a hundred steps of memory.
RANGE_DECAY = 0.99
# Ends the error of every model that tfmot cannot quantise.
LEFT_OUT = "leave quantisation-aware training out (--quantisation_aware=never)"
_BITS = 8
_LEAST_RANGE = 1e-6

_OBSERVING = contextvars.ContextVar("observing", default=False)


@contextlib.contextmanager
def observing() -> Iterator[None]:
  """Makes forward passes widen ranges and round nothing."""
  token = _OBSERVING.set(True)
  try:
    yield
  finally:
    _OBSERVING.reset(token)


class MaskedWeightQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
  """Masks weights, then rounds them to 255 symmetric steps.

  A weight with one scale for all channels cannot be multiplied channel by channel
  afterwards, which a batch norm that follows does. Such a weight is rounded as it is
  stored: with the running statistics folded in.

  Attributes:
    per_channel: Whether each output channel has a range.
    masked: Whether there is a mask.
    folded: The batch norm that is folded into the weight before it is rounded.
  """

  def __init__(self, per_channel: bool, masked: bool):
    """Takes the attributes of the same names."""
    self.per_channel = per_channel
    self.masked = masked
    self.folded: Optional[tf.keras.layers.BatchNormalization] = None

  def build(
    self, tensor_shape: tf.TensorShape, name: str, layer: tf.keras.layers.Layer
  ) -> dict[str, tf.Variable]:
    """Makes the mask variable of a masked kernel."""
    if not self.masked:
      return {}
    mask = layer.add_weight(
      f"{name}_mask", shape=tensor_shape, initializer="ones", trainable=False
    )
    return {"mask": mask}

  def __call__(
    self, inputs: tf.Tensor, training: bool, weights: Mapping[str, Any], **_: Any
  ) -> tf.Tensor:
    """Returns what the stored int8 weights stand for."""
    masked = inputs * weights["mask"] if self.masked else inputs
    if _OBSERVING.get():
      return masked
    if self.folded is None:
      return self._round(masked)
    scale = tf.stop_gradient(batch_norm_scale(self.folded))
    return tf.math.divide_no_nan(self._round(masked * scale), scale)

  def _round(self, weights: tf.Tensor) -> tf.Tensor:
    axes = list(range(len(weights.shape) - 1)) if self.per_channel else None
    limit = tf.stop_gradient(_weight_limit(weights, axes))
    quantise = tf.quantization.fake_quant_with_min_max_vars
    if self.per_channel:
      quantise = tf.quantization.fake_quant_with_min_max_vars_per_channel
    return quantise(weights, -limit, limit, num_bits=_BITS, narrow_range=True)

  def get_config(self) -> dict[str, Any]:
    """Returns the constructor's arguments."""
    return {"per_channel": self.per_channel, "masked": self.masked}


def batch_norm_scale(layer: tf.keras.layers.BatchNormalization) -> tf.Tensor:
  """Returns what a batch norm multiplies each channel by in inference, [channels]."""
  scale = tf.math.rsqrt(layer.moving_variance + layer.epsilon)
  return scale if layer.gamma is None else scale * layer.gamma


def _weight_limit(weights: tf.Tensor, axes: Optional[list[int]]) -> tf.Tensor:
  """Returns the largest magnitude, [] or [channels]; never 0, which has no scale.

  A channel without weights takes the layer's: its bias is stored in units of the
  weights' scale, and would overflow if that were tiny.
  """
  limit = tf.reduce_max(tf.abs(weights), axis=axes)
  largest = tf.reduce_max(limit)
  spare = tf.where(largest > 0, largest, tf.ones_like(largest))
  return tf.where(limit > 0, limit, spare)


class ActivationQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
  """Rounds activations to 256 steps of a range that holds 0."""

  def build(
    self, tensor_shape: Any, name: str, layer: tf.keras.layers.Layer
  ) -> dict[str, tf.Variable]:
    """Makes the range's two variables, 0 and 0 until something is observed."""
    del tensor_shape
    return {
      end: layer.add_weight(
        f"{name}_{end}", shape=[], initializer="zeros", trainable=False
      )
      for end in ("range_min", "range_max")
    }

  def __call__(
    self, inputs: tf.Tensor, training: bool, weights: Mapping[str, Any], **_: Any
  ) -> tf.Tensor:
    """Observes, or moves the range if in training and quantises."""
    low, high = weights["range_min"], weights["range_max"]
    if not (_OBSERVING.get() or training):
      return _quantise(inputs, low, high)
    seen_low = tf.minimum(tf.reduce_min(inputs), 0.0)
    seen_high = tf.maximum(tf.reduce_max(inputs), 0.0)
    if _OBSERVING.get():
      new_low, new_high = tf.minimum(low, seen_low), tf.maximum(high, seen_high)
    else:
      new_low = low + (1.0 - RANGE_DECAY) * (seen_low - low)
      new_high = high + (1.0 - RANGE_DECAY) * (seen_high - high)
    new_low, new_high = tf.stop_gradient(new_low), tf.stop_gradient(new_high)
    with tf.control_dependencies([low.assign(new_low), high.assign(new_high)]):
      inputs = tf.identity(inputs)
    return inputs if _OBSERVING.get() else _quantise(inputs, new_low, new_high)

  def get_config(self) -> dict[str, Any]:
    """Returns nothing: there is nothing to choose."""
    return {}


def _quantise(inputs: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
  # What was always 0 has no scale of its own.
  usable = tf.where(high - low > _LEAST_RANGE, high, low + 1.0)
  return tf.quantization.fake_quant_with_min_max_vars(
    inputs, low, usable, num_bits=_BITS
  )


class MaskedQuantizeConfig(tfmot.quantization.keras.QuantizeConfig):
  """What tfmot would quantise in a layer, with our quantisers."""

  def __init__(
    self,
    upstream: tfmot.quantization.keras.QuantizeConfig,
    masked: bool,
    fused: bool = False,
  ):
    """Makes a configuration of one layer.

    Args:
      upstream: tfmot's own.
      masked: Whether the layer's kernel is prunable.
      fused: Whether the next layer rounds this one's output.
    """
    self._upstream = upstream
    self._masked = masked
    self._fused = fused
    self._quantizers: list[MaskedWeightQuantizer] = []

  def fold(self, layer: tf.keras.layers.BatchNormalization) -> None:
    """Says which batch norm follows a weight of one scale."""
    for quantizer in self._quantizers:
      quantizer.folded = layer

  def get_weights_and_quantizers(self, layer: tf.keras.layers.Layer) -> list[Any]:
    """Pairs each quantised weight with a quantiser of the same granularity."""
    found = self._upstream.get_weights_and_quantizers(layer)
    self._quantizers = [
      MaskedWeightQuantizer(q.per_axis, self._masked) for _, q in found
    ]
    return [(w, ours) for (w, _), ours in zip(found, self._quantizers, strict=True)]

  def get_activations_and_quantizers(self, layer: tf.keras.layers.Layer) -> list[Any]:
    """Pairs each quantised activation with a quantiser."""
    found = self._upstream.get_activations_and_quantizers(layer)
    return [(activation, ActivationQuantizer()) for activation, _ in found]

  def set_quantize_weights(
    self, layer: tf.keras.layers.Layer, weights: list[Any]
  ) -> None:
    """Puts quantised weights into the layer."""
    self._upstream.set_quantize_weights(layer, weights)

  def set_quantize_activations(
    self, layer: tf.keras.layers.Layer, activations: list[Any]
  ) -> None:
    """Puts quantising activations into the layer."""
    self._upstream.set_quantize_activations(layer, activations)

  def get_output_quantizers(self, layer: tf.keras.layers.Layer) -> list[Any]:
    """Returns a quantiser where tfmot quantises the layer's output."""
    found = [] if self._fused else self._upstream.get_output_quantizers(layer)
    return [ActivationQuantizer() for _ in found]

  def get_config(self) -> dict[str, Any]:
    """Returns the constructor's arguments, serialised."""
    upstream = tf.keras.utils.legacy.serialize_keras_object(self._upstream)
    return {"upstream": upstream, "masked": self._masked, "fused": self._fused}

  @classmethod
  def from_config(cls, config: Mapping[str, Any]) -> "MaskedQuantizeConfig":
    """Rebuilds what `get_config` described, inside `quantize_scope`."""
    upstream = tf.keras.utils.legacy.deserialize_keras_object(config["upstream"])
    return cls(upstream, config["masked"], config["fused"])


class _Registry(tfmot.quantization.keras.QuantizeRegistry):
  """tfmot's choice of what to quantise in a layer, with our quantisers."""

  def __init__(
    self, upstream: tfmot.quantization.keras.QuantizeRegistry, prunable: frozenset[str]
  ):
    self._upstream = upstream
    self._prunable = prunable

  def supports(self, layer: tf.keras.layers.Layer) -> bool:
    """Claims every layer, so that `get_quantize_config` can name a strange one."""
    del layer
    return True

  def get_quantize_config(self, layer: tf.keras.layers.Layer) -> MaskedQuantizeConfig:
    """Returns the configuration of a layer.

    Raises:
      QuantisationError: Naming a layer that tfmot does not quantise.
    """
    try:
      upstream = self._upstream.get_quantize_config(layer)
    except ValueError as error:
      raise QuantisationError(
        f"layer {layer.name!r} ({type(layer).__name__}): tfmot cannot quantise it in "
        f"training; {LEFT_OUT}"
      ) from error
    return MaskedQuantizeConfig(upstream, layer.name in self._prunable)


class _LayoutTransform(tfmot.quantization.keras.QuantizeLayoutTransform):
  """tfmot's fusing of convolution, batch norm and activation, with our quantisers."""

  def __init__(self, upstream: tfmot.quantization.keras.QuantizeLayoutTransform):
    self._upstream = upstream

  def apply(
    self, model: tf.keras.Model, layer_quantize_map: dict[str, dict[str, Any]]
  ) -> tuple[tf.keras.Model, dict[str, dict[str, Any]]]:
    """Returns the transformed model and what is quantised in it."""
    fused, chosen = self._upstream.apply(model, layer_quantize_map)
    before_relu = _before_relu(fused)
    for name, entry in chosen.items():
      config = entry.get("quantize_config")
      if config is not None:
        # The transforms configure batch norms and activations: no masks there.
        ours = MaskedQuantizeConfig(config, masked=False, fused=name in before_relu)
        entry["quantize_config"] = ours
    return fused, chosen


def _before_relu(model: tf.keras.Model) -> set[str]:
  """Names every batch norm that feeds a ReLU alone, which TFLite fuses.

  After dense layers tfmot would round in between, which wastes half of the steps.
  """
  return {
    layer.name
    for layer in model.layers
    if isinstance(layer, tf.keras.layers.BatchNormalization)
    and len(layer.outbound_nodes) == 1
    and isinstance(layer.outbound_nodes[0].outbound_layer, tf.keras.layers.ReLU)
  }


class MaskedPruningPreservingScheme(
  tfmot.quantization.keras.collab_opts.Default8BitPrunePreserveQuantizeScheme
):
  """tfmot's pruning-preserving scheme with masks and ranges that are assigned."""

  def __init__(self, prunable: frozenset[str]):
    """Names the layers whose kernels are masked."""
    self._prunable = prunable

  def get_quantize_registry(self) -> _Registry:
    """Returns what is quantised in each layer."""
    return _Registry(super().get_quantize_registry(), self._prunable)

  def get_layout_transformer(self) -> _LayoutTransform:
    """Returns what is fused."""
    return _LayoutTransform(super().get_layout_transformer())


def scope() -> contextlib.AbstractContextManager[None]:
  """Lets Keras find the classes of tfmot and of this module by their names."""
  ours = (MaskedQuantizeConfig, MaskedWeightQuantizer, ActivationQuantizer)
  known: contextlib.AbstractContextManager[None] = (
    tfmot.quantization.keras.quantize_scope({cls.__name__: cls for cls in ours})
  )
  return known
