"""What a server leaves out, and under which name it counts it."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.protection import guards
from fedtiny_tff.tasks import Metrics


def _metrics(loss=3.0, correct=2.0, examples=10.0):
  return Metrics(*(tf.constant(each) for each in (loss, correct, examples)))


def _fits(weight=5.0, examples=5, epochs=2, **changes):
  return bool(
    guards.counts_fit(
      tf.constant(weight), _metrics(**changes), tf.constant(examples, tf.int64), epochs
    )
  )


# The last are finite, but not when they are weighed by examples and added up.
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -1.1e28])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_number_is_found(bad, place):
  parts = [np.ones(3, np.float32), np.ones((2, 2), np.float64)]
  positions = tf.constant([1, 2])
  assert guards.is_finite((*map(tf.constant, parts), positions))
  parts[place].flat[-1] = bad
  assert not guards.is_finite((*map(tf.constant, parts), positions))


def test_large_values_count():
  assert guards.is_finite(tf.constant([9e27, -9e27]))


def test_a_client_without_examples_does_not_count():
  nothing = Metrics(*tf.zeros([3]))
  for known, fits in ((0, False), (1, True)):
    found = guards.counts_fit(
      tf.constant(float(known)), nothing, tf.constant(known, tf.int64), 1
    )
    assert bool(found) == fits


def test_counts_that_can_be():
  assert _fits()
  assert _fits(examples=0, weight=0.0, correct=0.0) is False
  assert _fits(correct=10.0)
  assert _fits(correct=0.0)


@pytest.mark.parametrize(
  "changes",
  [
    {"weight": 6.0}, {"weight": -5.0}, {"weight": 5e9}, {"examples": 4},
    {"epochs": 1}, {"correct": -1.0}, {"correct": 10.1},
  ],
)  # fmt: skip
def test_counts_that_cannot_be(changes):
  assert not _fits(**changes)


def test_more_than_ten_times_the_model_is_outlandish():
  model = (tf.constant([3.0, 0.0]), tf.constant([4.0]))
  # 10 · (5 + 1), in all parts together.
  assert guards.is_near((tf.constant([36.0, 0.0]), tf.constant([48.0])), model)
  assert not guards.is_near((tf.constant([36.0, 0.0]), tf.constant([48.1])), model)


@pytest.mark.parametrize(
  ("checks", "verdict"),
  [
    ((True, True, True), [1, 0, 0, 0]),
    ((False, False, False), [0, 1, 0, 0]),
    ((True, False, False), [0, 0, 1, 0]),
    ((True, True, False), [0, 0, 0, 1]),
  ],
)
def test_a_report_has_one_verdict(checks, verdict):
  found = guards.judge(*(tf.constant(check) for check in checks))
  assert [int(each) for each in found] == verdict


def test_what_does_not_count_is_blank():
  report = (tf.constant([np.nan, 1.0]), tf.constant([3]))
  kept = guards.blank_unless(tf.constant(1.0), report)
  assert np.isnan(kept[0].numpy()[0])
  blank = guards.blank_unless(tf.constant(0.0), report)
  assert [each.numpy().tolist() for each in blank] == [[0.0, 0.0], [0]]
