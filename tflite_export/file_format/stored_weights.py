"""Reads from a `.tflite` which weights of its layers are zero, however it stores them."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from tflite_export.file_format import flatbuffer_model

CONV_2D = schema.BuiltinOperator.CONV_2D
DEPTHWISE_CONV_2D = schema.BuiltinOperator.DEPTHWISE_CONV_2D
FULLY_CONNECTED = schema.BuiltinOperator.FULLY_CONNECTED
_WEIGHTED = (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)
# Operators between a stored weight and its consumer.
UNPACKING = (schema.BuiltinOperator.DENSIFY, schema.BuiltinOperator.DEQUANTIZE)

# `net/block/conv/Conv2D12` → `net/block/conv`: the part of a tensor's name that says
# which Keras layer computed something, before TensorFlow's operator and a number
# that makes names unique.
_LAYER_PATH = re.compile(
  r"^(.*?)(?:/Tensordot|/separable_conv2d)?"
  r"/(?:Conv2D|Conv1D|depthwise|separable_conv2d|Tensordot|MatMul|BiasAdd)"
  r"(?:_?\d+)?(?:/(?:ReadVariableOp|ExpandDims).*)?$"
)


@dataclasses.dataclass(frozen=True)
class StoredWeight:
  """One convolution's or dense layer's weight as the file stores it.

  Attributes:
    tensor: Index of the stored tensor; consumers can share one.
    operator: `BuiltinOperator` number of the consumer: it fixes the layout.
    layer_paths: Keras layers named by the tensors of the consumer. Usually its
      own alone; folding merges names, so there can be others, or none.
    zero: bool in the file's layout, True where the stored number means zero.
    stored_sparse: Whether the tensor has SparsityParameters.
  """

  tensor: int
  operator: int
  layer_paths: frozenset[str]
  zero: Array
  stored_sparse: bool


def stored_weights(model_bytes: bytes) -> list[StoredWeight]:
  """Returns the constant weight of each convolution and dense layer, in file order.

  Raises:
    InputError: The bytes are not a readable `.tflite` file of one subgraph.
  """
  model = flatbuffer_model.read_only_subgraph(model_bytes, "checked")
  with flatbuffer_model.reading():
    tensors = model.subgraphs[0].tensors
    operators = model.subgraphs[0].operators
    unpacked_from = {
      operator.outputs[0]: operator.inputs[0]
      for operator in operators
      if flatbuffer_model.operator_code(model, operator) in UNPACKING
    }
    found = []
    for operator in operators:
      code = flatbuffer_model.operator_code(model, operator)
      if code not in _WEIGHTED:
        continue
      source = stored_tensor(operator.inputs[1], unpacked_from)
      if not flatbuffer_model.is_constant(model, tensors[source]):
        continue
      # Not its bias: equal biases are merged under the name of any of their layers.
      named = [source, operator.inputs[1], operator.outputs[0]]
      found.append(
        StoredWeight(
          tensor=source,
          operator=code,
          layer_paths=_layer_paths([tensors[index] for index in named]),
          zero=is_zero(model, tensors[source]),
          stored_sparse=tensors[source].sparsity is not None,
        )
      )
    return found


def stored_tensor(tensor: int, unpacked_from: Mapping[int, int]) -> int:
  """Follows DENSIFY and DEQUANTIZE back to the tensor whose bytes are stored."""
  # No longer than there are such operators: in damaged bytes they may form a ring.
  for _ in unpacked_from:
    tensor = unpacked_from.get(tensor, tensor)
  return tensor


def is_zero(model: schema.ModelT, tensor: schema.TensorT) -> Array:
  """Returns where a constant tensor's stored values mean zero, bool of its shape.

  Raises:
    InputError: The values cannot be read, see `flatbuffer_model.constant`.
  """
  values = flatbuffer_model.constant(model, tensor)
  quantization = tensor.quantization
  zero_points = None if quantization is None else quantization.zeroPoint
  if values.dtype.kind == "f" or zero_points is None or not np.size(zero_points):
    zeros: Array = values == 0
    return zeros
  zero_points = np.asarray(zero_points)
  if zero_points.size > 1:
    if zero_points.size != values.shape[quantization.quantizedDimension]:
      raise ValueError(f"{zero_points.size} zero points for shape {values.shape}")
    shape = np.ones(values.ndim, int)
    shape[quantization.quantizedDimension] = zero_points.size
    zero_points = zero_points.reshape(shape)
  zeros = values == zero_points
  return zeros


def _layer_paths(tensors: list[schema.TensorT]) -> frozenset[str]:
  """Returns the Keras layers that the names of an operator's tensors mention."""
  segments = {
    segment
    for tensor in tensors
    for segment in flatbuffer_model.tensor_name(tensor).split(";")
  }
  matches = [_LAYER_PATH.match(segment) for segment in segments]
  return frozenset(match.group(1) for match in matches if match)
