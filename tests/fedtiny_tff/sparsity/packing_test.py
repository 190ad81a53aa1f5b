"""Masks as bits and sparse vectors as values: nothing is lost on the wire."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.sparsity import packing
from tests.fedtiny_tff import support

_MASKS = st.lists(st.booleans(), max_size=40).map(lambda m: np.array(m, dtype=bool))


def test_bits_by_hand():
  # Position 0 is the most significant bit: 1010_0001 = 161, then 1 -> 1000_0000.
  mask = tf.constant([True, False, True, False, False, False, False, True, True])
  packed = packing.pack_mask(mask)
  assert packed.dtype == tf.uint8
  assert packed.numpy().tolist() == [161, 128]


@pytest.mark.parametrize(
  ("size", "expected"),
  [(0, 0), (1, 1), (8, 1), (9, 2), (16, 2), (11_162_624, 1_395_328)],
)
def test_packed_size(size, expected):
  assert packing.packed_size_bytes(size) == expected


@support.quick
@given(_MASKS)
def test_packing_is_numpys_and_unpacking_inverts_it(mask):
  packed = packing.pack_mask(tf.constant(mask))
  np.testing.assert_array_equal(packed, np.packbits(mask))
  assert packed.shape[0] == packing.packed_size_bytes(len(mask))
  np.testing.assert_array_equal(packing.unpack_mask(packed, len(mask)), mask)


@support.quick
@given(_MASKS)
def test_gather_and_scatter_are_inverse(mask):
  vector = np.arange(1.0, len(mask) + 1.0, dtype=np.float32)
  count = int(mask.sum())
  values = packing.gather_active(tf.constant(vector), tf.constant(mask), count)
  np.testing.assert_array_equal(values, vector[mask])
  restored = packing.scatter(values, tf.where(mask)[:, 0], len(mask))
  np.testing.assert_array_equal(restored, np.where(mask, vector, 0.0))
  again = packing.gather_active(restored, tf.constant(mask), count)
  np.testing.assert_array_equal(again, values)


def test_shapes_are_static_in_a_graph():
  @tf.function(input_signature=[tf.TensorSpec([10]), tf.TensorSpec([10], tf.bool)])
  def travel(vector, mask):
    values = packing.gather_active(vector, mask, 4)
    packed = packing.pack_mask(mask)
    assert values.shape == [4]
    assert packed.shape == [2]
    places = tf.where(packing.unpack_mask(packed, 10))[:, 0]
    restored = packing.scatter(values, tf.ensure_shape(places, [4]), 10)
    assert restored.shape == [10]
    return restored

  vector = tf.range(10.0)
  mask = tf.constant([False, True] * 4 + [False, False])
  np.testing.assert_array_equal(travel(vector, mask), [0, 1, 0, 3, 0, 5, 0, 7, 0, 0])
  with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
    travel(vector, tf.ones([10], tf.bool))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_count_cannot_be_gathered(count):
  with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
    packing.gather_active(tf.range(4.0), tf.constant([True, False, True, False]), count)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_count_cannot_be_scattered(count):
  with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
    packing.scatter(tf.ones([count]), tf.constant([0, 2], tf.int64), 4)


def test_truth_values_are_scattered_too():
  found = packing.scatter(tf.ones([2], tf.bool), tf.constant([3, 0], tf.int64), 4)
  np.testing.assert_array_equal(found, [True, False, False, True])
