"""Mini-batches by step number: every record once per epoch."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.local_training import batches
from tests.fedtiny_tff import support

_SEED = tf.constant([3, 5], tf.int32)


def _all_batches(order, batch_size):
  records = tf.range(tf.shape(order)[1]) * 10
  examples = batches.Examples(records, order, _SEED)
  steps = int(batches.number_of_steps(order, batch_size))
  return [
    batches.batch_records(examples, tf.constant(step), batch_size).numpy().tolist()
    for step in range(steps)
  ]


def test_batches_by_hand():
  order = tf.constant([[4, 2, 0, 1, 3], [0, 1, 2, 3, 4]])
  # Five records, two at a time: 2 + 2 + 1 in each epoch.
  assert _all_batches(order, 2) == [[40, 20], [0, 10], [30], [0, 10], [20, 30], [40]]


@pytest.mark.parametrize(
  ("count", "epochs", "batch_size", "expected"),
  [
    (5, 2, 2, 6),
    (4, 3, 2, 6),
    (1, 4, 64, 4),
    (64, 1, 64, 1),
    (65, 1, 64, 2),
    (0, 5, 64, 0),
  ],
)
def test_number_of_steps(count, epochs, batch_size, expected):
  order = tf.zeros([epochs, count], tf.int32)
  assert int(batches.number_of_steps(order, batch_size)) == expected


@support.quick
@given(st.integers(0, 20), st.integers(1, 3), st.integers(1, 25), st.integers(0, 9))
def test_every_epoch_visits_each_record_once(count, epochs, batch_size, seed):
  order = batches.shuffled_order(
    tf.constant(count), epochs, tf.constant([seed, 1], tf.int32)
  )
  assert order.shape == [epochs, count]
  assert order.dtype == tf.int32
  visited = _all_batches(order, batch_size)
  per_epoch = -(-count // batch_size)
  for epoch in range(epochs):
    chunk = visited[epoch * per_epoch : (epoch + 1) * per_epoch]
    assert sorted(itertools.chain(*chunk)) == [10 * i for i in range(count)]
    # All full but the last of the epoch.
    assert all(len(batch) == batch_size for batch in chunk[:-1])


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
  first = batches.shuffled_order(tf.constant(30), 2, _SEED)
  np.testing.assert_array_equal(
    first, batches.shuffled_order(tf.constant(30), 2, _SEED)
  )
  other = batches.shuffled_order(tf.constant(30), 2, tf.constant([3, 6]))
  assert (first != other).numpy().any()


def test_epochs_differ_and_do_not_depend_on_their_number():
  two = batches.shuffled_order(tf.constant(30), 2, _SEED).numpy()
  assert (two[0] != two[1]).any()
  three = batches.shuffled_order(tf.constant(30), 3, _SEED).numpy()
  np.testing.assert_array_equal(three[:2], two)


def test_a_count_in_int64_is_welcome():
  order = batches.shuffled_order(tf.constant(4, tf.int64), 1, _SEED)
  assert sorted(order.numpy()[0].tolist()) == [0, 1, 2, 3]


def test_stored_order_is_one_pass_in_place():
  examples = batches.in_stored_order(tf.zeros([4, 2]))
  assert examples.order.numpy().tolist() == [[0, 1, 2, 3]]


def test_the_order_and_the_steps_draw_from_seeds_of_their_own():
  examples = batches.shuffled(tf.zeros([30, 2]), 2, _SEED)
  again = batches.shuffled(tf.zeros([30, 2]), 2, _SEED)
  np.testing.assert_array_equal(examples.order, again.order)
  np.testing.assert_array_equal(examples.seed, again.seed)
  assert (examples.seed != _SEED).numpy().any()
  unrelated = batches.shuffled_order(tf.constant(30), 2, examples.seed)
  assert (examples.order != unrelated).numpy().any()


def test_records_of_any_rank_are_gathered_whole():
  records = tf.reshape(tf.range(24), [4, 2, 3])
  order = tf.constant([[3, 1, 0, 2]])
  batch = batches.batch_records(
    batches.Examples(records, order, _SEED), tf.constant(0), 2
  )
  np.testing.assert_array_equal(batch, records.numpy()[[3, 1]])


def test_a_step_beyond_the_last_is_an_error():
  examples = batches.in_stored_order(tf.range(3))
  with pytest.raises(tf.errors.InvalidArgumentError, match="out of bounds"):
    batches.batch_records(examples, tf.constant(2), 2)
