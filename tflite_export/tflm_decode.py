"""Stores the zeros of a `.tflite` compactly, wherever that makes it smaller.

The custom operator `TFLM_DECODE` writes a tensor stored in the form of `pruned_tensor`
into the arena, dense, right before each operator that reads it.

Source: TFLM's `compression/decode.py`.
"""

import collections
import dataclasses
from typing import Any, Optional

from tflite_export import flatbuffer_model, flatbuffer_writer, tflm_insert
from tflite_export.pruned_tensor import PackedTensor, pack_pruned
from tflite_export.tflm_decodable import Undecodable, decodable_tensor

# What a file grows by besides the payload (tables, offsets, padding to 16 bytes):
# upper bounds, measured, so that a tensor counted as a gain is one.
SOURCE_OVERHEAD_BYTES = 40
CONSUMER_OVERHEAD_BYTES = 128


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
  model = flatbuffer_model.read_model(model_bytes)
  reports: list[TensorReport] = []
  encoding: dict[tuple[int, int], PackedTensor] = {}
  with flatbuffer_model.reading():
    for places in _places_by_buffer(model).values():
      packed, reason = _encode_shared_buffer(model, places)
      encoding.update(packed)
      reports.extend(
        _report(model, place, packed.get(place), reason) for place in places
      )
    encoded_bytes = b""
    if encoding:
      tflm_insert.insert_decodes(model, encoding)
      encoded_bytes = flatbuffer_writer.write_model(model)
  if not 0 < len(encoded_bytes) < len(model_bytes):
    encoded_bytes = model_bytes
    reports = [_left_dense(report) for report in reports]
  return EncodedModel(
    encoded_bytes, tuple(sorted(reports, key=lambda each: (each.subgraph, each.index)))
  )


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
      subgraph = model.subgraphs[number]
      found = decodable_tensor(model, subgraph, index)
      packed[number, index] = pack_pruned(found.values, found.zeros)
      copied_bytes = 12 * found.channels + len(subgraph.tensors[index].name or b"")
      spent_bytes += CONSUMER_OVERHEAD_BYTES * found.readers
      spent_bytes += copied_bytes * (found.readers - 1)
  except Undecodable as reason:
    shared = "" if len(places) == 1 else f" (or another of {len(places)} on its buffer)"
    return {}, f"{reason}{shared}"
  for each in set(packed.values()):
    spent_bytes += each.bytes + SOURCE_OVERHEAD_BYTES
  if spent_bytes >= dense_bytes:
    return {}, f"{dense_bytes} bytes dense, {spent_bytes} with DECODE"
  return packed, ""
