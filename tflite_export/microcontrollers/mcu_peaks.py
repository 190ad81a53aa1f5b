"""Tells what lies in the arena beside each decoded tensor, from the file alone.

TFLM's planner gives a tensor memory from the operator that writes it to the last that
reads it, in multiples of 16 bytes; inputs from the beginning, outputs to the end.
Scratch memory of kernels comes on top: `tflm.Arena` has the measured total.

Source: TFLM's `micro_allocation_info.cc`.
"""

import dataclasses
import math
from typing import Any

from tflite_export.decode import tflm_insert
from tflite_export.file_format import flatbuffer_model
from tflite_export.runtimes import tflm

_Place = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Peaks:
  """Sums of the tensors that lie in the arena at the same time.

  Attributes:
    highest_bytes: The largest sum of all.
    decoded: (subgraph, index) of a tensor that a DECODE writes to the largest sum while
      its values are there, or those of another tensor from the same source.
  """

  highest_bytes: int
  decoded: dict[_Place, int]


def peaks(model_bytes: bytes) -> Peaks:
  """Returns the sums of a file.

  Raises:
    InputError: A damaged file.
  """
  model = flatbuffer_model.read_model(model_bytes)
  highest = 0
  decoded: dict[_Place, int] = {}
  with flatbuffer_model.reading():
    for number, graph in enumerate(model.subgraphs):
      lives = _lives(model, graph)
      alive = [0] * max(len(graph.operators), 1)
      for index, (first, last) in lives.items():
        size = _arena_bytes(graph.tensors[index])
        for step in range(first, last + 1):
          alive[step] += size
      highest = max(highest, *alive)
      for copies in _copies(model, graph):
        spans = [lives[index] for index in copies]
        sums = max(max(alive[first : last + 1]) for first, last in spans)
        decoded.update(dict.fromkeys(((number, index) for index in copies), sums))
  return Peaks(highest, decoded)


def _lives(model: Any, graph: Any) -> dict[int, tuple[int, int]]:
  """Returns from which operator to which a tensor is in the arena, by its index."""
  last_step = max(len(graph.operators) - 1, 0)
  first: dict[int, int] = {index: 0 for index in graph.inputs}
  last: dict[int, int] = {}
  for step, operator in enumerate(graph.operators):
    for index in operator.outputs:
      first.setdefault(index, step)
      last[index] = step
    for index in operator.inputs:
      last[index] = step
  last.update(dict.fromkeys(graph.outputs, last_step))
  return {
    index: (begin, last.get(index, begin))
    for index, begin in first.items()
    if index >= 0 and not flatbuffer_model.is_constant(model, graph.tensors[index])
  }


def _arena_bytes(tensor: Any) -> int:
  """Returns the memory of a tensor's values."""
  values = math.prod(flatbuffer_model.integers(tensor.shape))
  size = values * flatbuffer_model.item_bytes(tensor)
  return math.ceil(size / tflm.ARENA_ALIGNMENT_BYTES) * tflm.ARENA_ALIGNMENT_BYTES


def _copies(model: Any, graph: Any) -> list[list[int]]:
  """Returns the indices of what is decoded from each source."""
  by_source: dict[tuple[int, int], list[int]] = {}
  for operator in graph.operators:
    if model.operatorCodes[operator.opcodeIndex].customCode == _DECODE:
      for position, index in enumerate(operator.outputs):
        encoded, ancillary = operator.inputs[2 * position : 2 * position + 2]
        by_source.setdefault((int(encoded), int(ancillary)), []).append(int(index))
  return list(by_source.values())


_DECODE = tflm_insert.DECODE_OPERATOR.encode()
