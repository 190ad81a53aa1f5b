"""Tells what the bytes of a `.tflite` file are spent on.

Every part of a flatbuffer that several places share is counted once, so the sizes add
up to the file's. Schema:
https://github.com/tensorflow/tensorflow/blob/v2.14.1/tensorflow/lite/schema/schema.fbs
"""

import dataclasses
import io
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.decode.tflm_insert import DECODE_OPERATOR
from tflite_export.file_format import associated_files, flatbuffer_model, stored_weights

_OPERATORS = schema.BuiltinOperator
# Operators whose second input is a weight.
_WEIGHTED = (
  _OPERATORS.CONV_2D,
  _OPERATORS.CONV_3D,
  _OPERATORS.DEPTHWISE_CONV_2D,
  _OPERATORS.FULLY_CONNECTED,
  _OPERATORS.TRANSPOSE_CONV,
)
# Slots of vectors in tables, and the bytes of an item: QuantizationParameters (min,
# max, scale, zero_point), SparsityParameters (traversal_order, block_map).
_QUANTIZATION_SLOTS = ((4, 4), (6, 4), (8, 4), (10, 8))
_SPARSITY_SLOTS = ((4, 4), (6, 4))
# Bytes of an item of the union SparseIndexVector: Int32, Uint16 or Uint8Vector.
_INDEX_BYTES = {1: 4, 2: 2, 3: 1}
_BUFFER_DATA_SLOT = 4
# The count in front of a vector's items.
_LENGTH_BYTES = 4


@dataclasses.dataclass(frozen=True)
class FileSizes:
  """Bytes of a file by purpose; they add up to the file.

  Attributes:
    weights_bytes: Stored values of convolutions and dense layers, packed or not.
    positions_bytes: What says where packed values belong: indices of sparse tensors,
      bitmasks and indices of TFLM's DECODE.
    quantisation_bytes: Scales, zero points and ranges.
    constants_bytes: Biases and other constants.
    metadata_bytes: Model metadata, and files attached to them.
    overhead_bytes: Everything else: graph, names, tables, padding.
  """

  weights_bytes: int
  positions_bytes: int
  quantisation_bytes: int
  constants_bytes: int
  metadata_bytes: int
  overhead_bytes: int

  @property
  def total_bytes(self) -> int:
    """Bytes of the file."""
    return sum(dataclasses.astuple(self))


def measure(model_bytes: bytes) -> FileSizes:
  """Measures a file.

  Args:
    model_bytes: A `.tflite` file.

  Raises:
    InputError: The bytes are not a readable `.tflite` file.
  """
  model = flatbuffer_model.read_model(model_bytes)
  with flatbuffer_model.reading():
    root = schema.Model.GetRootAs(model_bytes, 0)
    buffers = _buffer_spans(root)
    purposes = _purposes(model)
    spent: dict[str, dict[int, int]] = {"positions": {}, "quantisation": {}}
    for index, (place, size) in buffers.items():
      spent.setdefault(purposes.get(index, "constants"), {})[place] = size
    for tensor in _tensors(root):
      spent["positions"].update(_sparsity_spans(tensor))
      spent["quantisation"].update(_quantisation_spans(tensor))
  sums = {name: sum(spans.values()) for name, spans in spent.items()}
  attached = len(model_bytes) - _end_of_model(model_bytes)
  metadata = sums.get("metadata", 0) + attached
  known = sum(sums.values()) + attached
  return FileSizes(
    weights_bytes=sums.get("weights", 0),
    positions_bytes=sums["positions"],
    quantisation_bytes=sums["quantisation"],
    constants_bytes=sums.get("constants", 0),
    metadata_bytes=metadata,
    overhead_bytes=len(model_bytes) - known,
  )


def _tensors(root: Any) -> Iterator[Any]:
  for number in range(root.SubgraphsLength()):
    subgraph = root.Subgraphs(number)
    for index in range(subgraph.TensorsLength()):
      yield subgraph.Tensors(index)


def _span(table: Any, slot: int, item_bytes: int) -> dict[int, int]:
  """Returns place and size of a vector with its length; nothing for an empty one."""
  offset = table.Offset(slot)
  count = table.VectorLen(offset) if offset else 0
  if not count:
    return {}
  return {table.Vector(offset): _LENGTH_BYTES + count * item_bytes}


def _buffer_spans(root: Any) -> dict[int, tuple[int, int]]:
  """Returns place and size of every buffer's data, without empty ones."""
  found = {}
  for index in range(root.BuffersLength()):
    for place, size in _span(root.Buffers(index)._tab, _BUFFER_DATA_SLOT, 1).items():
      found[index] = place, size
  return found


def _quantisation_spans(tensor: Any) -> dict[int, int]:
  quantisation = tensor.Quantization()
  found: dict[int, int] = {}
  if quantisation is not None:
    for slot, item_bytes in _QUANTIZATION_SLOTS:
      found |= _span(quantisation._tab, slot, item_bytes)
  return found


def _sparsity_spans(tensor: Any) -> dict[int, int]:
  sparsity = tensor.Sparsity()
  found: dict[int, int] = {}
  if sparsity is None:
    return found
  for slot, item_bytes in _SPARSITY_SLOTS:
    found |= _span(sparsity._tab, slot, item_bytes)
  for level in range(sparsity.DimMetadataLength()):
    dimension = sparsity.DimMetadata(level)
    kinds = (dimension.ArraySegmentsType(), dimension.ArrayIndicesType())
    vectors = (dimension.ArraySegments(), dimension.ArrayIndices())
    for kind, vector in zip(kinds, vectors, strict=True):
      if vector is not None and kind in _INDEX_BYTES:
        found |= _span(vector, 4, _INDEX_BYTES[kind])
  return found


def _purposes(model: schema.ModelT) -> dict[int, str]:
  """Returns what each buffer is for, where it is not for an ordinary constant."""
  found = {entry.buffer: "metadata" for entry in model.metadata or []}
  for subgraph in model.subgraphs:
    unpacked = {
      operator.outputs[0]: operator.inputs[0]
      for operator in subgraph.operators
      if operator.outputs and operator.inputs and _unpacks(model, operator)
    }
    for operator in subgraph.operators:
      for tensor, purpose in _read(model, operator):
        source = stored_weights.stored_tensor(tensor, unpacked)
        found[subgraph.tensors[source].buffer] = purpose
  return found


def _unpacks(model: schema.ModelT, operator: schema.OperatorT) -> bool:
  return flatbuffer_model.operator_code(model, operator) in stored_weights.UNPACKING


def _read(
  model: schema.ModelT, operator: schema.OperatorT
) -> Iterator[tuple[int, str]]:
  """Yields the tensors that an operator reads as weights or as their positions."""
  if model.operatorCodes[operator.opcodeIndex].customCode == DECODE_OPERATOR.encode():
    for place, tensor in enumerate(operator.inputs):
      # Bitmasks or indices, and the values that they place, by turns.
      yield tensor, "weights" if place % 2 else "positions"
    return
  weights = [tensor for tensor in operator.inputs[1:2] if tensor >= 0]
  if flatbuffer_model.operator_code(model, operator) in _WEIGHTED:
    yield from ((tensor, "weights") for tensor in weights)


def _end_of_model(model_bytes: bytes) -> int:
  """Returns where the files begin that a ZIP archive appends; else the file's end."""
  try:
    with zipfile.ZipFile(io.BytesIO(model_bytes)) as archive:
      places = [entry.header_offset for entry in archive.infolist()]
  except associated_files.DAMAGE:
    return len(model_bytes)
  return int(np.clip(min(places, default=len(model_bytes)), 0, len(model_bytes)))
