"""What a file's `TFLM_DECODE` operators unpack, read without running anything.

The layouts are told in `pruned_tensor` and `lut_tensor`.
"""

import dataclasses
import math
from typing import Any, Optional

import numpy as np

from fedtiny_tff.arrays import Array
from tflite_export.decode.tflm_insert import DECODE_OPERATOR
from tflite_export.file_format import flatbuffer_model

# First byte of an ancillary tensor; source: TFLM's `compression/decode.py`.
_FORMS = {0: "LUT", 1: "HUFFMAN", 2: "PRUNING"}
_UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Decoded:
  """What one operator unpacks.

  Attributes:
    forms: How its tensors are stored, in alphabetical order.
    stored_bytes: Of all of them in the file, headers included.
    density: Share of values that are stored, the others being zero; None unless all
      tensors are in form PRUNING.
  """

  forms: tuple[str, ...]
  stored_bytes: int
  density: Optional[float]


def find(model: Any, subgraph: Any) -> dict[int, Decoded]:
  """Finds the operators of a subgraph that unpack tensors.

  Args:
    model: As `flatbuffer_model.read_model` gives it.
    subgraph: One of its subgraphs.

  Returns:
    What they unpack, by the operator's index.
  """
  ones: dict[int, int] = {}
  return {
    index: _decoded(model, subgraph, operator, ones)
    for index, operator in enumerate(subgraph.operators)
    if _name(model, operator) == DECODE_OPERATOR.encode() and operator.outputs
  }


def _name(model: Any, operator: Any) -> bytes:
  return bytes(model.operatorCodes[operator.opcodeIndex].customCode or b"")


def _decoded(model: Any, subgraph: Any, operator: Any, ones: dict[int, int]) -> Decoded:
  """Sums up the tensors of an operator: (encoded, ancillary) in, one tensor out.

  Bits are counted once a tensor, in `ones`: hostile files name one many times.
  """
  forms: set[str] = set()
  stored_bytes = 0
  counts: list[Optional[tuple[int, int]]] = []
  pairs = zip(operator.inputs[::2], operator.inputs[1::2], strict=False)
  for (encoded, ancillary), output in zip(pairs, operator.outputs, strict=False):
    bits, values = (_bytes(model, subgraph, each) for each in (encoded, ancillary))
    form = _FORMS.get(values[0], _UNKNOWN) if len(values) else _UNKNOWN
    forms.add(form)
    stored_bytes += len(bits) + len(values)
    size = _size(subgraph, output)
    if form != "PRUNING" or not size or len(bits) != math.ceil(size / 8):
      counts.append(None)
      continue
    if encoded not in ones:
      ones[encoded] = int(np.unpackbits(bits).sum())
    counts.append((ones[encoded], size))
  kept = [each for each in counts if each is not None]
  is_known = bool(kept) and len(kept) == len(counts)
  return Decoded(
    tuple(sorted(forms)) or (_UNKNOWN,),
    stored_bytes,
    sum(count for count, _ in kept) / sum(of for _, of in kept) if is_known else None,
  )


def _size(subgraph: Any, index: int) -> int:
  """Returns how many values a tensor has; 0 where that cannot be."""
  shape = (
    flatbuffer_model.integers(subgraph.tensors[index].shape) if index >= 0 else [0]
  )
  return math.prod(shape) if min(shape, default=1) > 0 else 0


def _bytes(model: Any, subgraph: Any, index: int) -> Array:
  """Returns a constant's bytes; none of what is left out or no constant."""
  data = model.buffers[subgraph.tensors[index].buffer].data if index >= 0 else None
  return np.ascontiguousarray([] if data is None else data, np.uint8)
