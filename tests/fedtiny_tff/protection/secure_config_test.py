"""Floats as integers whose sums fit a word."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from fedtiny_tff.protection.secure_config import BITWIDTH, FixedPoint, SecureSums
from tests.fedtiny_tff.support import quick


def test_numbers_by_hand():
  grid = FixedPoint(2.0, 9, 3)
  # 255 steps for three clients: 85 on either side.
  assert grid.largest == 85
  encoded = grid.encode(tf.constant([2.0, -9.0, 0.0, 1.99, -0.02, np.inf]))
  assert encoded.numpy().tolist() == [85, -85, 0, 84, 0, 85]
  np.testing.assert_allclose(grid.decode(tf.constant([85, -170])), [2.0, -4.0])


@quick
@hypothesis.given(
  st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=8),
  st.integers(8, 48),
)
def test_no_vector_becomes_longer_and_sums_fit(values, bits):
  hypothesis.assume((2 ** (bits - 1) - 1) // len(values) >= 32)
  grid = FixedPoint(16.0, bits, len(values))
  encoded = grid.encode(tf.constant(values, tf.float32))
  decoded = grid.decode(encoded).numpy()
  wanted = np.clip(np.float32(values), -16, 16)
  assert (np.abs(decoded) <= np.abs(wanted) * (1 + 1e-6)).all()
  assert (np.abs(decoded - wanted) <= grid.step * (1 + 1e-6) + 1e-5).all()
  assert abs(int(tf.reduce_sum(tf.abs(encoded)))) < 2 ** (bits - 1)


def test_words_that_are_too_short():
  with pytest.raises(InputError, match="--secure_bits=8 leave 1 steps"):
    SecureSums(BITWIDTH, 8, 100, 10)
  with pytest.raises(InputError, match="--secure_bits must be in 8 to 48, got 60"):
    SecureSums(BITWIDTH, 60, 100, 10)
  with pytest.raises(InputError, match="--secure_aggregation must be one of none"):
    SecureSums("open", 32, 100, 10)


def test_bytes_by_hand():
  sums = SecureSums(BITWIDTH, 20, 10, 10)
  assert sums.values_bytes(3) == 8
  assert sums.sums_bytes(8) == 60
