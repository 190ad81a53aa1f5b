"""Reads `.tflite` bytes, also damaged ones: tensors, operators and constants.

Uses the schema that comes with LiteRT; TensorFlow is not needed to read a file.
Schema: https://github.com/tensorflow/tensorflow/blob/v2.14.1/tensorflow/lite/schema/schema.fbs
"""

import contextlib
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.file_format.sparse_tensor import Level, densify

_DTYPES: dict[int, np.dtype[Any]] = {
  schema.TensorType.FLOAT32: np.dtype("<f4"),
  schema.TensorType.FLOAT16: np.dtype("<f2"),
  schema.TensorType.INT32: np.dtype("<i4"),
  schema.TensorType.INT64: np.dtype("<i8"),
  schema.TensorType.INT16: np.dtype("<i2"),
  schema.TensorType.INT8: np.dtype("i1"),
  schema.TensorType.UINT8: np.dtype("u1"),
  schema.TensorType.BOOL: np.dtype("?"),
}
# What following wrong offsets and sizes ends in, in struct, NumPy or flatbuffers.
_DAMAGE = (
  struct.error,
  AttributeError,
  IndexError,
  KeyError,
  MemoryError,
  OverflowError,
  TypeError,
  ValueError,
)


@contextlib.contextmanager
def reading() -> Iterator[None]:
  """Turns what damaged bytes cause in a block into `InputError`."""
  try:
    yield
  except InputError:
    raise
  except _DAMAGE as error:
    raise InputError(
      f"the .tflite bytes are damaged ({type(error).__name__}: "
      f"{' '.join(str(error).split())}); convert the model again"
    ) from error


def read_model(model_bytes: bytes) -> schema.ModelT:
  """Parses a file after checking that its parts can be what they claim.

  Args:
    model_bytes: Any bytes.

  Returns:
    The schema's `ModelT` with every list present and every index in range.

  Raises:
    InputError: No TFLite identifier, parts that claim more bytes than the file has,
      or an index out of range.
  """
  if model_bytes[4:8] != b"TFL3":
    raise InputError("the bytes are not a .tflite file (no TFL3 at byte 4); give one")
  with reading():
    _Claims(len(model_bytes)).check(schema.Model.GetRootAs(model_bytes, 0))
    model = schema.ModelT.InitFromPackedBuf(model_bytes, 0)
    _check_references(model)
  return model


def read_only_subgraph(model_bytes: bytes, purpose: str) -> schema.ModelT:
  """Parses a file that has one subgraph.

  Args:
    model_bytes: Any bytes.
    purpose: What cannot be done with more: "only files with one can be ...".

  Raises:
    InputError: As `read_model`, or when there are other than one.
  """
  model = read_model(model_bytes)
  if len(model.subgraphs) != 1:
    raise InputError(
      f"the .tflite file has {len(model.subgraphs)} subgraphs; only files with one can "
      f"be {purpose}"
    )
  return model


class _Claims:
  """Bounds what unpacking can cost: no part may be claimed many times over.

  A damaged length field would otherwise ask for gigabytes or hours. Writers may share
  strings, vectors and tables, as `compact_writer` does, so eight times the file is
  allowed.
  """

  def __init__(self, file_bytes: int):
    self._file_bytes = file_bytes
    self._left_bytes = 8 * file_bytes

  def claim(self, count: int, item_bytes: int = 4) -> range:
    """Counts a vector; returns the positions of its items."""
    self._left_bytes -= count * item_bytes
    if self._left_bytes < 0:
      raise ValueError(f"its parts claim more than its {self._file_bytes} bytes")
    return range(count)

  def text(self, text: Optional[bytes]) -> None:
    """Counts a string."""
    self.claim(len(text or b""), 1)

  def check(self, root: Any) -> None:
    """Counts a model."""
    for number in self.claim(root.BuffersLength()):
      self.claim(root.Buffers(number).DataLength(), 1)
    for number in self.claim(root.SignatureDefsLength()):
      self._signature(root.SignatureDefs(number))
    for number in self.claim(root.OperatorCodesLength()):
      self.text(root.OperatorCodes(number).CustomCode())
    for number in self.claim(root.MetadataLength()):
      self.text(root.Metadata(number).Name())
    self.claim(root.ExternalBuffersLength() + root.ExternalBufferGroupsLength())
    for number in self.claim(root.SubgraphsLength()):
      self._subgraph(root.Subgraphs(number))

  def _signature(self, signature: Any) -> None:
    self.text(signature.SignatureKey())
    for index in self.claim(signature.InputsLength()):
      self.text(signature.Inputs(index).Name())
    for index in self.claim(signature.OutputsLength()):
      self.text(signature.Outputs(index).Name())

  def _subgraph(self, subgraph: Any) -> None:
    self.text(subgraph.Name())
    self.claim(subgraph.InputsLength() + subgraph.OutputsLength())
    for index in self.claim(subgraph.TensorsLength()):
      self._tensor(subgraph.Tensors(index))
    for index in self.claim(subgraph.OperatorsLength()):
      operator = subgraph.Operators(index)
      self.claim(operator.InputsLength() + operator.OutputsLength())
      self.claim(operator.CustomOptionsLength(), 1)

  def _tensor(self, tensor: Any) -> None:
    self.text(tensor.Name())
    self.claim(tensor.ShapeLength() + tensor.ShapeSignatureLength())
    self.claim(tensor.VariantTensorsLength())
    quantization = tensor.Quantization()
    if quantization is not None:
      self.claim(quantization.ScaleLength() + 2 * quantization.ZeroPointLength())
    sparsity = tensor.Sparsity()
    if sparsity is not None:
      self.claim(sparsity.TraversalOrderLength() + sparsity.BlockMapLength())
      self.claim(sparsity.DimMetadataLength())


def _check_references(model: Any) -> None:
  """Fills absent lists; raises `ValueError` for an index out of range."""
  model.buffers = model.buffers or []
  model.operatorCodes = model.operatorCodes or []
  if not model.subgraphs:
    raise ValueError("no subgraph")
  if model.buffers and is_constant(model, schema.TensorT(buffer=0)):
    raise ValueError("buffer 0 is not empty")
  for subgraph in model.subgraphs:
    subgraph.tensors = subgraph.tensors or []
    subgraph.operators = subgraph.operators or []
    for owner in (subgraph, *subgraph.operators):
      owner.inputs = integers(owner.inputs)
      owner.outputs = integers(owner.outputs)
      _check_range("tensor", [*owner.inputs, *owner.outputs], subgraph.tensors, -1)
    codes = [operator.opcodeIndex for operator in subgraph.operators]
    _check_range("operator code", codes, model.operatorCodes)
    _check_range("buffer", [each.buffer for each in subgraph.tensors], model.buffers)


def _check_range(
  what: str, indices: Sequence[int], items: Sequence[Any], least: int = 0
) -> None:
  """Raises `ValueError` unless each index is `least` (-1: left out) or an item's."""
  for index in indices:
    if not least <= index < len(items):
      raise ValueError(f"{what} {index} of {len(items)}")


def operator_code(model: schema.ModelT, operator: schema.OperatorT) -> int:
  """Returns the `BuiltinOperator` number.

  Files of schema 3a and later write numbers above 127 to a second field; the
  larger of both counts (comment of table OperatorCode in the schema).
  """
  code = model.operatorCodes[operator.opcodeIndex]
  return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def tensor_name(tensor: schema.TensorT) -> str:
  """Returns the tensor's name, empty if it has none."""
  return (tensor.name or b"").decode("utf-8", errors="replace")


def integers(vector: Optional[Sequence[int]]) -> list[int]:
  """Returns a vector of integers as a list; an empty one is absent from the file."""
  return [] if vector is None else [int(value) for value in vector]


def item_bytes(tensor: schema.TensorT) -> int:
  """Returns the size of one of a tensor's values.

  Raises:
    InputError: An element type without a NumPy equivalent.
  """
  if tensor.type not in _DTYPES:
    raise InputError(
      f"tensor {tensor_name(tensor)!r} has type {tensor.type}, whose size is not known; "
      "convert the model to floats or integers"
    )
  return _DTYPES[tensor.type].itemsize


def is_constant(model: schema.ModelT, tensor: schema.TensorT) -> bool:
  """Returns whether the file holds the tensor's values.

  A layer pruned to nothing is stored sparse without a single value.
  """
  return tensor.sparsity is not None or len(_data(model, tensor)) > 0


def constant(model: schema.ModelT, tensor: schema.TensorT) -> Array:
  """Returns a constant tensor's stored values in its dense shape.

  Raises:
    InputError: Element type without a NumPy equivalent, or data that do not fit the
      shape.
  """
  with reading():
    if tensor.type not in _DTYPES:
      raise InputError(
        f"tensor {tensor_name(tensor)!r} has element type {tensor.type}, which cannot "
        "be checked; convert to fp32, fp16 or int8"
      )
    data, dtype = _data(model, tensor), _DTYPES[tensor.type]
    shape = integers(tensor.shape)
    sparsity = tensor.sparsity
    if sparsity is None:
      # A negative size would otherwise be taken for "whatever fits".
      if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes of data for shape {shape}")
      return data.view(dtype).reshape(shape)
    return densify(
      data.view(dtype),
      shape,
      integers(sparsity.traversalOrder),
      integers(sparsity.blockMap),
      [_level(metadata) for metadata in sparsity.dimMetadata],
    )


def _data(model: schema.ModelT, tensor: schema.TensorT) -> Array:
  """Returns the bytes of a tensor's buffer; an empty one is absent from the file."""
  data = model.buffers[tensor.buffer].data
  return np.ascontiguousarray([] if data is None else data, np.uint8)


def _level(metadata: schema.DimensionMetadataT) -> Level:
  """Returns one dimension's metadata; index vectors may be 8, 16 or 32 bits wide."""
  if metadata.format == schema.DimensionType.DENSE:
    return Level(size=int(metadata.denseSize))
  return Level(
    segments=np.asarray(metadata.arraySegments.values),
    indices=_vector(metadata.arrayIndices),
  )


def _vector(table: schema.Int32VectorT) -> Array:
  """Returns an index vector's values; without a single index they are absent."""
  values = [] if table is None or table.values is None else table.values
  return np.asarray(values, np.int64)
