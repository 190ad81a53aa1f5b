"""What may be chosen about a microcontroller's files."""

import dataclasses
from typing import Optional


@dataclasses.dataclass(frozen=True)
class McuOptions:
  """Numbers, names and memory of the files for TFLM.

  Attributes:
    activation_bits: 8 or 16; weights have 8 either way.
    float_ends: Whether input and output are float32 instead of integers.
    keep_names: Whether names, signatures and metadata stay in the files.
    flash_bytes: What the model and its arrays may take; None without a limit.
    ram_bytes: What the tensor arena may take, its margin included; None without a limit.
  """

  activation_bits: int = 8
  float_ends: bool = False
  keep_names: bool = False
  flash_bytes: Optional[int] = None
  ram_bytes: Optional[int] = None

  @property
  def is_bounded(self) -> bool:
    """Whether any memory is limited."""
    return self.flash_bytes is not None or self.ram_bytes is not None
