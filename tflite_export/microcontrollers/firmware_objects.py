"""Reads what compiled sources of firmware take, from what binutils' `size -A` prints."""

import dataclasses

_KINDS = ("text", "rodata", "data", "bss")


@dataclasses.dataclass(frozen=True)
class FirmwareObject:
  """One source compiled for one processor: its bytes by kind of section.

  Flash holds text, rodata and data; RAM holds data and bss.

  Attributes:
    compiler: Name and version.
    cpu: As the compiler's `-mcpu` names it.
    source: Name of the file.
    text_bytes: Code.
    rodata_bytes: Constants.
    data_bytes: Variables with an initial value.
    bss_bytes: Variables that begin at zero.
  """

  compiler: str
  cpu: str
  source: str
  text_bytes: int
  rodata_bytes: int
  data_bytes: int
  bss_bytes: int

  @property
  def flash_bytes(self) -> int:
    """What stays in flash."""
    return self.text_bytes + self.rodata_bytes + self.data_bytes

  @property
  def ram_bytes(self) -> int:
    """What lies in RAM."""
    return self.data_bytes + self.bss_bytes


def section_bytes(listing: str) -> dict[str, int]:
  """Sums the sections of one object by kind.

  A compiler gives functions and constants sections of their own, `.text._Z4loopv` for
  one; what names no kind (`.comment`, `.ARM.attributes`) is never loaded.

  Args:
    listing: What `size -A` prints for one object.

  Returns:
    `text`, `rodata`, `data` and `bss`, in bytes.
  """
  sizes = dict.fromkeys(_KINDS, 0)
  for line in listing.splitlines():
    words = line.split()
    kind = words[0].split(".")[1] if line.startswith(".") and len(words) > 1 else ""
    if kind in sizes:
      sizes[kind] += int(words[1])
  return sizes
