"""LotteryFL style pruning: what goes at each event, worked out by hand."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, lotteryfl
from fedtiny_tff.strategies.adjustment import ServerModel
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(4, 6, blocks=((0, 1),))


def _applied(spec, weights, mask, counts):
  adjustment = lotteryfl.LotteryFL().adjustment(
    base.AdjustmentPlan(spec, 0, counts, 0, 0)
  )
  vectors = ModelWeights(
    tf.constant(weights, tf.float32), *(tf.zeros([0]) for _ in range(3))
  )
  moved = adjustment.apply(
    ServerModel(vectors, tf.constant(mask), ()), (), tf.constant(counts), tf.constant(3)
  )
  assert moved.memory == ()
  return moved.weights.prunable.numpy(), moved.mask.numpy()


def test_the_smallest_of_each_layer_go():
  weights = [0.4, -0.1, 0.3, 0.2, 0.1, 0.3, -0.2, 0.0, 5.0, -0.4]
  new_weights, mask = _applied(_SPEC, weights, np.ones(10, bool), (1, 3))
  assert np.flatnonzero(mask).tolist() == [0, 2, 3, 5, 8, 9]
  wanted = [0.4, 0, 0.3, 0.2, 0, 0.3, 0, 0, 5.0, -0.4]
  np.testing.assert_array_equal(new_weights, support.floats(wanted))


def test_what_is_gone_stays_away():
  mask = np.isin(np.arange(10), (0, 1, 2, 4, 5, 6))
  _, after = _applied(_SPEC, np.where(mask, 0.5, 0.0), mask, (1, 1))
  # Of equals the first stay; a pruned one never comes instead.
  assert np.flatnonzero(after).tolist() == [0, 1, 4, 5]


def test_clients_send_their_model_and_nothing_else():
  adjustment = lotteryfl.LotteryFL().adjustment(
    base.AdjustmentPlan(_SPEC, 0, (1, 1), 0, 0)
  )
  assert adjustment.statistics_specs() == ()
  assert not adjustment.replaces_weights


def test_weights_that_are_no_numbers_keep_the_counts():
  _, mask = _applied(_SPEC, [np.nan] * 10, np.ones(10, bool), (1, 3))
  assert _SPEC.active_counts(mask) == (3, 3)


def test_groups_go_by_their_norm():
  spec = _SPEC.with_channel_block(2)
  weights = [3.0, 0.0, 2.2, 2.3, 0.0, 0.1, 1.0, 1.0, 1.5, 0.0]
  _, mask = _applied(spec, weights, np.ones(10, bool), (1, 2))
  # Norms 3 and 3.18; 0.1, 1.41 and 1.5.
  assert np.flatnonzero(mask).tolist() == [2, 3, 8, 9]


@pytest.mark.parametrize(
  ("start", "end", "events", "wanted"),
  [
    (1000, 1, 3, (1000, 100, 10, 1)),
    (64, 4, 4, (64, 32, 16, 8, 4)),
    # 100 * 0.3^(1/2) = 54.8.
    (100, 30, 2, (100, 55, 30)),
    (100, 30, 1, (100, 30)),
    (5, 5, 3, (5, 5, 5, 5)),
    (7, 7, 0, (7,)),
  ],
)
def test_counts_fall_by_one_factor(start, end, events, wanted):
  assert lotteryfl.falling_counts(start, end, events) == wanted


@support.quick
@given(st.integers(1, 10**7), st.floats(1e-7, 1.0), st.integers(1, 100))
def test_counts_never_rise_and_end_where_they_should(start, share, events):
  end = max(1, int(start * share))
  found = lotteryfl.falling_counts(start, end, events)
  assert len(found) == events + 1
  assert (found[0], found[-1]) == (start, end)
  assert all(before >= after for before, after in itertools.pairwise(found))


def _plan(spec=_SPEC, density=0.4, rounds=100, **changes):
  config = PruningConfig(density, rounds, layer_densities="uniform", **changes)
  strategy = lotteryfl.LotteryFL()
  kept = strategy.expected_counts(spec, config)
  start = strategy.starting_counts(spec, kept)
  return kept, start, strategy.plan_events(spec, start, config)


class TestEvents:
  def test_by_hand(self):
    spec = support.spec_of_sizes(1000, 640, blocks=((0, 1),))
    # Kept: 10 % of each. Two events: 1000 * 0.1^(1/2) = 316.2 and 640 * ... = 202.4.
    kept, start, events = _plan(spec, 0.1, rounds=30)
    assert (kept, start) == ((100, 64), (1000, 640))
    assert events == (
      schedules.AdjustmentEvent(10, 0, (684, 438), grows=False),
      schedules.AdjustmentEvent(20, 0, (216, 138), grows=False),
    )

  def test_rounds_are_those_of_other_methods(self):
    _, _, events = _plan(adjust_every_rounds=7, adjust_until_round=50)
    others = regular_events(
      _SPEC, (2, 2), PruningConfig(
        0.4, 100, adjust_every_rounds=7, adjust_until_round=50
      )
    )  # fmt: skip
    assert [e.round_index for e in events] == [e.round_index for e in others]
    assert not any(event.grows for event in events)

  def test_a_short_run_reaches_its_density_all_the_same(self):
    kept, start, events = _plan(rounds=11)
    (event,) = events
    assert tuple(np.subtract(start, event.removed(_SPEC))) == kept
    assert sum(kept) == 4

  def test_nothing_goes_at_full_density(self):
    _, _, events = _plan(density=1.0)
    assert {event.counts for event in events} == {(0, 0)}
    assert _plan(density=1.0, adjust_until_round=0)[2] == ()

  @pytest.mark.parametrize(
    "changes", [{"adjust_until_round": 0}, {"rounds": 10}, {"adjust_every_rounds": 100}]
  )
  def test_a_run_without_events_is_refused(self, changes):
    with pytest.raises(
      InputError, match="strategy 'lotteryfl' prunes at adjustments, and"
    ):
      _plan(**changes)

  def test_layers_in_several_blocks_are_refused(self):
    with pytest.raises(
      ValueError, match=r"lotteryfl adjusts the whole model at once, got"
    ):
      _plan(_SPEC.with_blocks([[0], [1]]))


@support.quick
@given(
  st.floats(0.01, 1.0), st.integers(1, 60), st.sampled_from([1, 2, 4]),
  st.sampled_from(["uniform", "erk", "noisy"]),
)  # fmt: skip
def test_the_last_event_leaves_what_was_asked_for(
  density, every, size, layer_densities
):
  spec = support.spec_of_sizes(96, 200, 64, blocks=((0, 1, 2),)).with_channel_block(
    size
  )
  config = PruningConfig(
    density, 100, adjust_every_rounds=every, layer_densities=layer_densities
  )
  strategy = lotteryfl.LotteryFL()
  kept = strategy.expected_counts(spec, config)
  generator = np.random.default_rng(every)
  # Few values, so that ties are common.
  weights = generator.integers(-2, 3, 360).astype(np.float32)
  mask = np.ones(360, bool)
  for event in strategy.plan_events(spec, spec.sizes, config):
    before = mask
    weights, mask = _applied(spec, weights, mask, event.counts)
    assert not (mask & ~before).any()
    wanted = np.subtract(spec.active_counts(before), event.removed(spec))
    assert spec.active_counts(mask) == tuple(wanted)
  assert spec.active_counts(mask) == kept
  groups = mask.reshape(-1, size)
  assert (groups == groups[:, :1]).all()
  if size == 1:
    assert mask.sum() == max(3, int(density * 360 + 1e-9))


def test_it_starts_dense_and_ends_sparse():
  strategy = lotteryfl.LotteryFL()
  assert strategy.is_sparse
  assert not strategy.selects
  start = support.pretrained(np.zeros(10, np.float32), _SPEC)
  masks = strategy.candidate_masks(start, PruningConfig(0.4, 10))
  assert masks.shape == (1, 10)
  assert masks.all()


def test_the_dense_model_is_charged():
  profile = ModelProfile(115, (40, 60), (1000, 600), 7, 0, 9, 0)
  workload = device_cost.Workload(3, 2, 2)
  found = lotteryfl.LotteryFL().round_cost(profile, workload, (10, 30), ((0, 1),))
  assert found == cost.dense_cost(profile, workload)
