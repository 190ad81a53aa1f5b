"""TFRecord files are read up to where they are damaged."""

import struct

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.examples import BadRecord
from fedtiny_tff.data.sources import record_files
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support
from tests.fedtiny_tff.data.sources import records

_CONTENTS = [b"first", b"", b"the third", b"4"]
# Each frame has 16 bytes around its record: they end at 21, 37, 62 and 79.
_ENDS = [21, 37, 62, 79]
_fewer = hypothesis.settings(support.quick, max_examples=25)


def _read(path, size=3):
  bad: list[BadRecord] = []
  found: list[bytes] = []
  for batch in record_files.read_file(path, size, bad.append):
    assert batch.first == len(found)
    found.extend(batch.columns[0].numpy())
  return found, bad


@pytest.fixture(name="path")
def _path(tmp_path):
  records.write(tmp_path / "r", _CONTENTS)
  assert (tmp_path / "r").stat().st_size == _ENDS[-1]
  return tmp_path / "r"


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_a_whole_file_comes_in_batches(path, size):
  assert _read(path, size) == (_CONTENTS, [])


def test_an_empty_file_has_no_records(tmp_path):
  (tmp_path / "r").touch()
  assert _read(tmp_path / "r") == ([], [])


@_fewer
@given(length=st.integers(1, _ENDS[-1] - 1), size=st.integers(1, 5))
def test_a_file_that_is_cut_off_keeps_its_whole_records(tmp_path_factory, length, size):
  path = tmp_path_factory.mktemp("cut") / "r"
  records.write(path, _CONTENTS)
  path.write_bytes(path.read_bytes()[:length])
  whole = sum(end <= length for end in _ENDS)
  found, bad = _read(path, size)
  assert found == _CONTENTS[:whole]
  # Nothing tells a file that ends with a frame from a whole one.
  expected = [] if length in _ENDS else [(str(path), whole, None)]
  assert [(each.file, each.record, each.field) for each in bad] == expected


@_fewer
@given(at=st.integers(0, _ENDS[-1] - 1), bit=st.integers(0, 7), size=st.integers(1, 5))
def test_a_flipped_bit_loses_its_record_and_all_that_follow(
  tmp_path_factory, at, bit, size
):
  path = tmp_path_factory.mktemp("flipped") / "r"
  records.write(path, _CONTENTS)
  content = bytearray(path.read_bytes())
  content[at] ^= 1 << bit
  path.write_bytes(content)
  whole = sum(end <= at for end in _ENDS)
  found, bad = _read(path, size)
  assert found == _CONTENTS[:whole]
  assert [each.record for each in bad] == [whole]
  assert "all that follows it in the file is lost" in bad[0].reason


@pytest.mark.parametrize("length", [100, 1 << 40, (1 << 64) - 1])
def test_a_frame_may_say_any_length(path, length):
  """TensorFlow alone would end the process: the length has the right checksum."""
  start = struct.pack("<Q", length)
  frame = start + struct.pack("<I", records.checksum(start)) + bytes(8)
  path.write_bytes(path.read_bytes() + frame)
  found, bad = _read(path)
  assert found == _CONTENTS
  assert [each.record for each in bad] == [4]


def test_the_checksum_of_the_test_is_that_of_the_format(path):
  start = path.read_bytes()[:12]
  assert records.checksum(start[:8]) == struct.unpack("<I", start[8:])[0]


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
  with pytest.raises(InputError, match=r"gone: cannot be read: No such file"):
    _read(tmp_path / "gone")
  with pytest.raises(InputError, match=r"cannot be read: Is a directory"):
    _read(tmp_path)
