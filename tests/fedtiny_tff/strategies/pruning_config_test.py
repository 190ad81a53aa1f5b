"""A bad configuration is refused when made; events follow from a good one."""

import dataclasses
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.sparsity.schedules import AdjustmentEvent
from fedtiny_tff.strategies.pruning_config import (
  PruningConfig,
  check_entire,
  regular_events,
)
from tests.fedtiny_tff import support

_SPEC = support.spec_of_sizes(40, 60)
_ACTIVE = (20, 30)


def _config(**changes) -> PruningConfig:
  return PruningConfig(**{"target_density": 0.5, "rounds": 4, **changes})


def test_what_is_not_said_is_the_paper_s():
  assert dataclasses.astuple(PruningConfig(0.1, 5)) == (
    *(0.1, 5, 10, 100, 0),
    *("noisy", "block", "backward", 0),
  )


def test_it_does_not_change():
  with pytest.raises(dataclasses.FrozenInstanceError):
    _config().rounds = 5  # type: ignore[misc]


@pytest.mark.parametrize("density", [0.0, -0.5, 1.4, float("nan")])
def test_density_must_be_in_its_range(density):
  message = rf"^target_density must be in \(0, 1\], got {density}$"
  with pytest.raises(ValueError, match=message):
    PruningConfig(density, 10)


@pytest.mark.parametrize("value", [0, -3])
def test_rounds_and_interval_must_be_at_least_one(value):
  for name in ("rounds", "adjust_every_rounds"):
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, got {value}$"):
      _config(**{name: value})


@pytest.mark.parametrize(("until", "pool"), [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(until, pool):
  message = (
    f"^adjust_until_round and pool_size must be at least 0, got {until} and {pool}$"
  )
  with pytest.raises(ValueError, match=message):
    _config(adjust_until_round=until, pool_size=pool)


@pytest.mark.parametrize(
  ("name", "choices"),
  [
    ("layer_densities", "noisy, uniform, erk, noisy_erk"),
    ("granularity", "block, layer, entire"),
    ("adjust_order", "backward, forward"),
  ],
)
def test_an_unknown_choice_is_refused_and_every_known_one_taken(name, choices):
  message = f"^{name} must be one of {choices}, got 'sideways'$"
  with pytest.raises(ValueError, match=message):
    _config(**{name: "sideways"})
  for choice in choices.split(", "):
    assert getattr(_config(**{name: choice}), name) == choice


def test_a_value_of_another_type_is_refused():
  with pytest.raises(ValueError, match=r"^rounds must be a whole number, got 5\.0$"):
    _config(rounds=5.0)


def test_the_least_and_the_most_are_allowed():
  config = PruningConfig(1.0, 1, 1, 0, 0)
  assert (config.target_density, config.rounds) == (1.0, 1)
  assert regular_events(_SPEC, _SPEC.sizes, config) == ()


# Of the share 0.15 · (1 + cos(π r / until)) of the active weights, rounded up, moves:
# until round 4 that is 0.2561, 0.15 and 0.0439 in rounds 1, 2 and 3; until round 6 it is
# 0.225 and 0.075 in rounds 2 and 4.
_EVERY_ROUND = {"adjust_every_rounds": 1, "adjust_until_round": 4}


@pytest.mark.parametrize(
  ("changes", "events"),
  [
    (_EVERY_ROUND, [(1, 1, 8), (2, 0, 3), (3, 1, 2)]),
    (_EVERY_ROUND | {"adjust_order": "forward"}, [(1, 0, 6), (2, 1, 5), (3, 0, 1)]),
    (_EVERY_ROUND | {"rounds": 3}, [(1, 1, 8), (2, 0, 3)]),
    (
      {"rounds": 9, "adjust_every_rounds": 2, "adjust_until_round": 6},
      [(2, 1, 7), (4, 0, 2)],
    ),
    ({"adjust_every_rounds": 4}, []),
    ({"adjust_every_rounds": 1, "adjust_until_round": 1}, []),
  ],
)
def test_events_by_hand(changes: Mapping[str, object], events):
  found = regular_events(_SPEC, _ACTIVE, _config(**changes))
  assert found == tuple(AdjustmentEvent(r, block, (n,)) for r, block, n in events)


@support.quick
@given(
  *(st.integers(1, 40), st.integers(1, 9), st.integers(0, 45)),
  st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=4),
  st.sampled_from(["backward", "forward"]),
)
def test_blocks_take_turns_and_no_layer_is_emptied(rounds, every, until, layers, order):
  spec = support.spec_of_sizes(*(active + pruned for active, pruned in layers))
  config = PruningConfig(0.5, rounds, every, until, adjust_order=order)
  events = regular_events(spec, [active for active, _ in layers], config)
  planned = list(range(every, min(rounds, until), every))
  assert [event.round_index for event in events] == planned
  turns = [number % len(layers) for number in range(len(planned))]
  last = len(layers) - 1
  expected = turns if order == "forward" else [last - turn for turn in turns]
  assert [event.block for event in events] == expected
  for event in events:
    active, pruned = layers[event.block]
    assert 0 <= event.counts[0] <= min(active - 1, pruned)


def test_one_block_of_all_layers_is_entire():
  check_entire(_SPEC.with_blocks([[0, 1]]), "some")


@pytest.mark.parametrize("blocks", [((0,), (1,)), ((1, 0),)])
def test_other_blocks_are_not(blocks):
  message = f"some adjusts the whole model at once, got blocks {blocks}"
  with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
    check_entire(_SPEC.with_blocks(blocks), "some")
