"""Every partitioner deals every example once; what each deals is worked out by hand."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff import seeds
from fedtiny_tff.data import partitioners
from fedtiny_tff.data.partitioners import PartitionRequest
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_DEALT = ("iid", "dirichlet", "shards", "quantity_skew")
_LABELS = np.arange(400) % 4


def _deal(kind, labels, num_clients, seed=0, owners=None, alpha=5.0, **changes):
  request = PartitionRequest(
    np.asarray(labels, np.int64),
    None if owners is None else np.asarray(owners, np.int32),
    num_clients,
    alpha,
    **changes,
  )
  generator = seeds.generator(seed, "partition")
  return partitioners.PARTITIONERS[kind](request, generator)


def _lists(parts):
  return [part.tolist() for part in parts]


def _sizes(parts):
  return [len(part) for part in parts]


def test_the_names():
  assert set(partitioners.PARTITIONERS) == {*_DEALT, "natural"}
  assert partitioners.default_partitioner(True) == "natural"
  assert partitioners.default_partitioner(False) == "dirichlet"


@support.quick
@given(
  st.sampled_from(_DEALT),
  st.integers(1, 8),
  st.integers(0, 150),
  st.integers(1, 4),
  st.integers(0, 99),
)
def test_every_example_is_dealt_once(kind, clients, more, classes, seed):
  # Dirichlet shares of the fewest examples that can do would be drawn for long.
  least = 40 if kind == "dirichlet" else 10
  count = clients * least + more
  labels = np.random.default_rng(seed).integers(0, classes, count)
  parts = _deal(kind, labels, clients, seed)
  assert len(parts) == clients
  assert min(map(len, parts)) >= partitioners.MIN_CLIENT_EXAMPLES
  for part in parts:
    assert (np.diff(part) > 0).all()
  assert np.sort(np.concatenate(parts)).tolist() == list(range(count))
  assert _lists(parts) == _lists(_deal(kind, labels, clients, seed))
  if clients > 1:
    assert _lists(parts) != _lists(_deal(kind, labels, clients, seed + 1))


@pytest.mark.parametrize("kind", _DEALT)
def test_ten_examples_a_client_are_needed(kind):
  with pytest.raises(InputError) as caught:
    _deal(kind, _LABELS[:49], 5)
  assert str(caught.value) == (
    "5 clients need at least 50 training examples, there are 49: lower --num_clients"
  )


@pytest.mark.parametrize("kind", ["iid", "shards", "quantity_skew"])
def test_ten_examples_a_client_are_enough(kind):
  assert _sizes(_deal(kind, _LABELS[:50], 5)) == [10] * 5


@pytest.mark.parametrize("kind", _DEALT)
def test_all_clients_are_natural_ones_only(kind):
  with pytest.raises(InputError, match="--num_clients=0: only --partitioner=natural"):
    _deal(kind, _LABELS, 0)


@pytest.mark.parametrize(
  ("kind", "alpha", "clients", "seed", "digest"),
  [
    ("iid", 0.5, 5, 0, "948b28c615386b7bdc0bf8a294ff7cd6"),
    ("iid", 0.1, 8, 1, "8b64aad6c4e29fa277f4306b80a25fd5"),
    ("dirichlet", 0.5, 5, 0, "75eceed6f05edadfc3276a432843205b"),
    ("dirichlet", 0.1, 8, 1, "69e1301f776022e8c3d59dcb2ace10d6"),
  ],
)
def test_published_results_can_be_drawn_again(kind, alpha, clients, seed, digest):
  # Written down from the program that made them.
  parts = _deal(kind, _LABELS, clients, seed, alpha=alpha)
  everything = np.concatenate([*parts, _sizes(parts)]).astype("<i8")
  assert hashlib.sha256(everything.tobytes()).hexdigest()[:32] == digest


class TestIid:
  def test_parts_are_near_equal(self):
    assert _sizes(_deal("iid", _LABELS[:32], 3)) == [11, 11, 10]

  def test_it_shuffles(self):
    assert _deal("iid", _LABELS[:40], 2)[0].tolist() != list(range(20))


class TestDirichlet:
  def test_a_small_alpha_is_more_uneven(self):
    def largest_share(alpha):
      """Mean over classes and seeds of the largest part that one client has."""
      shares = []
      for seed in range(5):
        parts = _deal("dirichlet", _LABELS, 4, seed, alpha=alpha)
        held = np.array([np.bincount(_LABELS[part], minlength=4) for part in parts])
        shares.append((held.max(axis=0) / 100).mean())
      return np.mean(shares)

    even, middle, uneven = (largest_share(alpha) for alpha in (1e4, 1.0, 0.1))
    # Four equal parts would be 0.25.
    assert 0.25 <= even < 0.3 < middle - 0.1
    assert middle + 0.1 < uneven <= 1.0

  def test_it_gives_up(self):
    with pytest.raises(InputError, match=r"no Dirichlet\(0.01\) split gave each of 9"):
      _deal("dirichlet", np.zeros(90), 9, alpha=0.01)


class TestShards:
  def test_one_shard_of_each_class(self):
    # 40 examples of 4 classes, 4 shards of 10: every shard is one class.
    labels = _LABELS[:40]
    parts = _deal("shards", labels, 2)
    held = [set(labels[part]) for part in parts]
    assert [len(each) for each in held] == [2, 2]
    assert held[0] | held[1] == {0, 1, 2, 3}
    assert _sizes(parts) == [20, 20]

  def test_a_shard_may_span_a_border(self):
    # Sorted: 8 of class 0, 13 of class 1. Two shards: 11 (8 + 3) and 10 (all class 1).
    labels = np.array([1] * 13 + [0] * 8)
    parts = _deal("shards", labels, 2, shards_per_client=1)
    held = sorted(np.bincount(labels[part], minlength=2).tolist() for part in parts)
    assert held == [[0, 10], [8, 3]]
    assert set(range(13, 21)) <= set(max(parts, key=len).tolist())

  def test_examples_of_a_class_are_shuffled(self):
    parts = _lists(_deal("shards", np.zeros(40), 2, shards_per_client=1))
    assert list(range(20)) not in parts

  def test_shards_are_dealt_at_random(self):
    firsts = {
      tuple(set(_LABELS[_deal("shards", _LABELS, 2, seed)[0]])) for seed in range(12)
    }
    assert len(firsts) > 2

  def test_small_shards_must_do_for_everybody(self):
    # Nine shards, of which three must hold ten: four each, 36.
    assert min(_sizes(_deal("shards", _LABELS[:36], 3, shards_per_client=3))) == 12
    with pytest.raises(InputError, match="3 clients of 3 shards need at least 36 "):
      _deal("shards", _LABELS[:35], 3, shards_per_client=3)

  def test_no_shard_is_refused(self):
    with pytest.raises(InputError, match="--shards_per_client must be at least 1"):
      _deal("shards", _LABELS, 3, shards_per_client=0)


class TestApportion:
  @pytest.mark.parametrize(
    ("weights", "total", "expected"),
    [
      ([1, 2, 5], 80, [10, 20, 50]),
      # Equal remainders: the first are rounded up.
      ([1, 1, 1], 32, [11, 11, 10]),
      # 16.25, 16.25, 32.5: the one that is left goes to the largest remainder.
      ([1, 1, 2], 65, [16, 16, 33]),
      # 2 of 62 is raised to 10; 52 are left, 17.33 and 34.67.
      ([1, 10, 20], 62, [10, 17, 35]),
      # 1 is raised to 10; of 90 that are left, 9.55 are raised as well.
      ([1, 10.5, 88.5], 100, [10, 10, 80]),
      ([0, 0, 1], 30, [10, 10, 10]),
      ([3, 1], 20, [10, 10]),
      ([7], 15, [15]),
    ],
  )
  def test_by_hand(self, weights, total, expected):
    sizes = partitioners.apportion(np.array(weights, float), total, 10)
    assert sizes.tolist() == expected

  @support.quick
  @given(
    st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30),
    st.integers(0, 500),
    st.integers(0, 12),
  )
  def test_the_total_is_exact_and_order_is_kept(self, weights, more, least):
    total = len(weights) * least + more
    sizes = partitioners.apportion(np.array(weights), total, least)
    assert sizes.sum() == total
    assert sizes.min() >= least
    by_weight = sizes[np.argsort(weights, kind="stable")]
    assert (np.diff(by_weight) >= -1).all()


class TestQuantitySkew:
  def test_sizes_follow_the_draws(self):
    draws = seeds.generator(3, "partition").standard_normal(4)
    expected = 4000 * np.exp(0.5 * draws) / np.exp(0.5 * draws).sum()
    sizes = _sizes(_deal("quantity_skew", np.zeros(4000), 4, 3, quantity_sigma=0.5))
    assert np.abs(np.array(sizes) - expected).max() < 1.0
    assert max(sizes) - min(sizes) > 100

  def test_no_spread_is_even(self):
    parts = _deal("quantity_skew", _LABELS[:32], 3, quantity_sigma=0.0)
    assert _sizes(parts) == [11, 11, 10]

  def test_any_spread_can_be_drawn(self):
    sizes = sorted(_sizes(_deal("quantity_skew", _LABELS, 5, quantity_sigma=1e5)))
    assert sizes == [10, 10, 10, 10, 360]

  def test_classes_stay_even(self):
    labels = np.arange(4000) // 1000
    largest = max(_deal("quantity_skew", labels, 3), key=len)
    shares = np.bincount(labels[largest]) / len(largest)
    assert np.abs(shares - 0.25).max() < 0.05


class TestNatural:
  _OWNERS = (2, 0, 1, 0, 2, 2)

  def test_everybody_keeps_what_they_own(self):
    parts = _deal("natural", [0] * 6, 0, owners=self._OWNERS)
    assert _lists(parts) == [[1, 3], [2], [0, 4, 5]]
    assert _lists(parts) == _lists(_deal("natural", [0] * 6, 3, owners=self._OWNERS))

  def test_the_first_by_number_are_taken(self):
    parts = _deal("natural", [0] * 6, 2, owners=self._OWNERS)
    assert _lists(parts) == [[1, 3], [2]]

  def test_places_stay_owners_numbers(self):
    parts = _deal("natural", [0] * 3, 0, owners=[3, 1, 3])
    assert _lists(parts) == [[], [1], [], [0, 2]]

  def test_more_than_there_are(self):
    with pytest.raises(InputError) as caught:
      _deal("natural", [0] * 6, 4, owners=self._OWNERS)
    assert str(caught.value) == (
      "--num_clients=4, but dataset has only 3 clients; 0 takes all"
    )

  def test_nobody_owns_anything(self):
    with pytest.raises(InputError, match="--partitioner=natural: the dataset does not"):
      _deal("natural", _LABELS, 0)

  @support.quick
  @given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 10))
  def test_against_a_plain_loop(self, owners, clients):
    known = max(owners, default=-1) + 1
    if clients > known:
      return
    parts = _deal("natural", [0] * len(owners), clients, owners=owners)
    assert _lists(parts) == [
      [place for place, owner in enumerate(owners) if owner == client]
      for client in range(clients or known)
    ]

  def test_a_hundred_thousand_clients(self):
    owners = np.random.default_rng(0).permutation(np.arange(300_000) % 100_000)
    parts = _deal("natural", np.zeros(300_000), 0, owners=owners)
    assert set(_sizes(parts)) == {3}
    assert (owners[np.concatenate(parts)] == np.repeat(np.arange(100_000), 3)).all()
