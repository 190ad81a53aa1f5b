"""Writes `.tflite` bytes in which whatever is equal stands once.

A flatbuffer refers to strings, vectors and tables by offset, so any number of tables
can refer to one. The standard builder shares layouts of tables (vtables) only; here
each string, vector and table is looked up before it is written. Where constant data are
aligned, small vectors fill the gaps. The result is an ordinary flatbuffer for every
reader.

Format: https://flatbuffers.dev/internals/
"""

from collections.abc import Callable, Hashable
from typing import Any, Optional

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from tflite_export.file_format.flatbuffer_writer import BUFFER_ALIGNMENT_BYTES
from tflite_export.file_format.vector_order import Vector, without_gaps

_OFFSET_BYTES = 4


def write_compact(model: schema.ModelT) -> bytes:
  """Returns the file of a model, the same bytes for the same model.

  Constant data start at multiples of 16 bytes, as the schema demands; equal data of
  several buffers are stored once.

  Args:
    model: A model as `flatbuffer_model.read_model` gives it; its buffers are
      changed to the class that writes them aligned.
  """
  for buffer in model.buffers:
    buffer.__class__ = _SharedBuffer
  plain = _SharingBuilder(1024)
  as_packed = _finished(model, plain)
  # All vectors are known now, and can be written first, in an order that leaves no gaps.
  builder = _SharingBuilder(1024)
  for vector in without_gaps(plain.number_vectors(), BUFFER_ALIGNMENT_BYTES):
    values = np.frombuffer(vector.content, f"<u{vector.item_bytes}")
    builder.vector(values, vector.alignment_bytes)
  return min(as_packed, _finished(model, builder), key=len)


def _finished(model: schema.ModelT, builder: flatbuffers.Builder) -> bytes:
  """Returns the file of a model, written to a builder."""
  builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
  return bytes(builder.Output())


class _SharedBuffer(schema.BufferT):
  """A buffer whose data is aligned; Python's generated `Pack` ignores `force_align`."""

  def Pack(self, builder: Any) -> int:
    """Writes the buffer; returns its position in the file under construction."""
    data = np.asarray([] if self.data is None else self.data, np.uint8)
    vector = builder.vector(data, BUFFER_ALIGNMENT_BYTES) if data.size else None
    schema.BufferStart(builder)
    if vector is not None:
      schema.BufferAddData(builder, vector)
    return int(schema.BufferEnd(builder))


class _SharingBuilder(flatbuffers.Builder):
  """Writes equal strings, vectors and tables once.

  What the generated code says between a start and an end is recorded, and written at
  the end unless it was written before. Tables are written with wide fields first, so
  that equal sets of fields share a vtable and need no padding between them.
  """

  def __init__(self, initial_bytes: int) -> None:
    super().__init__(initial_bytes)
    self._positions: dict[Hashable, int] = {}
    self._writing = False
    self._fields: list[tuple[int, int, Any, Any]] = []
    self._num_fields = 0
    self._vector: tuple[int, int] = (0, 0)
    self._elements: list[tuple[Any, Any]] = []

  def Finish(self, rootTable: int, file_identifier: Optional[bytes] = None) -> int:
    """Writes the reference to the root."""
    self._writing = True
    return int(super().Finish(rootTable, file_identifier))

  def number_vectors(self) -> list[Vector]:
    """Returns the distinct vectors of numbers written so far."""
    return [key for key in self._positions if isinstance(key, Vector)]

  def vector(self, values: Array, alignment_bytes: int) -> int:
    """Returns the position of a one-dimensional vector of numbers."""
    little = values.astype(values.dtype.newbyteorder("<"))
    key = Vector(little.tobytes(), little.itemsize, alignment_bytes)

    def write() -> int:
      self.StartVector(little.itemsize, little.size, alignment_bytes)
      self.head -= little.nbytes
      self.Bytes[self.head : self.head + little.nbytes] = little.tobytes()
      return int(self.EndVector())

    return self._once(key, write)

  def CreateNumpyVector(self, x: Array) -> int:
    """Returns the position of a vector of numbers."""
    return self.vector(x, x.dtype.alignment)

  def CreateString(
    self, s: Any, encoding: str = "utf-8", errors: str = "strict"
  ) -> int:
    """Returns the position of a string."""
    content = s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
    write = super().CreateString
    return self._once((content, "string"), lambda: int(write(content)))

  def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
    """Begins to record the elements of a vector."""
    if self._writing:
      return int(super().StartVector(elemSize, numElems, alignment))
    self._vector = (elemSize, alignment)
    self._elements = []
    return 0

  def Prepend(self, flags: Any, off: Any) -> None:
    """Records or writes a number of a vector."""
    if self._writing:
      super().Prepend(flags, off)
    else:
      self._elements.append((flags, off))

  def PrependUOffsetTRelative(self, off: int) -> None:
    """Records or writes a vector's reference."""
    if self._writing:
      super().PrependUOffsetTRelative(off)
    else:
      self._elements.append((None, off))

  def EndVector(self, numElems: Optional[int] = None) -> int:
    """Returns the position of a vector with the recorded elements."""
    if self._writing:
      return int(super().EndVector(numElems))
    (element_bytes, alignment), elements = self._vector, self._elements
    packed = _packed(elements)
    key: Hashable = (packed, element_bytes, alignment)
    if isinstance(packed, bytes):
      key = Vector(packed, element_bytes, alignment)

    def write() -> int:
      self.StartVector(element_bytes, len(elements), alignment)
      for flags, value in elements:
        self._prepend(flags, value)
      return int(self.EndVector())

    return self._once(key, write)

  def StartObject(self, numfields: int) -> None:
    """Begins to record the fields of a table."""
    if self._writing:
      super().StartObject(numfields)
    else:
      self._num_fields, self._fields = numfields, []

  def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:
    """Records a number of a table, unless it is the default."""
    if x != d:
      self._fields.append((flags.bytewidth, o, flags, x))

  def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:
    """Records a table's reference, unless it is absent."""
    if x != d:
      self._fields.append((_OFFSET_BYTES, o, None, x))

  def EndObject(self) -> int:
    """Returns the position of a table with the recorded fields."""
    if self._writing:
      return int(super().EndObject())
    # What is written first stands last.
    fields, num_fields = (
      sorted(self._fields, key=lambda each: each[:2]),
      self._num_fields,
    )
    slots = tuple((width, slot) for width, slot, _, _ in fields)
    key = (slots, _packed([each[2:] for each in fields]))

    def write() -> int:
      self.Prep(_OFFSET_BYTES, 0)
      self.StartObject(num_fields)
      for _, slot, flags, value in fields:
        self._prepend(flags, value)
        self.Slot(slot)
      return int(self.EndObject())

    return self._once(key, write)

  def _prepend(self, flags: Any, value: Any) -> None:
    """Writes a number, or a reference if there are no flags."""
    if flags is None:
      self.PrependUOffsetTRelative(value)
    else:
      self.Prepend(flags, value)

  def _once(self, key: Hashable, write: Callable[[], int]) -> int:
    """Returns the position of what `write` writes, which happens once for a key."""
    if key not in self._positions:
      self._writing = True
      self._positions[key] = write()
      self._writing = False
    return self._positions[key]


def _packed(values: list[tuple[Any, Any]]) -> Hashable:
  """Returns what numbers and references have in common only if they are equal.

  The bytes, where all are numbers; 0.0 and -0.0 differ, and 1 and 1.0.
  """
  if any(flags is None for flags, _ in values):
    return tuple(
      value if flags is None else flags.packer_type.pack(value)
      for flags, value in values
    )
  return b"".join(flags.packer_type.pack(value) for flags, value in reversed(values))
