"""Who misbehaves is drawn once; what they do is what its name says."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.protection import poisoning
from fedtiny_tff.protection.poisoning import Poisoning


def test_the_drawn_ones_are_as_many_as_asked_and_always_the_same():
  drawn = poisoning.draw_clients(7, 10, 0.3)
  assert len(set(drawn)) == 3
  assert poisoning.draw_clients(7, 10, 0.3) == drawn
  assert {poisoning.draw_clients(seed, 10, 0.3) for seed in range(9)} != {drawn}
  assert poisoning.draw_clients(7, 10, 0.05) == poisoning.draw_clients(7, 10, 0.1)
  assert poisoning.draw_clients(7, 10, 0.0) == ()


@pytest.mark.parametrize("attack", sorted(poisoning.ATTACKS))
def test_others_do_as_they_should(attack):
  made = Poisoning(attack, (3,), 10)
  bad = made.is_bad(tf.constant(2, tf.int64))
  assert not bad
  values, labels = tf.constant([1.0, 2.0]), tf.constant([0, 9], tf.int64)
  _, read = made.decoded(lambda records: (records, labels), bad)(values)
  assert read.numpy().tolist() == [0, 9]
  assert made.sent(values, tf.zeros([2]), bad).numpy().tolist() == [1.0, 2.0]
  votes = made.votes((values,), tf.constant([1, 2]), bad, 5)
  assert votes[0].numpy().tolist() == [1.0, 2.0]


def test_labels_are_reversed():
  made = Poisoning(poisoning.LABEL_FLIP, (1, 3), 10)
  bad = made.is_bad(tf.constant(3, tf.int64))
  labels = tf.constant([0, 4, 9], tf.int64)
  _, read = made.decoded(lambda records: (records, labels), bad)(tf.zeros([3]))
  assert read.numpy().tolist() == [9, 5, 0]


def test_updates_are_turned_round():
  made = Poisoning(poisoning.SIGN_FLIP, (3,), 10)
  bad = made.is_bad(tf.constant(3, tf.int64))
  sent = made.sent(tf.constant([1.0, 5.0]), tf.constant([2.0, 2.0]), bad)
  assert sent.numpy().tolist() == [3.0, -1.0]


def test_votes_are_loud_and_random_but_positions_exist():
  made = Poisoning(poisoning.RANDOM_PAIRS, (3,), 10)
  bad = made.is_bad(tf.constant(3, tf.int64))
  quiet = (tf.zeros([50], tf.int32), tf.ones([50]), tf.zeros([2], tf.uint8))
  positions, values, packed = made.votes(quiet, tf.constant([1, 2]), bad, 7)
  assert set(positions.numpy().tolist()) == set(range(7))
  assert np.abs(values).min() > 1e8
  assert np.isfinite(np.square(values.numpy(), dtype=np.float32)).all()
  assert packed.numpy().tolist() == [0, 0]
  other = made.votes(quiet, tf.constant([1, 3]), bad, 7)[1]
  assert not np.array_equal(values, other)
