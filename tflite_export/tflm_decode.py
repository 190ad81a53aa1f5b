"""Stores the zeros of a `.tflite` compactly, in the PRUNING form of TFLM_DECODE.

A constant tensor of n elements becomes two constant UINT8 tensors, and the custom
operator `TFLM_DECODE` writes the dense tensor into the arena right before each
operator that reads it:

  encoded    ceil(n / 8) bytes. Element i, in storage order, is bit 7 - i % 8 of
             byte i // 8: 1 takes the next stored value, 0 is the zero point.
             Unused bits of the last byte are 0.
  ancillary  byte 0      2, decode type PRUNING
             byte 1      1, version of this header
             bytes 2-3   0
             byte 4      1, version of PRUNING
             bytes 5-15  0
             bytes 16-   the values that are not the zero point, in storage order,
                         little-endian

Sources: TFLM's `kernels/decode.cc`, `kernels/decode_state_prune.cc` and
`compression/decode.py`.
"""

import collections
import copy
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tflite_export import flatbuffer_model

DECODE_OPERATOR = "TFLM_DECODE"
HEADER_BYTES = 16

# What a file grows by besides the payload (tables, offsets, padding to 16 bytes):
# upper bounds, measured, so that a tensor counted as a gain is one.
SOURCE_OVERHEAD_BYTES = 40
CONSUMER_OVERHEAD_BYTES = 128

_BUFFER_ALIGNMENT_BYTES = 16
_DECODABLE_TYPES: dict[int, np.dtype] = {
  schema.TensorType.FLOAT32: np.dtype("<f4"),
  schema.TensorType.INT8: np.dtype("<i1"),
  schema.TensorType.INT16: np.dtype("<i2"),
  schema.TensorType.INT32: np.dtype("<i4"),
  schema.TensorType.INT64: np.dtype("<i8"),
}
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


@dataclasses.dataclass(frozen=True)
class PackedTensor:
  """The two buffers of one PRUNING tensor; layout in the module docstring."""

  encoded: bytes
  ancillary: bytes

  @property
  def bytes(self) -> int:
    """Size of both."""
    return len(self.encoded) + len(self.ancillary)


@dataclasses.dataclass(frozen=True)
class TensorReport:
  """What became of one constant tensor.

  Attributes:
    name: The tensor's name.
    subgraph: Index of its subgraph.
    index: Index in the subgraph, the same in the dense and the encoded file.
    dense_bytes: Size of its values.
    stored_bytes: Size of encoded + ancillary; `dense_bytes` when it was left dense.
    left_dense_because: The reason, empty when it was encoded.
  """

  name: str
  subgraph: int
  index: int
  dense_bytes: int
  stored_bytes: int
  left_dense_because: str

  @property
  def encoded(self) -> bool:
    """Whether a DECODE operator produces the tensor."""
    return not self.left_dense_because


@dataclasses.dataclass(frozen=True)
class EncodedModel:
  """A `.tflite` for TFLM and what was done to each of its constant tensors."""

  model_bytes: bytes
  tensors: tuple[TensorReport, ...]


def pack_pruned(values: np.ndarray, zeros: np.ndarray) -> PackedTensor:
  """Packs a dense array.

  Args:
    values: Array of any shape and of a type TFLM's kernel decodes, little-endian.
    zeros: Array of the same type that broadcasts to `values`: the value a 0 bit
      stands for, per element.

  Returns:
    The buffers; decoding them gives the bytes of `values` back, also for -0.0 and
    NaN, because floats are compared by their bits.
  """
  bits = f"<u{values.dtype.itemsize}"
  stored = (values.view(bits) != zeros.view(bits)).reshape(-1)
  header = bytes([2, 1, 0, 0, 1]).ljust(HEADER_BYTES, b"\0")
  return PackedTensor(
    encoded=np.packbits(stored).tobytes(),
    ancillary=header + values.reshape(-1)[stored].tobytes(),
  )


def encode_pruned(model_bytes: bytes) -> EncodedModel:
  """Rewrites every constant tensor that this makes smaller.

  The values of a buffer are encoded when, summed over all tensors that share it,
  dense bytes exceed encoded bytes + ancillary bytes + SOURCE_OVERHEAD_BYTES for each
  distinct encoding + CONSUMER_OVERHEAD_BYTES for each operator that reads it + 12
  bytes a channel and the name for each reader after the first (its own copy of the
  quantisation). When the whole file would not shrink it is returned as it is.

  Args:
    model_bytes: A `.tflite`, normally full-integer int8.

  Returns:
    The file, the same bytes for the same input, and one report per constant tensor.

  Raises:
    InputError: The bytes are not a consistent `.tflite`.
  """
  model = read_model(model_bytes)
  reports: list[TensorReport] = []
  encoding: dict[tuple[int, int], PackedTensor] = {}
  with flatbuffer_model.reading():
    for places in _places_by_buffer(model).values():
      packed, reason = _encode_shared_buffer(model, places)
      encoding.update(packed)
      reports.extend(
        _report(model, place, packed.get(place), reason) for place in places
      )
    encoded_bytes = _rewrite(model, encoding, len(model_bytes)) if encoding else b""
  if not 0 < len(encoded_bytes) < len(model_bytes):
    encoded_bytes = model_bytes
    reports = [_left_dense(report) for report in reports]
  return EncodedModel(
    encoded_bytes, tuple(sorted(reports, key=lambda each: (each.subgraph, each.index)))
  )


def read_model(model_bytes: bytes) -> Any:
  """Parses a `.tflite` after checking that its parts can be what they claim.

  Args:
    model_bytes: Any bytes.

  Returns:
    The schema's `ModelT` with every list present and every index in range.

  Raises:
    InputError: No TFLite identifier, parts that claim more bytes than the file has,
      an index out of range, or constant data that does not fit its shape.
  """
  if model_bytes[4:8] != b"TFL3":
    raise InputError("the bytes are not a .tflite file (no TFL3 at byte 4); give one")
  with flatbuffer_model.reading():
    _check_claims(schema.Model.GetRootAs(model_bytes, 0), len(model_bytes))
    model = schema.ModelT.InitFromPackedBuf(model_bytes, 0)
    _check_references(model)
  return model


def _check_claims(root: Any, file_bytes: int) -> None:
  """Bounds what unpacking can cost: no part may be claimed many times over.

  A damaged length field would otherwise ask for gigabytes or hours. Converters may
  share strings and vectors, so twice the file is allowed.
  """
  left = 2 * file_bytes

  def claim(count: int, item_bytes: int = 4) -> range:
    nonlocal left
    left -= count * item_bytes
    if left < 0:
      raise ValueError(f"its parts claim more than its {file_bytes} bytes")
    return range(count)

  for number in claim(root.BuffersLength()):
    claim(root.Buffers(number).DataLength(), 1)
  for number in claim(root.SignatureDefsLength()):
    signature = root.SignatureDefs(number)
    claim(signature.InputsLength() + signature.OutputsLength())
  claim(root.OperatorCodesLength() + root.MetadataLength())
  for number in claim(root.SubgraphsLength()):
    subgraph = root.Subgraphs(number)
    claim(subgraph.InputsLength() + subgraph.OutputsLength())
    for index in claim(subgraph.TensorsLength()):
      tensor = subgraph.Tensors(index)
      claim(tensor.ShapeLength() + tensor.ShapeSignatureLength())
      claim(len(tensor.Name() or b""), 1)
      quantization = tensor.Quantization()
      if quantization is not None:
        claim(quantization.ScaleLength() + 2 * quantization.ZeroPointLength())
    for index in claim(subgraph.OperatorsLength()):
      operator = subgraph.Operators(index)
      claim(operator.InputsLength() + operator.OutputsLength())
      claim(operator.CustomOptionsLength(), 1)


def _check_references(model: Any) -> None:
  """Fills absent lists; raises `ValueError` for an index out of range."""
  model.buffers = model.buffers or []
  model.operatorCodes = model.operatorCodes or []
  if not model.subgraphs:
    raise ValueError("no subgraph")
  if model.buffers and flatbuffer_model.is_constant(model, schema.TensorT(buffer=0)):
    raise ValueError("buffer 0 is not empty")
  for subgraph in model.subgraphs:
    subgraph.tensors = subgraph.tensors or []
    subgraph.operators = subgraph.operators or []
    for owner in (subgraph, *subgraph.operators):
      owner.inputs = _indices(owner.inputs)
      owner.outputs = _indices(owner.outputs)
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


def _indices(vector: Optional[np.ndarray]) -> list[int]:
  """Returns a vector of indices as a list, empty when it is absent."""
  return [] if vector is None else [int(index) for index in vector]


def _report(
  model: Any, place: tuple[int, int], packed: Optional[PackedTensor], reason: str
) -> TensorReport:
  """Returns the report of one constant tensor of the dense model."""
  subgraph, index = place
  tensor = model.subgraphs[subgraph].tensors[index]
  dense_bytes = len(model.buffers[tensor.buffer].data)
  return TensorReport(
    name=flatbuffer_model.tensor_name(tensor),
    subgraph=subgraph,
    index=index,
    dense_bytes=dense_bytes,
    stored_bytes=dense_bytes if packed is None else packed.bytes,
    left_dense_because=reason,
  )


def _left_dense(report: TensorReport) -> TensorReport:
  """Returns the report for a file that is not rewritten after all."""
  reason = report.left_dense_because or "the whole file would not shrink"
  return dataclasses.replace(
    report, stored_bytes=report.dense_bytes, left_dense_because=reason
  )


def _places_by_buffer(model: Any) -> dict[int, list[tuple[int, int]]]:
  """Returns (subgraph, tensor) of every tensor with constant data, by buffer."""
  places = collections.defaultdict(list)
  for number, subgraph in enumerate(model.subgraphs):
    for index, tensor in enumerate(subgraph.tensors):
      data = model.buffers[tensor.buffer].data if tensor.buffer else None
      if data is not None and len(data):
        places[tensor.buffer].append((number, index))
  return dict(places)


class _Undecodable(Exception):
  """Why a tensor stays dense."""


def _encode_shared_buffer(
  model: Any, places: list[tuple[int, int]]
) -> tuple[dict[tuple[int, int], PackedTensor], str]:
  """Encodes all tensors of one buffer, or none of them.

  Returns:
    The encodings by place and no reason, or {} and why the values stay dense.
  """
  first = model.subgraphs[places[0][0]].tensors[places[0][1]]
  dense_bytes = len(model.buffers[first.buffer].data)
  if any(metadata.buffer == first.buffer for metadata in model.metadata or ()):
    return {}, "metadata shares its buffer"
  packed = {}
  spent_bytes = 0
  try:
    for number, index in places:
      packed[number, index], readers = _encode_tensor(model, number, index)
      tensor = model.subgraphs[number].tensors[index]
      copied_bytes = 12 * len(_scales(tensor)) + len(tensor.name or b"")
      spent_bytes += CONSUMER_OVERHEAD_BYTES * readers + copied_bytes * (readers - 1)
  except _Undecodable as reason:
    shared = "" if len(places) == 1 else f" (or another of {len(places)} on its buffer)"
    return {}, f"{reason}{shared}"
  for each in set(packed.values()):
    spent_bytes += each.bytes + SOURCE_OVERHEAD_BYTES
  if spent_bytes >= dense_bytes:
    return {}, f"{dense_bytes} bytes dense, {spent_bytes} with DECODE"
  return packed, ""


def _encode_tensor(model: Any, number: int, index: int) -> tuple[PackedTensor, int]:
  """Returns the encoding of one tensor and how many operators read it.

  Raises:
    _Undecodable: The tensor must stay dense.
  """
  subgraph = model.subgraphs[number]
  readers = [operator for operator in subgraph.operators if index in operator.inputs]
  reason = _why_not_decodable(model, subgraph, index, readers)
  if reason is not None:
    raise _Undecodable(reason)
  values = _values(model, subgraph.tensors[index])
  zeros = _zero_points(subgraph.tensors[index], values)
  return pack_pruned(values, zeros), len(readers)


def _why_not_decodable(
  model: Any, subgraph: Any, index: int, readers: list[Any]
) -> Optional[str]:
  """Returns why a DECODE operator may not produce this tensor, or None."""
  tensor = subgraph.tensors[index]
  written = [output for operator in subgraph.operators for output in operator.outputs]
  obstacles = {
    f"TFLM decodes no tensor type {tensor.type}": tensor.type not in _DECODABLE_TYPES,
    "it is a variable": tensor.isVariable,
    "it is stored sparse already": tensor.sparsity is not None,
    "it is an input or output": index in (*subgraph.inputs, *subgraph.outputs),
    "an operator writes it": index in written,
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


def _values(model: Any, tensor: Any) -> np.ndarray:
  """Returns the values of a constant tensor in its shape."""
  data = model.buffers[tensor.buffer].data
  dtype = _DECODABLE_TYPES[tensor.type]
  shape = _indices(tensor.shape)
  # Python integers: a damaged shape must not wrap around to the right product.
  elements = 1
  for size in shape:
    elements *= size
  if min(shape, default=1) < 0 or elements * dtype.itemsize != len(data):
    raise ValueError(f"{len(data)} bytes of data for shape {shape}")
  return np.frombuffer(data.tobytes(), dtype).reshape(shape)


def _scales(tensor: Any) -> list[float]:
  """Returns the quantisation scales of a tensor, none when it is not quantised."""
  quantization = tensor.quantization
  if quantization is None or quantization.scale is None:
    return []
  return [float(scale) for scale in quantization.scale]


def _zero_points(tensor: Any, values: np.ndarray) -> np.ndarray:
  """Returns the value a 0 bit stands for, in a shape that broadcasts to the tensor's.

  Raises:
    _Undecodable: The kernel accepts per-channel quantisation along axis 0 or the last
      axis, and zero points other than 0 for int8; this is something else.
  """
  shape = [1] * values.ndim
  channels = len(_scales(tensor))
  if channels == 0:
    return np.zeros(shape, values.dtype)
  quantization = tensor.quantization
  points = _indices(quantization.zeroPoint)
  axis = quantization.quantizedDimension
  if quantization.detailsType or len(points) != channels:
    raise _Undecodable(f"it has {channels} scales and {len(points)} zero points")
  if axis not in ((0, values.ndim - 1) if channels > 1 else (0,)):
    raise _Undecodable(f"TFLM decodes no {channels} channels on axis {axis}")
  if channels > 1:
    if values.shape[axis] != channels:
      raise _Undecodable(f"it has {channels} scales and shape {values.shape}")
    shape[axis] = channels
  limit = 128 if values.dtype == np.int8 else 0
  if any(not -limit <= point <= max(limit - 1, 0) for point in points):
    raise _Undecodable(f"TFLM decodes no zero points {points[:4]} in {values.dtype}")
  return np.array(points, values.dtype).reshape(shape)


class _AlignedBuffer(schema.BufferT):
  """A buffer whose data starts at a multiple of 16 bytes, as the schema demands.

  Python's generated `Pack` ignores the schema's `force_align`.
  """

  def Pack(self, builder: Any) -> int:
    """Writes the buffer; returns its position in the file under construction."""
    data = np.asarray([] if self.data is None else self.data, np.uint8).tobytes()
    if data:
      builder.StartVector(1, len(data), _BUFFER_ALIGNMENT_BYTES)
      builder.head = builder.Head() - len(data)
      builder.Bytes[builder.head : builder.head + len(data)] = data
      vector = builder.EndVector()
    schema.BufferStart(builder)
    if data:
      schema.BufferAddData(builder, vector)
    return int(schema.BufferEnd(builder))


def _rewrite(
  model: Any, encoding: dict[tuple[int, int], PackedTensor], dense_bytes: int
) -> bytes:
  """Returns the file with the given tensors encoded."""
  code = len(model.operatorCodes)
  model.operatorCodes.append(
    schema.OperatorCodeT(
      builtinCode=_OPERATOR.CUSTOM,
      deprecatedBuiltinCode=_OPERATOR.CUSTOM,
      customCode=DECODE_OPERATOR,
      version=1,
    )
  )
  buffers = _BufferStore(model, encoding)
  for number, subgraph in enumerate(model.subgraphs):
    here = {index: each for (at, index), each in encoding.items() if at == number}
    _insert_decodes(subgraph, here, buffers, code)
  for buffer in model.buffers:
    buffer.__class__ = _AlignedBuffer
  builder = flatbuffers.Builder(dense_bytes + 1024)
  builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
  return bytes(builder.Output())


class _BufferStore:
  """Adds constant data to a model, each distinct content once.

  Buffers that only encoded tensors used are taken over: an index that went out of
  use could not be removed without renumbering all others.
  """

  def __init__(self, model: Any, encoding: Iterable[tuple[int, int]]) -> None:
    self._buffers = model.buffers
    self._index_of: dict[bytes, int] = {}
    tensors = [model.subgraphs[number].tensors[index] for number, index in encoding]
    self._free = sorted({tensor.buffer for tensor in tensors}, reverse=True)
    for index in self._free:
      self._buffers[index].data = None

  def put(self, data: bytes) -> int:
    """Returns the index of the buffer that holds `data`."""
    if data not in self._index_of:
      if not self._free:
        self._free.append(len(self._buffers))
        self._buffers.append(schema.BufferT())
      index = self._free.pop()
      self._buffers[index].data = np.frombuffer(data, np.uint8)
      self._index_of[data] = index
    return self._index_of[data]


def _insert_decodes(
  subgraph: Any, encoding: dict[int, PackedTensor], buffers: _BufferStore, code: int
) -> None:
  """Puts one DECODE before each operator that reads encoded tensors.

  A decoded tensor may be overwritten after the next operator, so each reader has its
  own: the first one the original tensor, which keeps indices and names comparable
  with the dense file, later ones a copy.
  """
  source_of: dict[int, int] = {}

  def source(data: bytes) -> int:
    buffer = buffers.put(data)
    if buffer not in source_of:
      source_of[buffer] = _append_tensor(
        subgraph,
        schema.TensorT(shape=[len(data)], type=schema.TensorType.UINT8, buffer=buffer),
      )
    return source_of[buffer]

  operators = []
  decoded: set[int] = set()
  for operator in subgraph.operators:
    reads = sorted(set(operator.inputs) & encoding.keys())
    if reads:
      sources = [
        source(data)
        for index in reads
        for data in (encoding[index].encoded, encoding[index].ancillary)
      ]
      target_of = {}
      for index in reads:
        tensor = subgraph.tensors[index]
        tensor.buffer = 0
        again = index in decoded
        target_of[index] = (
          _append_tensor(subgraph, copy.copy(tensor)) if again else index
        )
      decoded.update(reads)
      operator.inputs = [target_of.get(index, index) for index in operator.inputs]
      operators.append(
        schema.OperatorT(
          opcodeIndex=code, inputs=sources, outputs=list(target_of.values())
        )
      )
    operators.append(operator)
  subgraph.operators = operators


def _append_tensor(subgraph: Any, tensor: Any) -> int:
  """Adds a tensor to a subgraph and returns its index."""
  subgraph.tensors.append(tensor)
  return len(subgraph.tensors) - 1
