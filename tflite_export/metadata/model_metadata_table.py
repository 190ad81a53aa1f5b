"""A view of one flatbuffer table that never reads more than the buffer can hold."""

import dataclasses
from typing import Optional

import numpy as np
from flatbuffers import encode
from flatbuffers import number_types as types
from flatbuffers.table import Table as Raw


@dataclasses.dataclass
class _Budget:
  """What reading may cost: damaged offsets can claim the same bytes many times."""

  left_bytes: int

  def spend(self, count: int) -> None:
    """Raises `ValueError` when more is claimed than a buffer holds twice."""
    self.left_bytes -= count
    if self.left_bytes < 0:
      raise ValueError("the parts of its metadata claim more than its bytes")


class Table:
  """A table whose fields are read by their places.

  All methods raise `ValueError`, `struct.error` or the like where bytes are damaged:
  use it within `flatbuffer_model.reading`.
  """

  def __init__(self, raw: Raw, budget: _Budget):
    """Wraps a table of the flatbuffers package."""
    self._raw = raw
    self._budget = budget

  @classmethod
  def root(cls, content: bytes) -> "Table":
    """Returns the outermost table of a flatbuffer."""
    start = encode.Get(types.UOffsetTFlags.packer_type, content, 0)
    return cls(Raw(content, start), _Budget(2 * len(content)))

  def byte(self, field: int) -> int:
    """Returns a field of one byte, 0 if it is absent."""
    where = self._where(field)
    return int(self._raw.Get(types.Uint8Flags, where)) if where else 0

  def text(self, field: int) -> Optional[str]:
    """Returns a string, None if it is absent."""
    where = self._where(field)
    if not where:
      return None
    start = where + self._raw.Get(types.UOffsetTFlags, where)
    length = self._raw.Get(types.UOffsetTFlags, start)
    return self._slice(start + 4, length).decode("utf-8", errors="replace")

  def data(self, field: int) -> bytes:
    """Returns a vector of bytes, empty if it is absent."""
    start, length = self._vector(field)
    return self._slice(start, length)

  def floats(self, field: int) -> Optional[tuple[float, ...]]:
    """Returns a vector of float32, None if it is absent."""
    start, length = self._vector(field)
    if not start:
      return None
    values = np.frombuffer(self._slice(start, 4 * length), "<f4")
    return tuple(float(value) for value in values)

  def table(self, field: int) -> Optional["Table"]:
    """Returns a table, None if it is absent."""
    where = self._where(field)
    return self._table(where) if where else None

  def tables(self, field: int) -> list["Table"]:
    """Returns a vector of tables, empty if it is absent."""
    start, length = self._vector(field)
    self._budget.spend(4 * length)
    return [self._table(start + 4 * index) for index in range(length)]

  def _where(self, field: int) -> int:
    """Returns where a field stands in the buffer, 0 if it is absent."""
    # A vtable begins with its own size and the table's.
    offset = int(self._raw.Offset(4 + 2 * field))
    return int(self._raw.Pos + offset) if offset else 0

  def _table(self, where: int) -> "Table":
    self._budget.spend(4)
    start = where + self._raw.Get(types.UOffsetTFlags, where)
    return Table(Raw(self._raw.Bytes, start), self._budget)

  def _vector(self, field: int) -> tuple[int, int]:
    """Returns where a vector's items start, and how many there are; zeros if absent."""
    where = self._where(field)
    if not where:
      return 0, 0
    start = where + self._raw.Get(types.UOffsetTFlags, where)
    return start + 4, int(self._raw.Get(types.UOffsetTFlags, start))

  def _slice(self, start: int, length: int) -> bytes:
    if length > len(self._raw.Bytes) - start:
      raise ValueError(f"{length} bytes at {start} of {len(self._raw.Bytes)}")
    self._budget.spend(length)
    content: bytes = self._raw.Bytes[start : start + length]
    return content
