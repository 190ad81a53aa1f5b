"""Every training example has exactly one owner, and is nowhere else by content."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data import federation, partitioners
from fedtiny_tff.data.federation import Federation, FederationConfig
from fedtiny_tff.data.scan import SplitFacts
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_LABELS = np.random.default_rng(0).integers(0, 4, 400)
_NOTHING = np.zeros(0, np.uint64)


def _facts(labels, owners=None, contents=None):
  if contents is None:
    contents = np.arange(len(labels))
  return SplitFacts(
    np.asarray(labels, np.int64),
    np.asarray(contents, np.uint64),
    None if owners is None else np.asarray(owners, np.int32),
  )


def _federate(left_out=(), **changes):
  arguments = {"partitioner": "dirichlet", "num_clients": 5, **changes}
  return federation.federate(
    _facts(_LABELS), _NOTHING, FederationConfig(**arguments), left_out
  )


def _all_indices(made):
  return np.concatenate([made.public, *made.training, *made.development])


@pytest.mark.parametrize("kind", sorted(set(partitioners.PARTITIONERS) - {"natural"}))
def test_every_example_has_one_owner(kind):
  made = _federate(partitioner=kind)
  assert np.sort(_all_indices(made)).tolist() == list(range(400))
  # Five of each of four classes.
  assert np.bincount(_LABELS[made.public]).tolist() == [5, 5, 5, 5]
  assert made.clients.tolist() == [0, 1, 2, 3, 4]
  assert made.duplicates == federation.Duplicates()


def test_a_tenth_is_held_out_and_at_least_two():
  made = _federate()
  for train, held_out in zip(made.training, made.development, strict=True):
    owned = len(train) + len(held_out)
    assert owned >= partitioners.MIN_CLIENT_EXAMPLES
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
  made = _federate()
  for part in (made.public, *made.training, *made.development):
    assert (np.diff(part) > 0).all()


def test_held_out_examples_are_drawn_and_not_cut_off():
  # A tail of each client's sorted indices would hold out the last examples only.
  made = _federate(partitioner="iid")
  assert any(
    dev.min() < train.max() and dev.max() > train.min()
    for train, dev in zip(made.training, made.development, strict=True)
  )


def test_a_rare_class_gives_at_most_half_of_its_own():
  labels = np.array([0] * 30 + [1] * 3 + [2])
  public = federation.public_indices(labels, None, 5, 0)
  # 5 of 30, 1 of 3, 0 of 1.
  assert np.bincount(labels[public], minlength=3).tolist() == [5, 1, 0]


def test_no_public_samples_when_none_are_asked_for():
  assert federation.public_indices(_LABELS, None, 0, 0).size == 0
  made = _federate(public_per_class=0)
  assert np.sort(_all_indices(made)).tolist() == list(range(400))


def test_the_public_samples_count_against_the_clients():
  # 400 - 20 = 380 are left for 39 clients.
  with pytest.raises(InputError, match="at least 390 training examples, there are 380"):
    _federate(num_clients=39)


def test_left_out_labels_belong_to_nobody():
  made = _federate(left_out=(1, 3))
  held = _all_indices(made)
  # Indices are those of the whole split.
  assert np.sort(held).tolist() == np.flatnonzero(_LABELS % 2 == 0).tolist()
  assert np.bincount(_LABELS[made.public]).tolist() == [5, 0, 5]


def test_leaving_out_what_is_not_there_changes_nothing():
  plain, same = _federate(), _federate(left_out=(7,))
  np.testing.assert_array_equal(_all_indices(plain), _all_indices(same))


def test_leaving_out_everything_is_refused():
  with pytest.raises(InputError, match="none of the 400 training examples is left"):
    _federate(left_out=(0, 1, 2, 3))


def _natural(labels, owners, **changes):
  arguments = {"partitioner": "natural", "num_clients": 0, **changes}
  return federation.federate(
    _facts(labels, owners), _NOTHING, FederationConfig(**arguments)
  )


def test_natural_clients_keep_their_examples_of_any_number():
  owners = [0] * 12 + [1] + [2] * 3 + [3] * 2
  made = _natural([0] * 18, owners, public_per_class=0)
  assert [len(part) for part in made.training] == [10, 1, 1, 1]
  # A tenth, at least two; but one stays to train on.
  assert [len(part) for part in made.development] == [2, 0, 2, 1]
  for client, parts in enumerate(zip(made.training, made.development, strict=True)):
    indices = np.concatenate(parts)
    assert set(np.array(owners)[indices]) == {client}


def test_only_the_first_natural_clients_give_samples():
  owners = np.repeat(np.arange(8), 20)
  made = _natural([0, 1] * 80, owners, num_clients=3)
  assert made.clients.tolist() == [0, 1, 2]
  assert set(owners[_all_indices(made)]) == {0, 1, 2}
  assert len(_all_indices(made)) == 60
  assert len(made.public) == 10


def test_more_natural_clients_than_there_are_are_refused():
  with pytest.raises(InputError, match="dataset has only 8 clients; 0 takes all"):
    _natural([0, 1] * 80, np.repeat(np.arange(8), 20), num_clients=9)


def test_clients_of_left_out_classes_only_are_none():
  # Owner 1 has nothing but class 1.
  facts = _facts([0] * 20 + [1] * 20, np.repeat([0, 1], 20))
  made = federation.federate(
    facts, _NOTHING, FederationConfig("natural", 2), left_out=(1,)
  )
  assert made.clients.tolist() == [0]


def test_public_samples_leave_every_natural_client_one():
  # 30 clients of one example each, and one of 50: who has one keeps it.
  owners = np.concatenate([np.arange(30), np.full(50, 30)])
  made = _natural([0] * 80, owners, public_per_class=40)
  assert made.clients.tolist() == list(range(31))
  assert set(owners[made.public]) == {30}


class TestDuplicates:
  """Contents are numbers here; the test split holds 100."""

  def made(self, public, training, development, contents):
    parts = Federation(
      np.array(public, int),
      tuple(np.array(part, int) for part in training),
      tuple(np.array(part, int) for part in development),
      np.arange(len(training)),
    )
    return federation.without_duplicates(
      parts, np.array(contents, np.uint64), np.array([100], np.uint64)
    )

  def test_by_hand(self):
    #                    public  training          held out
    made = self.made(
      [0, 1], [[2, 3, 4], [5, 6]], [[7, 8], [9, 10]],
      [100, 20, 20, 30, 100, 40, 41, 20, 30, 100, 50],
    )  # fmt: skip
    # 0, 4 and 9 are in the test split; 2 and 7 are public (20); 8 is trained on (30).
    assert made.public.tolist() == [1]
    assert [part.tolist() for part in made.training] == [[3], [5, 6]]
    assert [part.tolist() for part in made.development] == [[], [10]]
    assert made.duplicates == federation.Duplicates(3, 2, 1)
    assert made.duplicates.total == 6

  def test_clients_may_train_on_the_same_contents(self):
    made = self.made([], [[0, 1], [2]], [[], []], [7, 7, 7])
    assert [part.tolist() for part in made.training] == [[0, 1], [2]]

  def test_a_client_that_has_nothing_left_is_none(self):
    made = self.made([], [[0], [1], [2]], [[], [], []], [100, 1, 2])
    assert made.clients.tolist() == [1, 2]
    assert [part.tolist() for part in made.training] == [[1], [2]]

  def test_a_federation_that_has_nothing_left_is_refused(self):
    with pytest.raises(InputError, match="every training example occurs in the test"):
      self.made([], [[0]], [[]], [100])

  @support.quick
  @given(
    st.lists(st.integers(0, 12), min_size=40, max_size=40),
    st.sets(st.integers(0, 12), max_size=4),
    st.integers(0, 99),
  )
  def test_parts_are_disjoint_by_content(self, contents, in_test, seed):
    facts = _facts([0, 1] * 20, contents=contents)
    config = FederationConfig("iid", 2, seed=seed)
    try:
      made = federation.federate(facts, np.array(sorted(in_test), np.uint64), config)
    except InputError:
      return
    kinds = [
      set(facts.contents[np.concatenate(part)].tolist())
      for part in ([made.public], made.training, made.development)
    ]
    kinds.append(in_test)
    for i, one in enumerate(kinds):
      for other in kinds[i + 1 :]:
        assert not one & other


class TestOverlap:
  """Examples 0 to 39 of one client: four windows of each raw value, of two classes."""

  LABELS = np.repeat([0, 1], 20)

  def rows(self, indices):
    """Windows of four rows, one row apart, each class on rows of its own."""
    return {(int(self.LABELS[i]), int(i) + row) for i in indices for row in range(4)}

  @pytest.mark.parametrize("partitioner", ["natural", "iid"])
  def test_no_raw_value_is_in_two_parts(self, partitioner):
    owners = np.zeros(40, int)
    config = FederationConfig(partitioner, 1 if partitioner == "natural" else 2,
                              public_per_class=1)  # fmt: skip
    facts = _facts(self.LABELS, owners)
    made = federation.federate(facts, _NOTHING, config, overlap=3)
    parts = [
      self.rows(np.concatenate(part))
      for part in ([made.public], made.training, made.development)
    ]
    assert all(parts)
    for i, one in enumerate(parts):
      for other in parts[i + 1 :]:
        assert not one & other
    left = 40 - len(_all_indices(made))
    assert made.duplicates.overlapping == left > 0
    # Without saying so, they would share.
    plain = federation.federate(facts, _NOTHING, config)
    assert self.rows(np.concatenate(plain.training)) & self.rows(
      np.concatenate(plain.development)
    )

  def test_by_hand(self):
    parts = Federation(
      np.array([5]),
      (np.array([0, 1, 2, 3, 4, 7, 8]),),
      (np.array([6, 9]),),
      np.arange(1),
    )
    made = federation.without_overlaps(parts, _facts([0] * 4 + [1] * 6), overlap=1)
    # 6 is next to the public 5, and so is 4; 8 is next to the held-out 9. 3 is of
    # another class than 4.
    assert made.public.tolist() == [5]
    assert made.development[0].tolist() == [9]
    assert made.training[0].tolist() == [0, 1, 2, 3, 7]
    assert made.duplicates.overlapping == 3

  def test_other_owners_do_not_overlap(self):
    parts = Federation(
      np.zeros(0, int), (np.array([0]), np.array([2])), (np.array([1]), np.zeros(0, int)),
      np.arange(2),
    )  # fmt: skip
    facts = _facts([0, 0, 0], owners=[0, 0, 1])
    made = federation.without_overlaps(parts, facts, overlap=1)
    assert [part.tolist() for part in made.training] == [[], [2]]


def test_test_examples_lie_by_client():
  owners = np.array([2, 0, 5, 2, 0, 1], np.int32)
  order, places = federation.test_order(owners, 6, np.array([0, 2, 3]))
  # Owner 0: examples 1 and 4; owner 1: 5; owner 2: 0 and 3; 5 owns nothing to train on.
  assert order.tolist() == [1, 4, 5, 0, 3, 2]
  assert places.tolist() == [[0, 2], [3, 2], [5, 0]]


def test_a_test_split_without_owners_stays_as_it_is():
  order, places = federation.test_order(None, 3, np.arange(2))
  assert order.tolist() == [0, 1, 2]
  assert places.tolist() == [[0, 0], [0, 0]]
