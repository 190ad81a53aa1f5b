"""Takes out of a `.tflite` what TFLM does not read, and writes the rest compactly.

What is left loads in TFLM only, unless names are kept: LiteRT asks for one zero point a
channel, and its XNNPACK delegate for the biases' scales.
"""

import dataclasses
from typing import Any

from tflite_export.decode.tflm_shrink_steps import ANONYMOUS_STEPS, STEPS
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.compact_writer import write_compact


@dataclasses.dataclass(frozen=True)
class ShrunkModel:
  """A file without what TFLM does not read.

  Attributes:
    model_bytes: The file.
    tensors: For each subgraph, the index in the given file of each tensor.
  """

  model_bytes: bytes
  tensors: tuple[tuple[int, ...], ...]


def shrink(model_bytes: bytes, keep_names: bool = False) -> ShrunkModel:
  """Applies all steps and writes what is equal once.

  Args:
    model_bytes: A `.tflite`.
    keep_names: Leaves in what other tools ask for: names, signatures, description,
      metadata and all quantisation. The file loads in LiteRT then.

  Returns:
    The file, or the given one if that is not larger.

  Raises:
    InputError: The bytes are not a consistent `.tflite`.
  """
  model = flatbuffer_model.read_model(model_bytes)
  with flatbuffer_model.reading():
    before = [list(subgraph.tensors) for subgraph in model.subgraphs]
    for step in STEPS if keep_names else (*ANONYMOUS_STEPS, *STEPS):
      step(model)
    tensors = tuple(
      _positions(subgraph.tensors, given)
      for subgraph, given in zip(model.subgraphs, before, strict=True)
    )
    shrunk_bytes = write_compact(model)
  if len(shrunk_bytes) < len(model_bytes):
    return ShrunkModel(shrunk_bytes, tensors)
  return ShrunkModel(model_bytes, tuple(tuple(range(len(each))) for each in before))


def _positions(kept: list[Any], given: list[Any]) -> tuple[int, ...]:
  """Returns where each kept tensor stood."""
  index_of = {id(tensor): index for index, tensor in enumerate(given)}
  return tuple(index_of[id(tensor)] for tensor in kept)
