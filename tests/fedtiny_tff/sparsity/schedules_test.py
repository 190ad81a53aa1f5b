"""When masks are adjusted, where, and how many weights move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.sparsity import schedules
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(100, 200, 300)


@pytest.mark.parametrize(
  ("round_index", "expected"),
  [
    # 0.15 * (1 + cos 0) = 0.3 of 100.
    (0, 30),
    # cos(pi/4) = 0.70711: 0.15 * 1.70711 * 100 = 25.607.
    (25, 26),
    # cos(pi/2) = 0: 15.
    (50, 15),
    # cos(3 pi/4): 0.15 * 0.29289 * 100 = 4.393.
    (75, 5),
    # cos(pi * 0.99) = -0.99951: 0.0074, still one weight.
    (99, 1),
    (100, 0),
  ],
)
def test_cosine_counts_by_hand(round_index, expected):
  assert schedules.adjustment_count(round_index, 100, 100, 1000) == expected


def test_a_share_that_is_whole_is_not_rounded_up():
  # cos(2 pi / 3) = -1/2: 0.075 * 40 is 3, and 3.000000000000001 in floats.
  assert schedules.adjustment_count(2, 3, 40, 100) == 3
  assert schedules.adjustment_count(0, 100, 10, 100) == 3
  assert schedules.adjustment_count(50, 100, 20, 100) == 3


def test_no_more_move_than_are_pruned():
  # 30 % of 90 is 27, but only 10 are pruned.
  assert schedules.adjustment_count(0, 100, 90, 100) == 10
  assert schedules.adjustment_count(0, 100, 100, 100) == 0


def test_one_active_weight_stays():
  # ceil(0.3 * 2) = 1 = active - 1; ceil(0.3 * 1) = 1 would empty the layer.
  assert schedules.adjustment_count(0, 100, 2, 100) == 1
  assert schedules.adjustment_count(0, 100, 1, 100) == 0


@support.quick
@given(
  st.integers(1, 400), st.integers(0, 400), st.integers(1, 500), st.integers(0, 500)
)
def test_counts_are_never_negative_and_within_their_caps(until, start, active, pruned):
  round_index = min(start, until)
  count = schedules.adjustment_count(round_index, until, active, active + pruned)
  assert 0 <= count <= min(pruned, active - 1)
  if round_index == until:
    assert count == 0


def test_events_are_strictly_inside():
  rounds = [r for r in range(60) if schedules.is_event(r, 10, 40)]
  # Neither round 0 nor the round at which the count is 0.
  assert rounds == [10, 20, 30]


def _plan(**changes):
  arguments = {"rounds": 300, "every_rounds": 10, "until_round": 100, **changes}
  return schedules.plan_events(_SPEC, (10, 20, 30), **arguments)


def test_blocks_take_turns_from_output_to_input():
  events = _plan()
  assert [e.round_index for e in events] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
  assert [e.block for e in events] == [2, 1, 0] * 3


def test_forward_goes_from_input_to_output():
  assert [e.block for e in _plan(backward=False)] == [0, 1, 2] * 3


def test_no_block_is_skipped_when_the_interval_is_a_multiple_of_the_blocks():
  # By round number, r % 3 would be 0 at every event and name the same block.
  events = _plan(every_rounds=3, until_round=30)
  assert [e.block for e in events] == [2, 1, 0] * 3


def test_event_counts_by_hand():
  first = _plan()[0]
  # Block 2 is layer 2 with 30 active; cos(pi/10) = 0.951057:
  # 0.15 * 1.951057 * 30 = 8.78.
  assert first == schedules.AdjustmentEvent(10, 2, (9,))


def test_a_block_of_several_layers_has_a_count_for_each():
  spec = _SPEC.with_blocks([[0], [1, 2]])
  first = schedules.plan_events(
    spec, (10, 20, 30), rounds=30, every_rounds=10, until_round=100
  )[0]
  # 0.2926585 * 20 = 5.85 and * 30 = 8.78.
  assert first == schedules.AdjustmentEvent(10, 1, (6, 9))


def test_a_short_run_ends_before_the_last_round_allowed():
  assert [e.round_index for e in _plan(rounds=25)] == [10, 20]
  assert _plan(rounds=10) == ()


@pytest.mark.parametrize("until_round", [0, 1, 10])
def test_no_event_when_adjustment_stops_before_the_first(until_round):
  assert _plan(until_round=until_round) == ()


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_one_is_refused(every):
  with pytest.raises(ValueError, match=f"every_rounds must be at least 1, got {every}"):
    _plan(every_rounds=every)


def test_capacities_are_the_largest_counts_of_each_layer():
  events = [
    schedules.AdjustmentEvent(1, 0, (3, 1)),
    schedules.AdjustmentEvent(2, 1, (9,)),
    schedules.AdjustmentEvent(3, 0, (2, 4)),
  ]
  assert schedules.capacities(events, 0) == (3, 4)
  assert schedules.capacities(iter(events), 1) == (9,)
  with pytest.raises(ValueError, match="no event adjusts block 2"):
    schedules.capacities(events, 2)


class TestRemoved:
  """Layers of 8, 12 and 6 weights, the last two in one block."""

  SPEC = support.spec_of_sizes(8, 12, 6, blocks=((0,), (1, 2)))

  def test_an_event_that_grows_removes_nothing(self):
    event = schedules.AdjustmentEvent(1, 1, (3, 2))
    assert event.grows
    assert event.removed(self.SPEC) == (0, 0, 0)

  def test_one_that_does_not_shrinks_the_layers_of_its_block(self):
    event = schedules.AdjustmentEvent(1, 1, (3, 2), grows=False)
    assert event.removed(self.SPEC) == (0, 3, 2)
    event = schedules.AdjustmentEvent(1, 0, (5,), grows=False)
    assert event.removed(self.SPEC) == (5, 0, 0)

  def test_by_the_blocks_order_of_layers(self):
    spec = self.SPEC.with_blocks([[2, 0], [1]])
    event = schedules.AdjustmentEvent(1, 0, (1, 4), grows=False)
    assert event.removed(spec) == (4, 0, 1)

  def test_counts_are_of_groups(self):
    spec = self.SPEC.with_channel_block(4)
    # 6 outputs have no groups of four; two divides them.
    assert spec.channel_blocks == (4, 4, 2)
    event = schedules.AdjustmentEvent(1, 1, (2, 1), grows=False)
    assert event.removed(spec) == (0, 8, 2)

  def test_counts_must_be_those_of_the_block(self):
    event = schedules.AdjustmentEvent(1, 1, (3,), grows=False)
    with pytest.raises(ValueError, match="zip"):
      event.removed(self.SPEC)


def test_granularities():
  spec = _SPEC.with_blocks([[0], [1, 2]])
  assert set(schedules.GRANULARITIES) == {"block", "layer", "entire"}
  assert schedules.GRANULARITIES["block"](spec).blocks == ((0,), (1, 2))
  assert schedules.GRANULARITIES["layer"](spec).blocks == ((0,), (1,), (2,))
  assert schedules.GRANULARITIES["entire"](spec).blocks == ((0, 1, 2),)


@support.quick
@given(
  blocks=st.integers(1, 6), every=st.integers(1, 12), until=st.integers(0, 120),
  backward=st.booleans(),
)  # fmt: skip
def test_every_block_is_visited_equally_often(blocks, every, until, backward):
  spec = support.spec_of_sizes(*[50] * blocks)
  events = schedules.plan_events(
    spec, [10] * blocks, rounds=120, every_rounds=every, until_round=until,
    backward=backward,
  )  # fmt: skip
  visits = [sum(e.block == b for e in events) for b in range(blocks)]
  assert max(visits) - min(visits) <= 1
  assert sum(visits) == len([r for r in range(1, until) if r % every == 0])


class TestChannelBlocks:
  def test_counts_are_groups_by_hand(self):
    spec = support.spec_of_sizes(100, 104).with_channel_block(4)
    assert spec.channel_blocks == (4, 4)
    events = schedules.plan_events(
      spec, (40, 8), rounds=30, every_rounds=10, until_round=100
    )
    # 0.15 (1 + cos(pi/10)) = 0.2927 of 2 groups is one, of which one stays; at round
    # 20 0.2714 of 10 groups are 2.71.
    assert events == (
      schedules.AdjustmentEvent(10, 1, (1,)),
      schedules.AdjustmentEvent(20, 0, (3,)),
    )

  def test_the_last_group_stays(self):
    spec = support.spec_of_sizes(16).with_channel_block(4)
    (event,) = schedules.plan_events(
      spec, (4,), rounds=11, every_rounds=10, until_round=100
    )
    assert event.counts == (0,)

  def test_no_more_groups_move_than_are_pruned(self):
    spec = support.spec_of_sizes(64).with_channel_block(2)
    # 0.2927 of 31 groups would be 10, and one is pruned.
    (event,) = schedules.plan_events(
      spec, (62,), rounds=11, every_rounds=10, until_round=100
    )
    assert event.counts == (1,)
