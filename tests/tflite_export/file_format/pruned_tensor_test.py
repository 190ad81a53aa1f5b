"""Tests of the PRUNING form: bytes worked out by hand, and an oracle."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.tflite_export.decoding import HEADER, unpack
from tflite_export.file_format.pruned_tensor import pack_pruned


class TestPackPruned:
  def test_int8_bytes_by_hand(self):
    values = np.array([[0, 5, 0, 0], [-1, 0, 0, 0], [0, 7, 0, 0]], np.int8)
    packed = pack_pruned(values, np.zeros((1, 1), np.int8))
    assert packed.encoded == bytes([0b01001000, 0b01000000])
    assert packed.ancillary == HEADER + bytes([5, 255, 7])

  def test_zero_point_is_what_a_zero_bit_means(self):
    values = np.array([3, 0, 3, -3], np.int8)
    packed = pack_pruned(values, np.array([3], np.int8))
    assert packed.encoded == bytes([0b01010000])
    assert packed.ancillary == HEADER + bytes([0, 253])

  def test_per_channel_zero_points_on_the_last_axis(self):
    values = np.array([[1, 2], [2, 1]], np.int8)
    packed = pack_pruned(values, np.array([[1, 2]], np.int8))
    assert packed.encoded == bytes([0b00110000])
    assert packed.ancillary == HEADER + bytes([2, 1])

  def test_int16_is_little_endian(self):
    packed = pack_pruned(np.array([0, 258], "<i2"), np.zeros(1, "<i2"))
    assert packed.encoded == bytes([0b01000000])
    assert packed.ancillary == HEADER + bytes([2, 1])

  def test_negative_zero_is_stored(self):
    packed = pack_pruned(np.array([0.0, -0.0], "<f4"), np.zeros(1, "<f4"))
    assert packed.encoded == bytes([0b01000000])
    assert packed.ancillary == HEADER + bytes([0, 0, 0, 128])

  def test_all_zeros_need_no_values(self):
    packed = pack_pruned(np.zeros(17, np.int8), np.zeros(1, np.int8))
    assert packed.encoded == bytes(3)
    assert packed.ancillary == HEADER
    assert packed.bytes == 19

  @settings(max_examples=150, deadline=None)
  @given(st.data())
  def test_decodes_to_the_same_bytes(self, data):
    dtype = np.dtype(data.draw(st.sampled_from(["<i1", "<i2", "<i4", "<i8", "<f4"])))
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=5))
    elements = hnp.from_dtype(dtype) if data.draw(st.booleans()) else st.just(0)
    values = data.draw(
      hnp.arrays(dtype, tuple(shape), elements=elements, fill=st.just(0))
    )
    zero_shape = [1] * len(shape)
    if dtype == np.int8:
      axis = data.draw(st.sampled_from([0, len(shape) - 1]))
      zero_shape[axis] = shape[axis]
      zeros = data.draw(hnp.arrays(dtype, tuple(zero_shape)))
    else:
      zeros = np.zeros(zero_shape, dtype)
    packed = pack_pruned(values, zeros)
    assert unpack(packed, shape, dtype, zeros).tobytes() == values.tobytes()
