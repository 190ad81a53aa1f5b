"""Random numbers without TensorFlow are TensorFlow's."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.devices import philox
from fedtiny_tff.local_training import batches
from tests.fedtiny_tff.support import quick

WORD = st.integers(-(2**31), 2**31 - 1)


def test_philox_by_its_authors_numbers():
  # Known answers for counters and keys of zeros, and of ones.
  assert philox._block((0, 0, 0, 0), (0, 0)) == (
    0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8,
  )  # fmt: skip
  ones = 0xFFFFFFFF
  assert philox._block((ones,) * 4, (ones,) * 2) == (
    0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD,
  )  # fmt: skip


@quick
@given(seed=st.tuples(WORD, WORD), number=WORD)
def test_folding_in(seed, number):
  wanted = tf.random.experimental.stateless_fold_in(
    tf.constant(seed, tf.int32), tf.constant(number, tf.int32)
  )
  assert philox.fold_in(seed, number) == tuple(wanted.numpy().tolist())


@quick
@given(seed=st.tuples(WORD, WORD), count=st.integers(0, 70), epochs=st.integers(1, 3))
def test_orders(seed, count, epochs):
  wanted = batches.shuffled_order(
    tf.constant(count), epochs, tf.constant(seed, tf.int32)
  )
  np.testing.assert_array_equal(
    philox.shuffled_order(count, epochs, seed), wanted.numpy()
  )


def test_no_epochs_have_no_order():
  assert philox.shuffled_order(3, 0, (1, 2)).shape == (0, 3)
