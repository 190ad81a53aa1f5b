"""Stores the constants of a `.tflite` compactly, wherever that makes it smaller.

The custom operator `TFLM_DECODE` writes a tensor stored in the form of `pruned_tensor`
or `lut_tensor` into the arena, dense, right before each operator that reads it.

Source: TFLM's `compression/decode.py`.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Optional

from tflite_export.decode import tflm_insert
from tflite_export.decode.tflm_decodable import (
  Undecodable,
  Uses,
  decodable_tensor,
  uses_of,
)
from tflite_export.decode.tflm_shrink_steps import PLAN_METADATA
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.lut_tensor import pack_lut
from tflite_export.file_format.pruned_tensor import PackedTensor, pack_pruned

# What a file grows by for a tensor besides the payload (tables, offsets, padding to 16
# bytes) lies between these; where that decides, the file is written both ways.
LEAST_OVERHEAD_BYTES = 64
SOURCE_OVERHEAD_BYTES = 192
READER_OVERHEAD_BYTES = 160
# A trial takes time with the number of tensors.
_TRIED_TENSORS = 10_000

_Place = tuple[int, int]
_Encoding = dict[_Place, PackedTensor]


@dataclasses.dataclass(frozen=True)
class TensorReport:
  """What became of one constant tensor.

  Attributes:
    name: The tensor's name.
    subgraph: Index of its subgraph.
    index: Index in the subgraph, the same in the dense and the encoded file.
    dense_bytes: Size of its values.
    stored_bytes: Size of encoded + ancillary; `dense_bytes` when it was left dense.
    form: "PRUNING" or "LUT"; empty when it was left dense.
    left_dense_because: The reason, empty when it was encoded.
  """

  name: str
  subgraph: int
  index: int
  dense_bytes: int
  stored_bytes: int
  form: str
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


@dataclasses.dataclass(frozen=True)
class _Candidate:
  """All tensors of one buffer, packed.

  Attributes:
    packed: Their encodings by place.
    gain_bytes: How much smaller the payload is than the buffer.
    overhead_bytes: What the rest grows by at most.
  """

  packed: _Encoding
  gain_bytes: int
  overhead_bytes: int


def encode_pruned(
  model_bytes: bytes, left_dense: Mapping[_Place, str] = MappingProxyType({})
) -> EncodedModel:
  """Rewrites every constant tensor that this makes smaller.

  The tensors of one buffer are encoded together or not at all; each in the form that
  takes less, PRUNING where both take the same. What is gained must exceed what
  operators and tensors cost: files are written and compared where that is close.
  When nothing is gained the file is returned as it is.

  Args:
    model_bytes: A `.tflite`, normally full-integer int8.
    left_dense: (subgraph, index) of tensors that are not to be encoded, nor those of
      their buffers, and why.

  Returns:
    The file, the same bytes for the same input, and one report per constant tensor.

  Raises:
    InputError: The bytes are not a consistent `.tflite`.
  """
  model = flatbuffer_model.read_model(model_bytes)
  candidates: list[_Candidate] = []
  reason_of: dict[_Place, str] = {}
  with flatbuffer_model.reading():
    groups = list(_places_by_buffer(model).values())
    uses = [uses_of(subgraph) for subgraph in model.subgraphs]
    for group in groups:
      reason = next((left_dense[each] for each in group if each in left_dense), "")
      candidate = None
      if not reason:
        candidate, reason = _candidate(model, group, uses)
      reason_of.update(dict.fromkeys(group, reason))
      if candidate is not None:
        candidates.append(candidate)
    tensors = sum(len(each.tensors) for each in model.subgraphs)
    most_trials = _TRIED_TENSORS // max(tensors, 1)
    encoded_bytes, chosen = _smallest(model_bytes, candidates, most_trials)
    packed = {place: each for one in chosen for place, each in one.packed.items()}
    reports = [
      _report(model, place, packed.get(place), reason_of[place])
      for place in sorted(reason_of)
    ]
  return EncodedModel(encoded_bytes, tuple(reports))


def _smallest(
  model_bytes: bytes, candidates: list[_Candidate], most_trials: int
) -> tuple[bytes, list[_Candidate]]:
  """Returns the smallest file found and what is encoded in it."""
  if not candidates:
    return model_bytes, []
  chosen = sorted(candidates, key=lambda each: each.gain_bytes - each.overhead_bytes)
  close = [each for each in chosen if each.gain_bytes <= each.overhead_bytes]
  # The least promising stay dense untried.
  untried = max(len(close) - most_trials, 0)
  close, chosen = close[untried:], chosen[untried:]
  smallest = _written(model_bytes, chosen)
  for each in close:
    others = [other for other in chosen if other is not each]
    without = _written(model_bytes, others)
    if len(without) <= len(smallest):
      smallest, chosen = without, others
  if chosen and len(smallest) < len(model_bytes):
    return smallest, chosen
  return model_bytes, []


def _written(model_bytes: bytes, chosen: Iterable[_Candidate]) -> bytes:
  """Returns the file with the chosen tensors encoded."""
  model = flatbuffer_model.read_model(model_bytes)
  encoding = {place: each for one in chosen for place, each in one.packed.items()}
  if encoding:
    tflm_insert.insert_decodes(model, encoding)
  return write_compact(model)


def _report(
  model: Any, place: _Place, packed: Optional[PackedTensor], reason: str
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
    form="" if packed is None else packed.form,
    left_dense_because="" if packed else reason or "the file would not get smaller",
  )


def _places_by_buffer(model: Any) -> dict[int, list[_Place]]:
  """Returns (subgraph, tensor) of every tensor with constant data, by buffer."""
  places = collections.defaultdict(list)
  for number, subgraph in enumerate(model.subgraphs):
    for index, tensor in enumerate(subgraph.tensors):
      data = model.buffers[tensor.buffer].data if tensor.buffer else None
      if data is not None and len(data):
        places[tensor.buffer].append((number, index))
  return dict(places)


def _candidate(
  model: Any, places: list[_Place], uses: list[Uses]
) -> tuple[Optional[_Candidate], str]:
  """Packs all tensors of one buffer, or none of them.

  Returns:
    What could be stored and no reason, or None and why the values stay dense.
  """
  first = model.subgraphs[places[0][0]].tensors[places[0][1]]
  dense_bytes = len(model.buffers[first.buffer].data)
  for metadata in model.metadata or ():
    if metadata.name == PLAN_METADATA:
      return None, "the file plans the memory of its tensors"
    if metadata.buffer == first.buffer:
      return None, "metadata shares its buffer"
  packed: _Encoding = {}
  overhead_bytes = 0
  try:
    for number, index in places:
      tensor = model.subgraphs[number].tensors[index]
      found = decodable_tensor(model, tensor, index, uses[number])
      pruned = pack_pruned(found.values, found.zeros)
      table = pack_lut(found.values, found.channel_axis, pruned.bytes)
      packed[number, index] = table or pruned
      copied_bytes = len(tensor.name or b"")
      overhead_bytes += (READER_OVERHEAD_BYTES + copied_bytes) * found.readers
  except Undecodable as reason:
    shared = "" if len(places) == 1 else f" (or another of {len(places)} on its buffer)"
    return None, f"{reason}{shared}"
  stored = set(packed.values())
  overhead_bytes += SOURCE_OVERHEAD_BYTES * len(stored)
  gain_bytes = dense_bytes - sum(each.bytes for each in stored)
  if gain_bytes <= LEAST_OVERHEAD_BYTES:
    needed = dense_bytes - gain_bytes + LEAST_OVERHEAD_BYTES
    return None, f"{dense_bytes} bytes dense, {needed} or more with DECODE"
  return _Candidate(packed, gain_bytes, overhead_bytes), ""
