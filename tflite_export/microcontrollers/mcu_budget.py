"""Holds a microcontroller's file to the flash and the RAM there is for it.

A decoded tensor lives in the arena while its readers run, so that what encoding saves in
flash it costs in RAM. Under a limit of RAM the tensors to encode are therefore chosen:
the largest saving first, each if the arena then still fits, as measured in TFLM.

That is near the best choice, because tensors hardly compete: each counts against the peak
at its own readers only, and fits there or not, whatever else is encoded. What they add for
good is some 200 bytes each, TFLM's own structures. Of all 2,048 choices for ResNet-8 and
each of the 104 limits at which something changes, this one's file is the smallest 93
times, and at most 4.3 % larger otherwise; for DS-CNN 6 of 7 times, and 0.1 % larger.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Optional

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.preprocessing import Preprocessing
from tflite_export.artifacts import BudgetError
from tflite_export.decode.tflm_decode import EncodedModel, TensorReport, encode_pruned
from tflite_export.file_format import flatbuffer_model
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import c_source
from tflite_export.runtimes import tflm

TOO_MUCH_RAM = "decoded, it does not fit into the RAM allowed"
# Each takes about a tenth of a second; what saves less than so many others stays dense.
_MOST_TRIALS = 256

_Place = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Footprint:
  """Memory that firmware needs for a model, without the interpreter and its kernels.

  Attributes:
    flash_bytes: The model and the arrays beside it.
    ram_bytes: The tensor arena to declare, its margin included.
    dense_for_ram_bytes: Weights of layers that could be encoded, had there been RAM to
      decode them in; where flash is short, more RAM may be what helps.
  """

  flash_bytes: int
  ram_bytes: int
  dense_for_ram_bytes: int = 0

  def fits(self, options: McuOptions) -> bool:
    """Returns whether it keeps within all limits."""
    return not self.excesses(options)

  def excesses(self, options: McuOptions) -> list[str]:
    """Returns for each limit that is not kept what is needed and what is allowed."""
    kept = self.dense_for_ram_bytes
    cause = f" ({kept:,} of them stay dense for want of RAM)" if kept else ""
    limits = (
      ("flash", self.flash_bytes, options.flash_bytes, cause),
      ("RAM", self.ram_bytes, options.ram_bytes, ""),
    )
    return [
      f"{name} {needed:,} bytes needed{why}, {allowed:,} allowed"
      for name, needed, allowed, why in limits
      if allowed is not None and needed > allowed
    ]


def footprint(
  model_bytes: bytes,
  arena: tflm.Arena,
  class_names: Optional[Sequence[str]],
  preprocessing: Optional[Preprocessing] = None,
) -> Footprint:
  """Returns what a file takes.

  Args:
    model_bytes: The `.tflite`.
    arena: As measured on it.
    class_names: Names that its settings hold; None where there are no classes.
    preprocessing: Whose means and deviations they hold; None for none.
  """
  arrays_bytes = c_source.array_bytes(model_bytes, class_names, preprocessing)
  return Footprint(len(model_bytes) + arrays_bytes, arena.recommended_bytes)


def dense_for_ram_bytes(encoded: EncodedModel) -> int:
  """Returns the bytes of the weights that `encode_within` left dense for want of RAM."""
  return sum(
    each.dense_bytes
    for each in encoded.tensors
    if each.left_dense_because == TOO_MUCH_RAM
  )


def encode_within(
  model_bytes: bytes, ram_bytes: Optional[int], inputs: Array
) -> EncodedModel:
  """Encodes every tensor whose decoded values there is RAM for.

  Args:
    model_bytes: The dense `.tflite`.
    ram_bytes: What the arena may take; None without a limit.
    inputs: float [N, ...] of the file; the first row is computed.

  Returns:
    The file, the same bytes for the same input. Where nothing fits it is the dense one,
    which may itself be too large: that is for `check` to say.
  """
  everything = encode_pruned(model_bytes)
  if ram_bytes is None or _arena_bytes(everything, inputs) <= ram_bytes:
    return everything
  groups = _by_saving(model_bytes, everything)
  left_dense = {place for group in groups for place in group}
  best = encode_pruned(model_bytes, dict.fromkeys(left_dense, TOO_MUCH_RAM))
  for group in groups[:_MOST_TRIALS]:
    without = left_dense.difference(group)
    trial = encode_pruned(model_bytes, dict.fromkeys(without, TOO_MUCH_RAM))
    smaller = len(trial.model_bytes) < len(best.model_bytes)
    if smaller and _arena_bytes(trial, inputs) <= ram_bytes:
      best, left_dense = trial, without
  return best


def _arena_bytes(encoded: EncodedModel, inputs: Array) -> int:
  return tflm.run(encoded.model_bytes, inputs[:1]).arena.recommended_bytes


def _by_saving(model_bytes: bytes, everything: EncodedModel) -> list[list[_Place]]:
  """Returns the encoded tensors, those of one buffer together, largest saving first."""
  model = flatbuffer_model.read_model(model_bytes)
  groups: dict[int, list[TensorReport]] = collections.defaultdict(list)
  for report in everything.tensors:
    if report.encoded:
      tensor = model.subgraphs[report.subgraph].tensors[report.index]
      groups[tensor.buffer].append(report)

  def saving(group: list[TensorReport]) -> int:
    return group[0].dense_bytes - max(each.stored_bytes for each in group)

  # Stable, so that equal savings stay in the order of the file.
  ordered = sorted(groups.values(), key=saving, reverse=True)
  return [[(each.subgraph, each.index) for each in group] for group in ordered]


def check(found: Footprint, dense: Footprint, options: McuOptions) -> None:
  """Checks that a file keeps within its limits.

  Args:
    found: What it takes.
    dense: What its dense twin takes, for the message.
    options: The limits.

  Raises:
    BudgetError: With all figures.
  """
  excesses = found.excesses(options)
  if excesses:
    raise BudgetError(
      f"{'; '.join(excesses)} (the dense twin needs {dense.flash_bytes:,} bytes of flash "
      f"and {dense.ram_bytes:,} of RAM; code of the interpreter is not counted)"
    )
