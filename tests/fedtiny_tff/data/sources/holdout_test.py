"""The test split of a source that has none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.sources import holdout
from tests.fedtiny_tff import support


def _counts(owners, share, gap=0):
  labels = np.zeros(len(owners), np.int64)
  test, dropped = holdout.held_out(np.asarray(owners), labels, share, gap)
  names = sorted(set(owners))
  return [
    (int(test[np.asarray(owners) == name].sum()),
     int(dropped[np.asarray(owners) == name].sum()))
    for name in names
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("size", "share", "expected"),
  [
    (4, 0.5, 0),  # Fewer than five: none.
    (5, 0.01, 1),  # Five: at least one.
    (10, 0.2, 2),
    (13, 0.2, 3),  # 2.6
    (12, 0.2, 2),  # 2.4
    (6, 0.99, 5),  # Never all.
    (100, 0.0, 0),
  ],
)
def test_counts_are_exact(size, share, expected):
  assert _counts([7] * size, share) == [(expected, 0)]


def test_each_client_gives_its_own_share():
  owners = ["b"] * 4 + ["a"] * 20 + ["c"] * 5
  # Of 20: 4; four: none; of five: one.
  assert _counts(owners, 0.2) == [(4, 0), (0, 0), (1, 0)]


def test_each_class_gives_a_share_where_nobody_owns_anything():
  labels = np.array([0] * 10 + [1] * 30 + [2] * 3)
  test, dropped = holdout.held_out(None, labels, 0.2)
  assert np.bincount(labels[test], minlength=3).tolist() == [2, 6, 0]
  assert not dropped.any()


def test_the_choice_never_changes():
  """A changed choice would make figures of old and new runs incomparable."""
  test, _ = holdout.held_out(None, np.zeros(12, np.int64), 0.25)
  assert np.flatnonzero(test).tolist() == [1, 3, 5]


def test_the_choice_is_not_that_of_the_first_or_last():
  test, _ = holdout.held_out(np.repeat(np.arange(50), 10), np.zeros(500), 0.2)
  places = np.flatnonzero(test) % 10
  assert set(places.tolist()) == set(range(10))


def test_with_a_gap_the_last_windows_are_held_out():
  test, dropped = holdout.held_out(np.zeros(10), np.zeros(10), 0.2, gap=3)
  assert np.flatnonzero(test).tolist() == [8, 9]
  assert np.flatnonzero(dropped).tolist() == [5, 6, 7]


def test_a_gap_is_kept_by_each_client():
  owners = np.array([0, 1] * 10)
  test, dropped = holdout.held_out(owners, np.zeros(20), 0.2, gap=1)
  assert np.flatnonzero(test).tolist() == [16, 17, 18, 19]
  assert np.flatnonzero(dropped).tolist() == [14, 15]


@pytest.mark.parametrize("owners", [None, np.zeros(10)])
def test_a_gap_is_kept_in_each_class(owners):
  # Sorted by class: the last windows of all would be of one class.
  labels = np.array([0] * 5 + [1] * 5)
  test, dropped = holdout.held_out(owners, labels, 0.2, gap=1)
  assert np.flatnonzero(test).tolist() == [4, 9]
  assert np.flatnonzero(dropped).tolist() == [3, 8]


@pytest.mark.parametrize(
  ("size", "gap", "expected"),
  [
    (10, 8, (1, 8)),  # Two are wanted, but one must be left to train on.
    (10, 9, (0, 0)),  # No room for a gap: nothing is held out or lost.
    (4, 1, (0, 0)),
  ],
)
def test_a_gap_leaves_something_to_train_on(size, gap, expected):
  assert _counts([0] * size, 0.2, gap) == [expected]


def test_no_examples():
  for owners in (None, np.zeros(0, np.int64)):
    test, dropped = holdout.held_out(owners, np.zeros(0, np.int64), 0.2)
    assert test.shape == dropped.shape == (0,)


@support.quick
@given(
  keys=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=60),
  share=st.floats(0, 0.99),
  stride=st.integers(1, 4),
  window=st.integers(1, 9),
)
def test_no_row_is_in_both_splits(keys, share, stride, window):
  """Window i of a client and class has its rows i * stride to i * stride + window."""
  gap = -(-window // stride) - 1
  owners, labels = np.array(keys, np.int64).reshape(-1, 2).T
  test, dropped = holdout.held_out(owners, labels, share, gap)
  assert not (test & dropped).any()
  for owner, label in set(keys):
    mine = np.flatnonzero((owners == owner) & ((labels == label) | (gap == 0)))
    rows = [set(range(i * stride, i * stride + window)) for i in range(len(mine))]
    kept = set().union(
      *(rows[i] for i, e in enumerate(mine) if not test[e] | dropped[e])
    )
    assert kept
    if gap:
      held = set().union(*(rows[i] for i, e in enumerate(mine) if test[e]))
      assert not kept & held
