"""Positions survive both codes, and the smaller code is taken."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.sparsity import positions
from tests.fedtiny_tff import support


@st.composite
def masks(draw):
  size = draw(st.integers(1, 300))
  chosen = draw(st.sets(st.integers(0, size - 1)))
  mask = np.zeros(size, bool)
  mask[list(chosen)] = True
  return mask


@support.quick
@given(masks(), st.one_of(st.none(), st.integers(1, 10)))
def test_decoding_gives_back_what_was_encoded(mask, low_bits):
  code = positions.PositionCode(len(mask), int(mask.sum()), low_bits)
  encoded = code.encode(tf.constant(mask))
  assert encoded.dtype == tf.uint8
  assert encoded.shape == [code.encoded_bytes]
  np.testing.assert_array_equal(code.decode(encoded), np.flatnonzero(mask))


@support.quick
@given(masks())
def test_the_smallest_code_is_a_code_and_never_above_the_bitmap(mask):
  count = int(mask.sum())
  code = positions.smallest_code(len(mask), count)
  assert code.encoded_bytes <= -(-len(mask) // 8)
  np.testing.assert_array_equal(
    code.decode(code.encode(tf.constant(mask))), np.flatnonzero(mask)
  )


def test_elias_fano_by_hand():
  # Positions 2, 5, 14 of 16, cut at 2 bits: lower parts 10, 01, 10 -> 100110.., 0x98.
  # Upper parts 0, 1, 3; set bits 0+0, 1+1, 3+2 of 3+3+1 = 7: 1010010. -> 0xA4.
  mask = np.zeros(16, bool)
  mask[[2, 5, 14]] = True
  code = positions.PositionCode(16, 3, 2)
  np.testing.assert_array_equal(code.encode(tf.constant(mask)), [0x98, 0xA4])


@support.quick
@given(masks(), st.one_of(st.none(), st.integers(1, 10)))
def test_what_was_encoded_fits(mask, low_bits):
  code = positions.PositionCode(len(mask), int(mask.sum()), low_bits)
  assert code.fits(code.encode(tf.constant(mask)))


@pytest.mark.parametrize(
  ("size", "encoded", "fits"),
  [
    # Positions 2, 5, 14 as above; then 15 instead of 14, which not every size has.
    (16, [0b10011000, 0b10100100], True),
    (16, [0b10011100, 0b10100100], True),
    (15, [0b10011100, 0b10100100], False),
    # Two upper parts of three, then four.
    (16, [0b10011000, 0b10100000], False),
    (16, [0b10011000, 0b11110000], False),
    # 2, 1, 14 and 2, 2, 14 do not ascend; 1, 2, 14 do.
    (16, [0b10011000, 0b11000100], False),
    (16, [0b10101000, 0b11000100], False),
    (16, [0b01101000, 0b11000100], True),
    # 2, 14, 13.
    (16, [0b10100100, 0b10001100], False),
    # The third mark is padding.
    (16, [0b10011000, 0b10100001], False),
  ],
)
def test_which_elias_fano_codes_fit(size, encoded, fits):
  found = positions.PositionCode(size, 3, 2).fits(tf.constant(encoded, tf.uint8))
  assert found.dtype == tf.bool
  assert bool(found) == fits


@pytest.mark.parametrize(
  ("encoded", "fits"),
  [
    (0b10110000, True),
    (0b10100000, False),
    (0b11110000, False),
    # The third mark is padding.
    (0b10100001, False),
  ],
)
def test_a_bitmap_fits_with_its_number_of_marks(encoded, fits):
  code = positions.PositionCode(5, 3, None)
  assert bool(code.fits(tf.constant([encoded], tf.uint8))) == fits


@pytest.mark.parametrize("count", [0, 5])
def test_no_bytes_fit_where_the_count_says_all(count):
  assert positions.PositionCode(5, count, 2).fits(tf.zeros([0], tf.uint8))


@pytest.mark.parametrize(
  ("low_bits", "encoded", "places"),
  [
    (None, [0b10100001, 0b00000011], [0, 2, 7]),
    # Lower bits 10 and 01, upper parts 0 and 1: 2 and 5.
    (2, [0b10011111, 0b10100011], [2, 5]),
  ],
)
def test_padding_is_not_read(low_bits, encoded, places):
  code = positions.PositionCode(14, len(places), low_bits)
  assert code.decode(tf.constant(encoded, tf.uint8)).numpy().tolist() == places


def test_a_mask_of_positions_by_hand():
  mask = positions.mask_at(tf.constant([1, 3], tf.int64), 5)
  assert mask.dtype == tf.bool
  assert mask.numpy().tolist() == [False, True, False, True, False]


def test_sizes_by_hand():
  # 1 % of 1,000,000: cut at 6 bits: 60,000 and 10,000 + 15,624 + 1 bits.
  code = positions.smallest_code(1_000_000, 10_000)
  assert code.low_bits == 6
  assert code.encoded_bytes == 7_500 + 3_204  # ceil(25,625 / 8)
  assert positions.smallest_code(1_000_000, 500_000).low_bits is None
  assert positions.smallest_code(1_000_000, 500_000).encoded_bytes == 125_000
  assert positions.smallest_code(16, 16) == positions.PositionCode(16, 16, None)
  # 3 of 25: cut at 1 bit 3 and 3 + 12 + 1 bits, at 2 bits 6 and 3 + 6 + 1: 3 bytes
  # each. Both sides take the lower cut.
  assert positions.smallest_code(25, 3) == positions.PositionCode(25, 3, 1)


@pytest.mark.parametrize("count", [0, 5])
def test_positions_that_the_count_says_have_the_type_of_others(count):
  found = positions.PositionCode(5, count, None).decode(tf.zeros([0], tf.uint8))
  assert found.dtype == tf.int64
  assert found.numpy().tolist() == list(range(count))


@pytest.mark.parametrize("low_bits", [None, 2])
@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_positions_is_an_error(low_bits, count):
  mask = tf.constant([True, False, True, True, False])
  code = positions.PositionCode(5, count, low_bits)
  with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
    code.encode(mask)
  other = positions.PositionCode(5, 3, None).encode(mask)
  if low_bits is None:
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
      code.decode(other)


def test_it_works_in_a_graph_of_static_shapes():
  code = positions.smallest_code(1000, 20)

  @tf.function(input_signature=[tf.TensorSpec([1000], tf.bool)])
  def there_and_back(mask):
    encoded = code.encode(mask)
    assert encoded.shape == [code.encoded_bytes]
    return code.decode(encoded)

  mask = np.zeros(1000, bool)
  mask[::50] = True
  np.testing.assert_array_equal(there_and_back(mask), np.arange(0, 1000, 50))


@pytest.mark.parametrize(
  ("size", "count", "low_bits", "message"),
  [
    (4, 5, None, r"count must be in \[0, 4\], got 5"),
    (4, -1, None, r"count must be in \[0, 4\], got -1"),
    (4, 2, 0, "low_bits must be at least 1, got 0"),
  ],
)
def test_impossible_codes_are_refused(size, count, low_bits, message):
  with pytest.raises(ValueError, match=message):
    positions.PositionCode(size, count, low_bits)
