"""Stores the weights of a `.tflite` sparse, in the form LiteRT unpacks when it loads.

A weight with many zeros becomes a constant with SparsityParameters and a DENSIFY
operator in front of its first reader. LiteRT's kernel and XNNPACK's delegate unpack
such constants once; for 1×1 convolutions of float32 and float16 the operator is also
what makes the delegate ask XNNPACK for sparse inference.

TensorFlow's own EXPERIMENTAL_SPARSITY (2.14) is not used: it cuts dense layers of 1 to
3 inputs into blocks that do not fit, and stores int8 weights where LiteRT 2.3 refuses
to load them (see `_unpacks_for`).

DENSIFY: https://ai.google.dev/mlir/tfl_ops#tfldensify_tfldensifyop
"""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from tflite_export.file_format import associated_files, flatbuffer_model, sparse_layout
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.sparse_layout import SparseValues
from tflite_export.file_format.sparse_tensor import Level
from tflite_export.file_format.stored_weights import (
  CONV_2D,
  DEPTHWISE_CONV_2D,
  FULLY_CONNECTED,
)
from tflite_export.metadata.model_metadata_schema import ENTRY_NAME

_DENSIFY = schema.BuiltinOperator.DENSIFY
_DEQUANTIZE = schema.BuiltinOperator.DEQUANTIZE
_FLOATS = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16)

# Of dense layers and convolutions.
_RANKS = (2, 4)
# Tables that a sparse tensor of four dimensions and its DENSIFY add to a file, besides
# what `SparseValues.bytes` counts.
_ADDED_BYTES = 240

# The first TensorFlow with DENSIFY, and the metadata that says what a file needs.
_RUNTIME = "2.2.0"
_RUNTIME_METADATA = b"min_runtime_version"
_RUNTIME_BYTES = 16

_VECTORS = {
  1: (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
  2: (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
  4: (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
}

# An operator's code, the operator, and which of its inputs the tensor is.
_Reader = tuple[int, Any, int]
_Readers = Mapping[int, list[_Reader]]


def sparsify(model_bytes: bytes) -> bytes:
  """Returns the same model with each weight stored sparse that takes less so.

  Weights are those of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: float32, float16
  behind a DEQUANTIZE, or int8. A negative zero comes out as a positive one.

  Args:
    model_bytes: A converted file of one subgraph.

  Returns:
    A file that computes the same, or the given one where nothing gets smaller. Its
    metadata and the files packed with it stay.

  Raises:
    InputError: The bytes are not a readable `.tflite` file of one subgraph.
  """
  model = flatbuffer_model.read_only_subgraph(model_bytes, "stored sparse")
  with flatbuffer_model.reading():
    encoded = _worthwhile(model)
    if not encoded:
      return model_bytes
    _insert_densify(model, encoded)
    _raise_runtime(model)
    sparse = write_compact(model)
    if any(entry.name == ENTRY_NAME.encode() for entry in model.metadata or []):
      sparse = associated_files.append(sparse, associated_files.read(model_bytes))
  return sparse if len(sparse) < len(model_bytes) else model_bytes


def _worthwhile(model: Any) -> dict[int, SparseValues]:
  """Returns what to store for each weight tensor that takes fewer bytes so."""
  graph = model.subgraphs[0]
  readers = _readers(model)
  users = collections.Counter(tensor.buffer for tensor in graph.tensors)
  encoded = {}
  for index, tensor in enumerate(graph.tensors):
    if (
      tensor.sparsity is None
      # Data that several tensors share are stored once, and would be once for each.
      and users[tensor.buffer] == 1
      and index not in graph.inputs + graph.outputs
      and flatbuffer_model.is_constant(model, tensor)
      and len(flatbuffer_model.integers(tensor.shape)) in _RANKS
      and _zero_means_zero(tensor)
      and _is_unpackable_weight(graph.tensors, index, readers)
    ):
      values = flatbuffer_model.constant(model, tensor)
      stored = sparse_layout.encode(values, _layout(values))
      if stored.bytes + _ADDED_BYTES < values.nbytes:
        encoded[index] = stored
  return encoded


def _readers(model: Any) -> _Readers:
  """Returns who reads each tensor."""
  readers = collections.defaultdict(list)
  for operator in model.subgraphs[0].operators:
    code = flatbuffer_model.operator_code(model, operator)
    for number, index in enumerate(operator.inputs):
      readers[index].append((code, operator, number))
  return readers


def _zero_means_zero(tensor: Any) -> bool:
  """Returns whether the zeros that DENSIFY fills in stand for 0."""
  quantization = tensor.quantization
  return quantization is None or not any(
    flatbuffer_model.integers(quantization.zeroPoint)
  )


def _is_unpackable_weight(tensors: list[Any], index: int, readers: _Readers) -> bool:
  """Returns whether all that reads a constant takes it as a weight behind a DENSIFY."""
  type = tensors[index].type
  found = []
  for reader in readers.get(index, []):
    code, operator, _ = reader
    behind = type == schema.TensorType.FLOAT16 and code == _DEQUANTIZE
    found += readers.get(operator.outputs[0], []) if behind else [reader]
  return bool(found) and all(_unpacks_for(tensors, type, each) for each in found)


def _unpacks_for(tensors: list[Any], type: int, reader: _Reader) -> bool:
  """Returns whether LiteRT 2.3 loads an operator whose weight comes from a DENSIFY.

  XNNPACK's delegate takes int8 dense layers, and all layers that quantise their
  activations when they run (float32 input, int8 weight), but looks for their weight
  in the file alone: loading ends with "failed to delegate FULLY_CONNECTED". Only
  depthwise layers of the latter kind are left to LiteRT's own kernel.
  """
  code, operator, number = reader
  if number != 1:
    return False
  if type != schema.TensorType.INT8:
    return type in _FLOATS and code in (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)
  quantised_input = tensors[operator.inputs[0]].type == schema.TensorType.INT8
  return code == DEPTHWISE_CONV_2D or bool(code == CONV_2D and quantised_input)


def _layout(values: Array) -> sparse_layout.Layout:
  """Returns the form of storage: for 1×1 convolutions the one that phones run today."""
  if values.ndim == 4 and values.shape[1:3] == (1, 1):
    return sparse_layout.rows_layout(values.ndim)
  return sparse_layout.smallest_layout(values)


def _insert_densify(model: Any, encoded: Mapping[int, SparseValues]) -> None:
  """Puts a DENSIFY in front of the first reader of each weight to be stored sparse.

  What a DENSIFY writes is the tensor that was constant: it keeps index, name and
  quantisation. The new constants come last.
  """
  graph = model.subgraphs[0]
  code = len(model.operatorCodes)
  model.operatorCodes.append(
    schema.OperatorCodeT(
      deprecatedBuiltinCode=_DENSIFY, builtinCode=_DENSIFY, version=1
    )
  )
  operators = []
  waiting = dict(encoded)
  for operator in graph.operators:
    for index in operator.inputs:
      if index not in waiting:
        continue
      stored = waiting.pop(index)
      tensor = graph.tensors[index]
      model.buffers[tensor.buffer].data = stored.values.view(np.uint8)
      operators.append(
        schema.OperatorT(opcodeIndex=code, inputs=[len(graph.tensors)], outputs=[index])
      )
      graph.tensors.append(_sparse_tensor(tensor, stored))
      tensor.buffer = 0
    operators.append(operator)
  graph.operators = operators


def _raise_runtime(model: Any) -> None:
  """Makes the file ask for a runtime that has DENSIFY, if it asks for less."""
  for metadata in model.metadata or []:
    buffer = model.buffers[metadata.buffer]
    if metadata.name == _RUNTIME_METADATA and buffer.data is not None:
      version = bytes(buffer.data).rstrip(b"\0").decode()
      if _release(version) < _release(_RUNTIME):
        padded = _RUNTIME.encode().ljust(_RUNTIME_BYTES, b"\0")
        buffer.data = np.frombuffer(padded, np.uint8)


def _release(version: str) -> tuple[int, ...]:
  """Returns a version such as `2.2.0` as numbers, which compare."""
  return tuple(int(part) for part in version.split("."))


def _sparse_tensor(tensor: Any, stored: SparseValues) -> Any:
  """Returns the constant; its quantisation would be as large as a small weight."""
  return schema.TensorT(
    shape=tensor.shape,
    type=tensor.type,
    buffer=tensor.buffer,
    hasRank=tensor.hasRank,
    sparsity=schema.SparsityParametersT(
      traversalOrder=list(stored.traversal_order),
      blockMap=[],
      dimMetadata=[_metadata(level) for level in stored.levels],
    ),
  )


def _metadata(level: Level) -> Any:
  """Returns the schema's form of a level."""
  if level.segments is None or level.indices is None:
    return schema.DimensionMetadataT(
      format=schema.DimensionType.DENSE, denseSize=level.size
    )
  metadata = schema.DimensionMetadataT(format=schema.DimensionType.SPARSE_CSR)
  metadata.arraySegmentsType, metadata.arraySegments = _vector(level.segments)
  metadata.arrayIndicesType, metadata.arrayIndices = _vector(level.indices)
  return metadata


def _vector(numbers: Array) -> tuple[int, Any]:
  """Returns an index vector of the narrowest type, and that type's number."""
  dtype = sparse_layout.index_type(numbers)
  number, vector = _VECTORS[dtype.itemsize]
  return number, vector(values=numbers.astype(dtype))
