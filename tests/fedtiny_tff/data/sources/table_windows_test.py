"""Windows of rows: where they begin, and what streams out of any batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.sources import table_windows
from tests.fedtiny_tff import support


def _cut(keys, rows, stride, usable=None):
  good = np.ones(len(keys), bool) if usable is None else np.array(usable, bool)
  table = np.array(keys)[:, np.newaxis]
  return table_windows.cut(table, good, rows, stride).starts.tolist()


def test_single_rows():
  assert _cut([5, 5, 7], 1, 1) == [0, 1, 2]
  assert _cut([5, 5, 7], 1, 1, [1, 0, 1]) == [0, 2]


@pytest.mark.parametrize(
  ("rows", "stride", "starts"),
  [
    # Runs: rows 0-4 and 5-7.
    (2, 2, [0, 2, 5]),
    (2, 1, [0, 1, 2, 3, 5, 6]),
    (3, 2, [0, 2, 5]),
    (2, 3, [0, 3, 5]),
    (5, 5, [0]),
    (6, 6, []),
  ],
)
def test_windows_lie_within_a_run(rows, stride, starts):
  assert _cut([1] * 5 + [2] * 3, rows, stride) == starts


def test_an_unusable_row_ends_a_run():
  assert _cut([1] * 6, 2, 1, [1, 1, 1, 0, 1, 1]) == [0, 1, 4]
  assert _cut([1] * 3, 1, 1, [0, 0, 0]) == []


def test_all_parts_of_a_key_count():
  keys = np.array([[1, 1], [1, 1], [1, 2], [1, 2]])
  windows = table_windows.cut(keys, np.ones(4, bool), 2, 1)
  assert windows.starts.tolist() == [0, 2]


def test_rows_that_windows_touch():
  windows = table_windows.Windows(np.array([2, 3, 8]), 3)
  touched = windows.touched(np.arange(12))
  # Rows 2-4, 3-5 and 8-10.
  assert np.flatnonzero(touched).tolist() == [2, 3, 4, 5, 8, 9, 10]
  none = table_windows.Windows(np.zeros(0, np.int64), 3)
  assert not none.touched(np.arange(3)).any()


@support.quick
@given(st.data())
def test_streams_equal_plain_slices(data):
  count = data.draw(st.integers(1, 30))
  rows, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
  keys = np.array(
    data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
  )
  usable, good = (
    np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    for _ in range(2)
  )
  windows = table_windows.cut(keys[:, np.newaxis], usable, rows, stride)

  expected: list[int] = []
  start = 0
  while start < count:
    end = start
    while end < count and keys[end] == keys[start] and usable[end] == usable[start]:
      end += 1
    if usable[start]:
      expected += range(start, end - rows + 1, stride)
    start = end
  assert windows.starts.tolist() == expected

  features = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
  borders = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
  parts = zip(np.split(features, borders), np.split(good, borders), strict=True)
  cuts = list(table_windows.gather(windows, parts, 2))
  numbers = [number for cut in cuts for number in cut.numbers.tolist()]
  found = [window for cut in cuts for window in cut.features]
  whole = [n for n, s in enumerate(expected) if good[s : s + rows].all()]
  assert numbers == whole
  for number, window in zip(numbers, found, strict=True):
    begin = expected[number]
    np.testing.assert_array_equal(window, features[begin : begin + rows])


def test_many_windows_of_one_part_come_in_pieces(monkeypatch):
  monkeypatch.setattr(table_windows, "_MAX_BATCH", 3)
  windows = table_windows.Windows(np.arange(7), 2)
  part = (np.arange(8, dtype=np.float32)[:, np.newaxis], np.ones(8, bool))
  cuts = list(table_windows.gather(windows, [part], 1))
  assert [cut.numbers.tolist() for cut in cuts] == [[0, 1, 2], [3, 4, 5], [6]]
  assert cuts[2].features.tolist() == [[[6.0], [7.0]]]
