"""Tells which constant tensors TFLM's DECODE operator can produce.

Sources: TFLM's `kernels/decode_state_{prune,lut}.cc` and `compression/constant_inputs.py`.
"""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from tflite_export.file_format import flatbuffer_model

_DECODABLE_TYPES = frozenset(
  {
    schema.TensorType.FLOAT32,
    schema.TensorType.INT8,
    schema.TensorType.INT16,
    schema.TensorType.INT32,
    schema.TensorType.INT64,
    schema.TensorType.BOOL,
  }
)
_OPERATOR = schema.BuiltinOperator
# (operator, input) pairs whose values a kernel needs in Prepare, before any DECODE
# has run; None stands for every input.
_READ_IN_PREPARE: frozenset[tuple[int, Optional[int]]] = frozenset(
  {
    (_OPERATOR.BATCH_MATMUL, None),
    (_OPERATOR.BATCH_TO_SPACE_ND, 1),
    (_OPERATOR.BATCH_TO_SPACE_ND, 2),
    (_OPERATOR.BROADCAST_TO, 1),
    (_OPERATOR.EXPAND_DIMS, 1),
    (_OPERATOR.FILL, 0),
    (_OPERATOR.PAD, 1),
    (_OPERATOR.PADV2, 1),
    (_OPERATOR.RESHAPE, 1),
    (_OPERATOR.RESIZE_BILINEAR, 1),
    (_OPERATOR.RESIZE_NEAREST_NEIGHBOR, 1),
    (_OPERATOR.SPACE_TO_BATCH_ND, 1),
    (_OPERATOR.SPACE_TO_BATCH_ND, 2),
    (_OPERATOR.SPLIT, 0),
    (_OPERATOR.SPLIT_V, 1),
    (_OPERATOR.SPLIT_V, 2),
    (_OPERATOR.STRIDED_SLICE, 1),
    (_OPERATOR.STRIDED_SLICE, 2),
    (_OPERATOR.STRIDED_SLICE, 3),
    (_OPERATOR.SVDF, None),
    (_OPERATOR.TRANSPOSE, 1),
    (_OPERATOR.TRANSPOSE_CONV, 0),
    (_OPERATOR.UNIDIRECTIONAL_SEQUENCE_LSTM, None),
  }
)


class Undecodable(Exception):
  """Why a tensor stays dense."""


class DecodableTensor(NamedTuple):
  """What there is to encode.

  Attributes:
    values: The tensor, little-endian.
    zeros: The value that stands for zero, in a shape that broadcasts to `values`.
    readers: How many operators read it.
    channel_axis: Along which it has more than one quantisation scale, or None.
  """

  values: Array
  zeros: Array
  readers: int
  channel_axis: Optional[int]


class Uses(NamedTuple):
  """What happens to the tensors of a subgraph.

  Attributes:
    readers: The operators that read a tensor, by its index.
    written: Indices of tensors that an operator writes.
    ends: Indices of the subgraph's inputs and outputs.
  """

  readers: Mapping[int, list[Any]]
  written: frozenset[int]
  ends: frozenset[int]


def uses_of(subgraph: schema.SubGraphT) -> Uses:
  """Returns who reads and writes what."""
  readers = collections.defaultdict(list)
  for operator in subgraph.operators:
    for index in set(operator.inputs):
      readers[index].append(operator)
  written = (index for operator in subgraph.operators for index in operator.outputs)
  ends = frozenset([*subgraph.inputs, *subgraph.outputs])
  return Uses(readers, frozenset(written), ends)


def decodable_tensor(
  model: schema.ModelT, tensor: schema.TensorT, index: int, uses: Uses
) -> DecodableTensor:
  """Returns a constant tensor that a DECODE operator may produce.

  Args:
    model: As `flatbuffer_model.read_model` gives it.
    tensor: Of one of its subgraphs.
    index: Of the tensor in it.
    uses: `uses_of` that subgraph.

  Raises:
    Undecodable: The tensor must stay dense.
    InputError: Its data do not fit its shape.
  """
  reason = _why_not_decodable(model, tensor, index, uses)
  if reason is not None:
    raise Undecodable(reason)
  values = flatbuffer_model.constant(model, tensor)
  zeros = _zero_points(tensor, values)
  channel_axis = (
    tensor.quantization.quantizedDimension if _channels(tensor) > 1 else None
  )
  return DecodableTensor(values, zeros, len(uses.readers[index]), channel_axis)


def _why_not_decodable(
  model: Any, tensor: Any, index: int, uses: Uses
) -> Optional[str]:
  """Returns why a DECODE operator may not produce this tensor, or None."""
  readers = uses.readers.get(index, [])
  obstacles = {
    f"TFLM decodes no tensor type {tensor.type}": tensor.type not in _DECODABLE_TYPES,
    "it is a variable": tensor.isVariable,
    "it is stored sparse already": tensor.sparsity is not None,
    "it is an input or output": index in uses.ends,
    "an operator writes it": index in uses.written,
    "no operator reads it": not readers,
    "its reader needs the values in Prepare": any(
      _reads_in_prepare(
        flatbuffer_model.operator_code(model, operator), operator, index
      )
      for operator in readers
    ),
  }
  return next((reason for reason, applies in obstacles.items() if applies), None)


def _reads_in_prepare(code: int, operator: Any, index: int) -> bool:
  """Returns whether the operator's kernel needs tensor `index` before it runs."""
  positions = [at for at, read in enumerate(operator.inputs) if read == index]
  return any((code, at) in _READ_IN_PREPARE for at in (None, *positions))


def _channels(tensor: Any) -> int:
  """Returns how many quantisation scales a tensor has, 0 when it is not quantised."""
  quantization = tensor.quantization
  if quantization is None or quantization.scale is None:
    return 0
  return len(quantization.scale)


def _zero_points(tensor: Any, values: Array) -> Array:
  """Returns the value a 0 bit stands for, in a shape that broadcasts to the tensor's.

  Raises:
    Undecodable: The kernel accepts per-channel quantisation along axis 0 or the last
      axis, and zero points other than 0 for int8; this is something else.
  """
  shape = [1] * values.ndim
  channels = _channels(tensor)
  if channels == 0:
    return np.zeros(shape, values.dtype)
  quantization = tensor.quantization
  points = flatbuffer_model.integers(quantization.zeroPoint)
  axis = quantization.quantizedDimension
  if len(points) == 1:
    # TFLM's allocator does the same.
    points = points * channels
  if quantization.detailsType or len(points) != channels:
    raise Undecodable(f"it has {channels} scales and {len(points)} zero points")
  if axis not in ((0, values.ndim - 1) if channels > 1 else (0,)):
    raise Undecodable(f"TFLM decodes no {channels} channels on axis {axis}")
  if channels > 1:
    if values.shape[axis] != channels:
      raise Undecodable(f"it has {channels} scales and shape {values.shape}")
    shape[axis] = channels
  limit = 128 if values.dtype == np.int8 else 0
  if any(not -limit <= point <= max(limit - 1, 0) for point in points):
    raise Undecodable(f"TFLM decodes no zero points {points[:4]} in {values.dtype}")
  return np.array(points, values.dtype).reshape(shape)
