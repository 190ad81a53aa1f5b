"""Every training example has exactly one owner."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data import partition
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_LABELS = np.random.default_rng(0).integers(0, 4, 400)


def _federate(**changes):
  arguments = {
    "partitioner": "dirichlet", "num_clients": 5, "alpha": 0.5,
    "public_per_class": 5, "seed": 0, **changes,
  }  # fmt: skip
  return partition.federate(_LABELS, **arguments)


def _all_indices(federation):
  return np.concatenate(
    [federation.public, *federation.training, *federation.development]
  )


@pytest.mark.parametrize("kind", sorted(partition.PARTITIONERS))
def test_every_example_has_one_owner(kind):
  federation = _federate(partitioner=kind)
  assert np.sort(_all_indices(federation)).tolist() == list(range(400))
  # Five of each of four classes.
  assert len(federation.public) == 20
  assert np.bincount(_LABELS[federation.public]).tolist() == [5, 5, 5, 5]


def test_a_tenth_is_held_out_and_at_least_two():
  federation = _federate()
  for train, held_out in zip(federation.training, federation.development, strict=True):
    owned = len(train) + len(held_out)
    assert owned >= partition.MIN_CLIENT_EXAMPLES
    assert len(held_out) == max(2, round(owned * 0.1))


def test_the_seed_decides_everything():
  first, again, other = _federate(), _federate(), _federate(seed=1)
  for field in ("training", "development"):
    for a, b in zip(getattr(first, field), getattr(again, field), strict=True):
      np.testing.assert_array_equal(a, b)
  assert first.public.tolist() == again.public.tolist()
  assert first.public.tolist() != other.public.tolist()
  assert [len(t) for t in first.training] != [len(t) for t in other.training]


def test_indices_are_sorted():
  federation = _federate()
  for part in (federation.public, *federation.training, *federation.development):
    assert (np.diff(part) > 0).all()


def test_held_out_examples_are_drawn_and_not_cut_off():
  # A tail of each client's sorted indices would hold out the last examples only.
  federation = _federate(partitioner="iid")
  assert any(
    dev.min() < train.max() and dev.max() > train.min()
    for train, dev in zip(federation.training, federation.development, strict=True)
  )


def test_a_rare_class_gives_at_most_half_of_its_own():
  labels = np.array([0] * 30 + [1] * 3 + [2])
  public = partition.public_indices(labels, 5, 0)
  # 5 of 30, 1 of 3, 0 of 1.
  assert np.bincount(labels[public], minlength=3).tolist() == [5, 1, 0]


def test_no_public_samples_when_none_are_asked_for():
  assert partition.public_indices(_LABELS, 0, 0).size == 0
  federation = _federate(public_per_class=0)
  assert np.sort(_all_indices(federation)).tolist() == list(range(400))


def test_a_small_alpha_is_more_heterogeneous():
  def largest_share(alpha):
    clients = partition.dirichlet(_LABELS, 5, alpha, np.random.default_rng(1))
    return np.mean([np.bincount(_LABELS[c]).max() / len(c) for c in clients])

  # Four classes: about a quarter when clients are alike.
  assert largest_share(1000.0) < 0.4
  assert largest_share(0.1) > 0.6


def test_iid_parts_are_near_equal():
  parts = partition.iid(np.zeros(53, int), 5, 0.0, np.random.default_rng(0))
  assert [len(p) for p in parts] == [11, 11, 11, 10, 10]


@support.quick
@given(
  count=st.integers(20, 120),
  classes=st.integers(1, 5),
  clients=st.integers(1, 4),
  kind=st.sampled_from(sorted(partition.PARTITIONERS)),
  seed=st.integers(0, 1000),
)
def test_partitions_cover_without_overlap(count, classes, clients, kind, seed):
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, classes, count)
  clients = min(clients, count // 20)
  parts = partition.PARTITIONERS[kind](labels, clients, 5.0, generator)
  assert len(parts) == clients
  assert np.sort(np.concatenate(parts)).tolist() == list(range(count))
  assert min(map(len, parts)) >= partition.MIN_CLIENT_EXAMPLES


@pytest.mark.parametrize("kind", sorted(partition.PARTITIONERS))
def test_too_many_clients_are_refused(kind):
  message = "41 clients need at least 410 training examples, there are 400: lower"
  with pytest.raises(InputError, match=message):
    partition.PARTITIONERS[kind](_LABELS, 41, 0.5, np.random.default_rng(0))


def test_an_alpha_that_starves_clients_is_refused():
  labels = np.zeros(60, int)
  message = (
    r"no Dirichlet\(0.01\) split gave each of 5 clients at least 10 examples: "
    "raise --dirichlet_alpha or lower --num_clients"
  )
  with pytest.raises(InputError, match=message):
    partition.dirichlet(labels, 5, 0.01, np.random.default_rng(0))


def test_the_public_samples_count_against_the_clients():
  # 400 - 20 = 380 are left for 39 clients.
  with pytest.raises(InputError, match="at least 390 training examples, there are 380"):
    _federate(num_clients=39)


def test_left_out_labels_belong_to_nobody():
  federation = _federate(left_out=(1, 3))
  held = _all_indices(federation)
  # Indices are those of the whole split.
  assert np.sort(held).tolist() == np.flatnonzero(_LABELS % 2 == 0).tolist()
  assert np.bincount(_LABELS[federation.public]).tolist() == [5, 0, 5]


def test_leaving_out_what_is_not_there_changes_nothing():
  plain, same = _federate(), _federate(left_out=(7,))
  np.testing.assert_array_equal(_all_indices(plain), _all_indices(same))


def test_leaving_everything_out_is_refused():
  with pytest.raises(InputError, match="none of the 400 training examples is left"):
    _federate(left_out=range(4))
