"""Static sizes of a model, measured from its layers: weights, arithmetic, activations."""

import dataclasses
import inspect
import math
from collections.abc import Collection

import tensorflow as tf

from fedtiny_tff.model_structure import definition, keras_graphs

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel")
# Their kernels are applied at every input position, and end in the input's channels.
_TRANSPOSED = (
  tf.keras.layers.Conv1DTranspose,
  tf.keras.layers.Conv2DTranspose,
  tf.keras.layers.Conv3DTranspose,
)
# Layers whose gradient needs no values of what they read.
_VALUE_FREE = (
  tf.keras.layers.Add,
  tf.keras.layers.AveragePooling2D,
  tf.keras.layers.Concatenate,
  tf.keras.layers.GlobalAveragePooling2D,
  tf.keras.layers.ZeroPadding2D,
)
_INT8_WEIGHT_BYTES = 1
_INT8_BIAS_BYTES = 4


@dataclasses.dataclass(frozen=True)
class ModelProfile:
  """Static sizes of a model.

  Attributes:
    parameters: All trainable parameters (batch norm's running statistics are not
      trainable).
    prunable: Prunable weights of each layer, in the spec's order.
    prunable_macs: Multiply-accumulates of each prunable layer for one example.
    dense_macs: Multiply-accumulates of all other layers for one example; of layers
      without kernels only attention of several heads has any.
    batch_norm_channels: Channels of all batch norms, each with two running statistics.
    activation_values: Layer outputs of one example, kept for the backward pass.
    int8_bytes: Dense int8 weights once batch norm is folded: 1 byte per kernel
      weight, and a 4-byte bias per output channel of every convolution and dense
      layer.
    channel_blocks: Weights of a group in each prunable layer, see `LayerSpec`; empty
      for single weights.
    convolution_inputs: Values of each layer output, of one example, that the backward
      pass needs for the kernels of prunable Conv2D layers and for nothing else.
  """

  parameters: int
  prunable: tuple[int, ...]
  prunable_macs: tuple[int, ...]
  dense_macs: int
  batch_norm_channels: int
  activation_values: int
  int8_bytes: int
  channel_blocks: tuple[int, ...] = ()
  convolution_inputs: tuple[int, ...] = ()

  @property
  def macs(self) -> int:
    """Multiply-accumulates of a dense forward pass of one example."""
    return sum(self.prunable_macs) + self.dense_macs

  @property
  def unpruned_parameters(self) -> int:
    """Parameters that are never pruned: stem, biases, batch norm."""
    return self.parameters - sum(self.prunable)


def _kernel_shapes(layer: tf.keras.layers.Layer) -> dict[str, list[int]]:
  kernels = {name: getattr(layer, name, None) for name in _KERNELS}
  return {
    n: kernel.shape.as_list() for n, kernel in kernels.items() if kernel is not None
  }


def _layer_macs(layer: tf.keras.layers.Layer) -> int:
  """Counts kernel weights times the positions they are applied at."""
  if isinstance(layer, tf.keras.layers.MultiHeadAttention):
    return _attention_macs(layer)
  # Recurrent layers have cells, others wrap a layer, whose the kernels are.
  weights = sum(
    math.prod(shape)
    for part in layer._flatten_layers()
    for shape in _kernel_shapes(part).values()
  )
  if not weights:
    return 0
  node = layer.inbound_nodes[0]
  before: tuple[int, ...] = tuple(node.keras_inputs[0].shape)
  after: tuple[int, ...] = tuple(tf.nest.flatten(node.outputs)[0].shape)
  inner = layer
  while isinstance(inner, tf.keras.layers.Wrapper):
    inner = inner.layer
  if isinstance(inner, tf.keras.layers.RNN):
    # Those of cells that convolve are applied all over what they give, at each step.
    places = 1 + getattr(inner.cell, "rank", 0)
    return weights * math.prod((*before[1:-places], *after[-places:-1]))
  shape = (before if isinstance(inner, _TRANSPOSED) else after)[1:]
  channels_first = getattr(inner, "data_format", None) == "channels_first"
  return weights * math.prod(shape[1:] if channels_first else shape[:-1])


def _attention_macs(layer: tf.keras.layers.MultiHeadAttention) -> int:
  """Counts what projects tokens, and the products of tokens with each other."""
  node = layer.inbound_nodes[0]
  call = inspect.signature(layer.call).bind(*node.call_args, **node.call_kwargs)
  query, value = call.arguments["query"].shape, call.arguments["value"].shape
  asking, asked = math.prod(query[1:-1]), math.prod(value[1:-1])
  projections: int = sum(
    math.prod(projection.kernel.shape) * tokens
    for projection, tokens in (
      (layer._query_dense, asking),
      (layer._key_dense, asked),
      (layer._value_dense, asked),
      (layer._output_dense, asking),
    )
  )
  products: int = asking * math.prod(value[axis] for axis in layer._attention_axes)
  depth: int = layer._num_heads * (layer._key_dim + layer._value_dim)
  return projections + products * depth


def _layer_int8_bytes(layer: tf.keras.layers.Layer) -> int:
  """Sums kernel weights and one bias per output channel."""
  total = 0
  for name, shape in _kernel_shapes(layer).items():
    outputs = shape[-2] if isinstance(layer, _TRANSPOSED) else shape[-1]
    if name == "depthwise_kernel":
      # The last dimension is outputs per input channel.
      outputs = math.prod(shape[-2:])
    total += _INT8_WEIGHT_BYTES * math.prod(shape) + _INT8_BIAS_BYTES * outputs
  return total


def _convolution_inputs(
  model: tf.keras.Model, prunable: Collection[str]
) -> tuple[int, ...]:
  """Counts the values of outputs that are needed for prunable convolutions alone."""
  # A layer that is used several times has several nodes.
  nodes = [(layer, node) for layer in model.layers for node in layer.inbound_nodes]
  needing: dict[int, list[tf.keras.layers.Layer]] = {}
  for layer, node in nodes:
    if not isinstance(layer, _VALUE_FREE):
      for tensor in node.keras_inputs:
        needing.setdefault(id(tensor), []).append(layer)

  def is_pruned(layer: tf.keras.layers.Layer) -> bool:
    is_convolution = type(layer) is tf.keras.layers.Conv2D and layer.groups == 1
    return is_convolution and layer.name in prunable

  return tuple(
    math.prod(tensor.shape[1:])
    for layer, node in nodes
    if not isinstance(layer, tf.keras.layers.InputLayer)
    for tensor in tf.nest.flatten(node.outputs)
    if id(tensor) in needing and all(map(is_pruned, needing[id(tensor)]))
  )


@keras_graphs.sparing_eager_models()
def profile_model(model_definition: definition.ModelDefinition) -> ModelProfile:
  """Measures a model's sizes from its layers."""
  names = [layer.name for layer in model_definition.spec.layers]
  with tf.Graph().as_default():
    model = model_definition.build()
    macs = {layer.name: _layer_macs(layer) for layer in model.layers}
    parameters = sum(v.shape.num_elements() for v in model.trainable_variables)
    activations = sum(
      math.prod(tensor.shape[1:])
      for layer in model.layers
      if not isinstance(layer, tf.keras.layers.InputLayer)
      for node in layer.inbound_nodes
      for tensor in tf.nest.flatten(node.outputs)
    )
    channels = sum(
      layer.moving_mean.shape.num_elements()
      for layer in model.layers
      if isinstance(layer, tf.keras.layers.BatchNormalization)
    )
    int8_bytes = sum(_layer_int8_bytes(layer) for layer in model.layers)
    convolution_inputs = _convolution_inputs(model, names)
  return ModelProfile(
    parameters=parameters,
    prunable=model_definition.spec.sizes,
    prunable_macs=tuple(macs[name] for name in names),
    dense_macs=sum(macs.values()) - sum(macs[name] for name in names),
    batch_norm_channels=channels,
    activation_values=activations,
    int8_bytes=int8_bytes,
    channel_blocks=model_definition.spec.channel_blocks,
    convolution_inputs=convolution_inputs,
  )
