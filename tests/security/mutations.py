"""Damages bytes, blindly and where lengths and offsets stand."""

import struct
from collections.abc import Callable, Sequence

import numpy as np

_ODD_BYTES = (0, 1, 2, 127, 128, 254, 255)
_ODD_NUMBERS = (
  *(0, 1, 2, 3, 4, 7, 8, 255, 256, 65535, 65536, 2**24, 2**30, 2**31 - 1, 2**31),
  *(2**32 - 4, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1),
)


def mutated(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  """Returns content after one to four mutations.

  Args:
    content: What to damage.
    others: Whose pieces may be spliced in.
    generator: Decides everything.
  """
  for _ in range(generator.integers(1, 5)):
    change = _CHANGES[generator.integers(len(_CHANGES))]
    content = change(content, others, generator)
  return content


def _place(content: bytes, generator: np.random.Generator, aligned: int = 1) -> int:
  return int(generator.integers(0, max(len(content), 1))) // aligned * aligned


def _piece(content: bytes, generator: np.random.Generator) -> tuple[int, int]:
  first = _place(content, generator)
  # Short pieces are as likely as long ones.
  return first, first + int(2 ** generator.uniform(0, np.log2(len(content) + 2)))


def _flip(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  changed = bytearray(content)
  for _ in range(generator.integers(1, 9)):
    if changed:
      changed[_place(content, generator)] ^= 1 << int(generator.integers(8))
  return bytes(changed)


def _odd_bytes(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  changed = bytearray(content)
  for _ in range(generator.integers(1, 9)):
    if changed:
      changed[_place(content, generator)] = _ODD_BYTES[generator.integers(7)]
  return bytes(changed)


def _odd_number(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  """Writes a number where offsets, lengths and counts stand: at multiples of four."""
  number = _ODD_NUMBERS[generator.integers(len(_ODD_NUMBERS))]
  written = struct.pack("<Q", number)[: (2, 4, 8)[generator.integers(3)]]
  place = _place(content, generator, aligned=4)
  return content[:place] + written + content[place + len(written) :]


def _moved_number(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  """Lets an offset or a length point a little elsewhere."""
  place = _place(content, generator, aligned=4)
  if place + 4 > len(content):
    return content
  (number,) = struct.unpack_from("<I", content, place)
  moved = (number + int(generator.integers(-16, 17))) % 2**32
  return content[:place] + struct.pack("<I", moved) + content[place + 4 :]


def _cut(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  return content[: _place(content, generator)]


def _without(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  first, last = _piece(content, generator)
  return content[:first] + content[last:]


def _repeated(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  first, last = _piece(content, generator)
  return (
    content[:last]
    + content[first:last] * int(generator.integers(1, 4))
    + content[last:]
  )


def _spliced(
  content: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  other = others[generator.integers(len(others))]
  first, last = _piece(other, generator)
  place = _place(content, generator)
  kept = place + (last - first) * int(generator.integers(2))
  return content[:place] + other[first:last] + content[kept:]


_Change = Callable[[bytes, Sequence[bytes], np.random.Generator], bytes]
_CHANGES: tuple[_Change, ...] = (
  _flip, _odd_bytes, _odd_number, _odd_number, _moved_number, _cut, _without, _repeated,
  _spliced,
)  # fmt: skip
