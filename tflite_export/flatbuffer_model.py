"""Reads `.tflite` bytes: tensors, operators and constants, stored sparse or not.

Uses the schema that comes with LiteRT; TensorFlow is not needed to read a file.
Schema: https://github.com/tensorflow/tensorflow/blob/v2.14.1/tensorflow/lite/schema/schema.fbs
"""

import contextlib
import struct
from collections.abc import Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tflite_export.sparse_tensor import Level, densify

_DTYPES: dict[int, np.dtype] = {
  schema.TensorType.FLOAT32: np.dtype("<f4"),
  schema.TensorType.FLOAT16: np.dtype("<f2"),
  schema.TensorType.INT32: np.dtype("<i4"),
  schema.TensorType.INT64: np.dtype("<i8"),
  schema.TensorType.INT16: np.dtype("<i2"),
  schema.TensorType.INT8: np.dtype("i1"),
  schema.TensorType.UINT8: np.dtype("u1"),
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
  """Parses a file with exactly one subgraph.

  Raises:
    InputError: Not a `.tflite` file, damaged, or with several subgraphs.
  """
  if model_bytes[4:8] != b"TFL3":
    raise InputError("the bytes are not a .tflite file (no TFL3 at byte 4); give one")
  with reading():
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model_bytes, 0))
    subgraphs = len(model.subgraphs)
  if subgraphs != 1:
    raise InputError(
      f"the .tflite file has {subgraphs} subgraphs; only files with one can be checked"
    )
  return model


def operator_code(model: schema.ModelT, operator: schema.OperatorT) -> int:
  """Returns the `BuiltinOperator` number.

  Files of schema 3a and later write numbers above 127 to a second field; the
  larger of both counts (comment of table OperatorCode in the schema).
  """
  code = model.operatorCodes[operator.opcodeIndex]
  return max(code.builtinCode, code.deprecatedBuiltinCode)


def tensor_name(tensor: schema.TensorT) -> str:
  """Returns the tensor's name, empty if it has none."""
  return (tensor.name or b"").decode("utf-8", errors="replace")


def is_constant(model: schema.ModelT, tensor: schema.TensorT) -> bool:
  """Returns whether the file holds the tensor's values.

  A layer pruned to nothing is stored sparse without a single value.
  """
  return tensor.sparsity is not None or len(_data(model, tensor)) > 0


def constant(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray:
  """Returns a constant tensor's stored values in its dense shape.

  Raises:
    InputError: Element type without a NumPy equivalent, or damaged bytes.
  """
  with reading():
    if tensor.type not in _DTYPES:
      raise InputError(
        f"tensor {tensor_name(tensor)!r} has element type {tensor.type}, which cannot "
        "be checked; convert to fp32, fp16 or int8"
      )
    values = _data(model, tensor).view(_DTYPES[tensor.type])
    shape = [int(size) for size in np.atleast_1d(tensor.shape)]
    sparsity = tensor.sparsity
    if sparsity is None:
      return values.reshape(shape)
    return densify(
      values,
      shape,
      _integers(sparsity.traversalOrder),
      _integers(sparsity.blockMap),
      [_level(metadata) for metadata in sparsity.dimMetadata],
    )


def _data(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray:
  """Returns the bytes of a tensor's buffer; an empty one is absent from the file."""
  data = model.buffers[tensor.buffer].data
  return np.ascontiguousarray([] if data is None else data, np.uint8)


def _integers(vector: object) -> list[int]:
  """Returns a flatbuffer vector, absent when empty, as a list."""
  return [] if vector is None else [int(value) for value in np.asarray(vector)]


def _level(metadata: schema.DimensionMetadataT) -> Level:
  """Returns one dimension's metadata; index vectors may be 8, 16 or 32 bits wide."""
  if metadata.format == schema.DimensionType.DENSE:
    return Level(size=int(metadata.denseSize))
  return Level(
    segments=np.asarray(metadata.arraySegments.values),
    indices=_vector(metadata.arrayIndices),
  )


def _vector(table: schema.Int32VectorT) -> np.ndarray:
  """Returns an index vector's values; without a single index they are absent."""
  values = [] if table is None or table.values is None else table.values
  return np.asarray(values, np.int64)
