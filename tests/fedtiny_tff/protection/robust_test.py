"""Means that a few values cannot pull anywhere, by hand and against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.protection import robust
from tests.fedtiny_tff import support


def _stack(rows, slots=None):
  stack = robust.empty(
    tf.TensorSpec(np.shape(rows)[1:], tf.float32), slots or len(rows)
  )
  for row in rows:
    stack = robust.append(stack, tf.constant(row, tf.float32))
  return stack


def test_the_mean_of_the_middle_by_hand():
  # Sorted: -9 1 2 3 100, and 0 0 5 6 7.
  stack = _stack([[1, 5], [100, 0], [2, 7], [-9, 6], [3, 0]], slots=8)
  np.testing.assert_allclose(robust.trimmed_mean(stack, 0.2), [2, 11 / 3], rtol=1e-6)
  np.testing.assert_allclose(robust.trimmed_mean(stack, 0.4), [2, 5])
  np.testing.assert_allclose(robust.trimmed_mean(stack, 0.5), [2, 5])
  np.testing.assert_allclose(
    robust.trimmed_mean(stack, 0.0), [97 / 5, 18 / 5], rtol=1e-6
  )


def test_of_two_none_is_left_out_and_of_none_there_is_zero():
  np.testing.assert_allclose(robust.trimmed_mean(_stack([[1.0], [4.0]]), 0.5), [2.5])
  nothing = robust.empty(tf.TensorSpec([2], tf.float32), 3)
  assert robust.trimmed_mean(nothing, 0.2).numpy().tolist() == [0.0, 0.0]


@support.quick
@given(
  st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3),
           min_size=1, max_size=7),
  st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.5]),
  st.integers(0, 7),
)  # fmt: skip
def test_stacks_in_any_two_parts_give_what_numpy_gives(rows, share, cut):
  left, right = (_stack(part, 7) if part else robust.empty(tf.TensorSpec([3], tf.float32), 7)
                 for part in (rows[:cut], rows[cut:]))  # fmt: skip
  merged = robust.merge(left, right)
  assert int(merged.count) == len(rows)
  trimmed = max(int(share * len(rows) + 1e-4), 1 if share else 0)
  trimmed = min(trimmed, (len(rows) - 1) // 2)
  ordered = np.sort(np.float32(rows), axis=0)[trimmed : len(rows) - trimmed]
  np.testing.assert_allclose(
    robust.trimmed_mean(merged, share), ordered.mean(axis=0, dtype=np.float64),
    rtol=1e-5, atol=0.5,
  )  # fmt: skip


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_one_of_five_cannot_leave_what_the_others_say(share):
  honest = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
  for liar in (-3e38, 3e38, 0.0):
    found = robust.trimmed_mean(_stack([*honest, np.full(20, liar)]), share).numpy()
    assert (found >= honest.min(axis=0) - 1e-6).all()
    assert (found <= honest.max(axis=0) + 1e-6).all()


def test_of_three_one_is_left_out_whatever_its_share():
  stack = _stack([[1.0], [2.0], [1e30]])
  assert robust.trimmed_mean(stack, 0.2).numpy().tolist() == [2.0]


def test_structures_are_averaged_part_by_part():
  specs = {"a": tf.TensorSpec([], tf.float32), "b": tf.TensorSpec([2], tf.float64)}
  stack = robust.empty(specs, 3)
  for value in (1.0, 2.0, 9.0):
    one = {"a": tf.constant(value), "b": tf.constant([value, -value], tf.float64)}
    stack = robust.append(stack, one)
  found = robust.trimmed_mean(stack, 0.5)
  assert (float(found["a"]), found["b"].numpy().tolist()) == (2.0, [2.0, -2.0])


def test_unit_norm_is_that_of_the_whole():
  found = robust.to_unit_norm((tf.constant([3.0]), tf.constant([[0.0, 4.0]])))
  np.testing.assert_allclose(found[0], [0.6])
  np.testing.assert_allclose(found[1], [[0.0, 0.8]])
  assert robust.to_unit_norm(tf.zeros([2])).numpy().tolist() == [0.0, 0.0]
