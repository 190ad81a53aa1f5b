"""Tests of the LUT form: bytes worked out by hand, an oracle, and TFLM's kernel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.tflite_export.decoding import unpack_lut
from tests.tflite_export.one_constant import CONSTANT, OUTPUT, TYPES, copied
from tflite_export.decode import tflm_insert
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.lut_tensor import pack_lut
from tflite_export.runtimes import tflm

ANY_SIZE = 10**9


def header(params, stride):
  return bytes([0, 1, 0, 0, 1, params, stride]).ljust(16, b"\0")


def packed_of(values, axis):
  packed = pack_lut(values, axis, ANY_SIZE)
  assert packed is not None
  return packed


def decoded_by_tflm(values, packed, zero_points=(), axis=0):
  """Returns what the kernel writes, and what its reader sees."""
  model = read_model(copied(values, zero_points, axis))
  tflm_insert.insert_decodes(model, {CONSTANT: packed})
  return tflm.read_tensors(write_compact(model), [CONSTANT, OUTPUT])


class TestPackLut:
  def test_two_bits_by_hand(self):
    values = np.array([[5, -1, 0], [5, 5, 0]], np.int8)
    packed = packed_of(values, None)
    # Sorted by their bits: 0, 5, 255.
    assert packed.ancillary == header(0xF2, 3) + bytes([0, 5, 255])
    assert packed.encoded == bytes([0b01_10_00_01, 0b01_00_0000])
    assert (packed.form, packed.bytes) == ("LUT", 21)

  def test_one_table_for_quantised_channels_has_stride_0(self):
    packed = packed_of(np.array([[1, 2], [2, 1]], np.int8), 0)
    assert packed.ancillary == header(0xF1, 0) + bytes([1, 2])

  def test_tables_of_channels_where_they_take_less(self):
    # Two values a channel: 1 bit each and 8 bytes of tables, against 3 bits.
    values = np.repeat(np.arange(8, dtype=np.int8).reshape(4, 2), 16, axis=1)
    packed = packed_of(values, 0)
    assert packed.ancillary == header(0x01, 2) + bytes(range(8))
    assert len(packed.encoded) == 128 // 8

  def test_too_many_values(self):
    values = np.arange(129, dtype=np.uint8).view(np.int8)
    assert pack_lut(values, None, ANY_SIZE) is None
    assert packed_of(values[:128], None).bytes == 16 + 128 + 128 * 7 // 8

  def test_only_what_is_smaller(self):
    values = np.array([[5, -1, 0], [5, 5, 0]], np.int8)
    assert pack_lut(values, None, 22) == packed_of(values, None)
    assert pack_lut(values, None, 21) is None
    assert pack_lut(values, 0, 17) is None

  def test_zeros_of_both_signs(self):
    values = np.array([0.0, -0.0, 0.0], "<f4")
    packed = packed_of(values, None)
    assert packed.ancillary[16:] == bytes([0, 0, 0, 0, 0, 0, 0, 128])
    assert packed.encoded == bytes([0b01000000])

  @settings(max_examples=150, deadline=None)
  @given(st.data())
  def test_decodes_to_the_same_bytes(self, data):
    values, axis = data.draw(few_values())
    packed = packed_of(values, axis)
    unpacked = unpack_lut(packed, values.shape, values.dtype, axis)
    assert unpacked.tobytes() == values.tobytes()


@st.composite
def few_values(draw):
  """Draws an array of at most 128 values and an axis of its channels, or None."""
  dtype = draw(st.sampled_from(sorted(TYPES, key=str)))
  shape = draw(hnp.array_shapes(max_dims=4, max_side=7))
  palette = draw(
    hnp.arrays(dtype, draw(st.integers(1, 128)), elements=hnp.from_dtype(dtype))
  )
  seed = draw(st.integers(0, 2**32 - 1))
  values = np.random.default_rng(seed).choice(palette, shape)
  axis = draw(st.sampled_from([None, 0, len(shape) - 1]))
  return values, axis if axis is not None and shape[axis] > 1 else None


class TestInTheRuntime:
  @pytest.mark.parametrize("axis", [None, 0, 3])
  @pytest.mark.parametrize("distinct", [2, 3, 4, 5, 8, 9, 16, 17, 33, 65, 128])
  def test_every_width(self, distinct, axis):
    generator = np.random.default_rng(distinct)
    palette = generator.permutation(256)[:distinct].astype(np.uint8).view(np.int8)
    values = generator.choice(palette, (5, 3, 3, 11))
    values.reshape(-1)[:distinct] = palette
    points = [0] * (1 if axis is None else values.shape[axis])
    packed = packed_of(values, axis)
    for found in decoded_by_tflm(values, packed, points, axis or 0):
      assert found.tobytes() == values.tobytes()

  @pytest.mark.parametrize("axis", [0, 1])
  def test_a_table_for_each_channel(self, axis):
    values = np.repeat(np.arange(24, dtype=np.int8).reshape(12, 2), 40, axis=1)
    values = values if axis == 0 else np.ascontiguousarray(values.T)
    packed = packed_of(values, axis)
    assert packed.ancillary[5] >> 4 == axis
    for found in decoded_by_tflm(values, packed, [0] * 12, axis):
      assert found.tobytes() == values.tobytes()

  @pytest.mark.parametrize("dtype", sorted(TYPES, key=str), ids=str)
  def test_every_type(self, dtype):
    generator = np.random.default_rng(0)
    values = generator.choice(np.array([0, 1, 2, 3, 4]), (6, 7)).astype(dtype)
    for found in decoded_by_tflm(values, packed_of(values, None)):
      assert found.tobytes() == values.tobytes()
