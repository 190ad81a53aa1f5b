"""Tests of the order of vectors, with gaps worked out by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.tflite_export import models
from tflite_export.file_format import compact_writer
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.vector_order import Vector, without_gaps


def constant(size, mark=0):
  return Vector(bytes([mark]) * size, 1, 16)


def numbers(count, mark=0):
  return Vector(bytes([mark]) * (4 * count), 4, 4)


def gaps(ordered):
  """Returns the bytes lost before each aligned vector when written one by one."""
  position, lost = 0, []
  for each in ordered:
    gap = -(position + len(each.content)) % each.alignment_bytes
    if each.alignment_bytes == 16:
      lost.append(gap)
    position += gap + len(each.content)
    # The length before it is aligned, too.
    position += -position % 4 + 4
  return lost


def test_one_that_fits_follows_at_once():
  # 16 bytes and 4 of length, 12 and 4: 20 + 12 is a multiple of 16.
  both = [constant(16), constant(12)]
  assert without_gaps([*both, numbers(1), numbers(4)], 16) == both
  assert gaps(both) == [0, 0]


def test_each_gap_has_its_filler():
  # Behind 4 bytes of length 16 bytes leave 12 free, 4 bytes 8, and 8 bytes 4.
  for size, count in ((16, 2), (4, 1), (8, 4)):
    vectors = [numbers(3), constant(16), constant(size, 1), numbers(count)]
    ordered = without_gaps(vectors, 16)
    assert ordered == [vectors[1], vectors[3], vectors[2]]
    assert gaps(ordered) == [0, 0]


def test_two_that_fill_a_gap_together():
  vectors = [constant(16), constant(16, 1), numbers(1), numbers(4)]
  ordered = without_gaps(vectors, 16)
  assert set(ordered[1:3]) == {numbers(1), numbers(4)}
  assert gaps(ordered) == [0, 0]
  # Two of 12 and their lengths fill 8.
  vectors = [constant(16), constant(4, 1), numbers(2), numbers(2, 1)]
  assert gaps(without_gaps(vectors, 16)) == [0, 0]


def test_a_gap_that_nothing_fills():
  vectors = [constant(16), constant(16, 1), numbers(1), numbers(3)]
  assert without_gaps(vectors, 16) == vectors[:2]
  assert gaps(vectors[:2]) == [0, 12]


def test_less_than_4_bytes_are_left():
  vectors = [constant(16), constant(11), numbers(1), numbers(2), numbers(4)]
  assert without_gaps(vectors, 16) == vectors[:2]
  assert gaps(vectors[:2]) == [0, 1]


def test_other_vectors_fill_nothing():
  others = [Vector(bytes(8), 8, 8), Vector(bytes(8), 1, 1)]
  both = [constant(16), constant(16, 1)]
  assert without_gaps([*others, *both], 16) == both


@given(
  st.lists(st.integers(1, 70), max_size=12), st.lists(st.integers(1, 9), max_size=12)
)
def test_constants_stay_in_order_and_nothing_comes_twice(sizes, counts):
  constants = [constant(size, mark) for mark, size in enumerate(sizes)]
  vectors = [*constants, *(numbers(n, mark) for mark, n in enumerate(counts))]
  ordered = without_gaps(vectors, 16)
  assert [each for each in ordered if each.alignment_bytes == 16] == constants
  assert len(set(ordered)) == len(ordered) <= len(vectors)
  assert set(ordered) <= set(vectors)


def test_files_get_smaller(monkeypatch):
  content = models.converted("int8_dense", 0.2)
  ordered = compact_writer.write_compact(read_model(content))
  monkeypatch.setattr(compact_writer, "without_gaps", lambda vectors, alignment: [])
  plain = compact_writer.write_compact(read_model(content))
  assert len(ordered) < len(plain)
  assert len(np.frombuffer(ordered, np.uint8)) % 16 == 0
