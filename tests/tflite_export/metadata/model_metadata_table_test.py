import struct

import flatbuffers
import pytest

from tests.tflite_export import metadata_schema
from tflite_export.metadata.model_metadata_table import Table

FILE = {"name": "größe", "type": 2, "version": "3"}


def made(table, values):
  builder = flatbuffers.Builder(64)
  builder.Finish(metadata_schema.encode(builder, table, values))
  return bytes(builder.Output())


def test_fields():
  table = Table.root(made("AssociatedFile", FILE))
  assert [table.text(field) for field in (0, 1, 4)] == ["größe", None, "3"]
  assert table.byte(2) == 2


def test_absent_fields():
  table = Table.root(made("TensorMetadata", {}))
  assert table.text(0) is None
  assert table.table(3) is None
  assert table.tables(4) == []
  assert table.byte(0) == 0
  assert table.floats(0) is None
  assert table.data(0) == b""
  # Beyond what the file's writer knew of.
  assert table.text(99) is None


def test_vectors():
  stats = Table.root(made("Stats", {"max": [1.5, -2.0], "min": []}))
  assert (stats.floats(0), stats.floats(1)) == ((1.5, -2.0), ())
  custom = Table.root(made("CustomMetadata", {"data": b"\0\1\xff"}))
  assert custom.data(1) == b"\0\1\xff"


def test_nested():
  root = Table.root(made("TensorMetadata", {"associated_files": [FILE, {}]}))
  assert [file.text(0) for file in root.tables(6)] == ["größe", None]
  stats = Table.root(made("TensorMetadata", {"stats": {"min": [1.0]}})).table(5)
  assert stats is not None
  assert stats.floats(1) == (1.0,)


@pytest.mark.parametrize("length", [100, 2**32 - 1])
def test_vector_longer_than_the_buffer(length):
  content = made("CustomMetadata", {"data": b"abcd"})
  at = content.index(b"abcd") - 4
  damaged = content[:at] + struct.pack("<I", length) + content[at + 4 :]
  table = Table.root(damaged)
  with pytest.raises(ValueError, match="bytes at"):
    table.data(1)
  with pytest.raises(ValueError, match="bytes at"):
    table.floats(1)
  with pytest.raises((ValueError, struct.error)):
    table.tables(1)


def test_reading_the_same_bytes_again_and_again_ends():
  table = Table.root(made("CustomMetadata", {"data": b"x" * 1000}))
  table.data(1)
  with pytest.raises(ValueError, match="claim more than its bytes"):
    for _ in range(3):
      table.data(1)
