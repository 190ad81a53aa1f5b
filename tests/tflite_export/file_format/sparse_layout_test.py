import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tflite_export.file_format import sparse_layout
from tflite_export.file_format.sparse_layout import (
  Layout,
  encode,
  rows_layout,
  smallest_layout,
)
from tflite_export.file_format.sparse_tensor import densify


def read_back(values, stored):
  return densify(stored.values, values.shape, stored.traversal_order, [], stored.levels)


def layouts(rank):
  orders = itertools.permutations(range(rank))
  forms = itertools.product((False, True), repeat=rank)
  return [Layout(*both) for both in itertools.product(orders, forms)]


TENSORS = st.tuples(
  arrays.array_shapes(min_dims=1, max_dims=4, max_side=6),
  st.sampled_from(["f4", "f2", "i1"]),
).flatmap(
  lambda both: arrays.arrays(
    both[1],
    both[0],
    elements=st.sampled_from([-2, 0, 0, 0, 0, 1, 3]),
    fill=st.just(0),
  )
)


@given(TENSORS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_every_form_reads_back(values, random):
  layout = random.choice(layouts(values.ndim))
  stored = encode(values, layout)
  assert stored.values.dtype == values.dtype
  np.testing.assert_array_equal(read_back(values, stored), values)


@given(TENSORS)
@settings(deadline=None, max_examples=30)
def test_no_form_is_smaller_than_the_smallest(values):
  sizes = [encode(values, layout).bytes for layout in layouts(values.ndim)]
  assert encode(values, smallest_layout(values)).bytes == min(sizes)


def test_rows_are_what_the_converter_writes():
  values = np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]], np.float32)
  stored = encode(values, rows_layout(2))
  assert stored.values.tolist() == [5, 7, 8]
  assert stored.traversal_order == (0, 1)
  rows, columns = stored.levels
  assert (rows.size, columns.size) == (3, None)
  assert columns.segments is not None
  assert columns.indices is not None
  assert columns.segments.tolist() == [0, 1, 1, 3]
  assert columns.indices.tolist() == [1, 0, 2]
  # 3 values, 4 segments, 3 indices.
  assert stored.bytes == 12 + 4 + 3 + 32


def test_short_rows_are_walked_by_column():
  values = np.zeros((64, 2), np.float32)
  values[::3, 0] = values[1::3, 1] = 1
  assert smallest_layout(values) == Layout((1, 0), (False, True))


def test_full_rows_are_stored_whole():
  values = np.zeros((64, 8), np.float32)
  values[5] = 1
  assert smallest_layout(values) == Layout((0, 1), (True, False))


@pytest.mark.parametrize("layout", [rows_layout(3), Layout((2, 0, 1), (True,) * 3)])
def test_of_zeros_one_is_stored(layout):
  values = np.zeros((2, 3, 4), np.int8)
  stored = encode(values, layout)
  assert stored.values.tolist() == [0]
  np.testing.assert_array_equal(read_back(values, stored), values)


def test_negative_zero_is_a_zero():
  values = np.array([[-0.0, 1.0]], np.float32)
  assert encode(values, rows_layout(2)).values.tolist() == [1.0]


@pytest.mark.parametrize(
  ("largest", "type"),
  [(0, "u1"), (255, "u1"), (256, "<u2"), (65_535, "<u2"), (65_536, "<i4")],
)
def test_indices_are_as_narrow_as_they_can_be(largest, type):
  assert sparse_layout.index_type(np.array([0, largest])) == np.dtype(type)


def test_no_indices_are_narrow():
  assert sparse_layout.index_type(np.zeros(0, np.int64)) == np.dtype("u1")


def test_indices_beyond_a_byte_are_counted_twice():
  values = np.zeros((1, 300), np.int8)
  values[0, [0, 299]] = 1
  assert encode(values, rows_layout(2)).bytes == 2 + 2 + 2 * 2 + 32
