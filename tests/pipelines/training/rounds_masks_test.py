"""Masks move as the events of a run say; the computation of a round is scripted."""

import numpy as np
import pytest

from fedtiny_tff.sparsity import schedules
from pipelines.runs import state_store
from pipelines.training import rounds_stage
from tests.fedtiny_tff.support import spec_of_sizes
from tests.pipelines.training import scripted_rounds


@pytest.fixture(name="world")
def fixture_world(tmp_path, monkeypatch):
  return scripted_rounds.make_world(tmp_path, monkeypatch)


def test_adjusted_blocks_are_indices_or_empty(world):
  rows = world.phase().run(scripted_rounds.state()).rows
  assert [row["adjusted_block"] for row in rows] == ["", 1, "", 0, ""]


def test_events_count_what_moved(world):
  events = world.phase().run(scripted_rounds.state()).events
  assert events == [
    {"round": 1, "block": 1, "layers": [{"name": "layer1", "dropped": 1, "grown": 1}]},
    {"round": 3, "block": 0, "layers": [{"name": "layer0", "dropped": 1, "grown": 1}]},
  ]


def test_what_moves_is_told_of_the_pre_trained_model(world):
  """Devices train one half of it; which one the strategy remembers."""
  seen = []

  def kept_weights(mask, memory):
    seen.append(int(memory[0]))
    return np.arange(8) % 2 == memory[0] % 2

  world.strategy.kept_weights = kept_weights
  result = world.phase().run(scripted_rounds.state(memory=(np.int64(0),)))
  assert result.events == [
    {"round": 1, "block": 1, "layers": [{"name": "layer1", "dropped": 2, "grown": 2}]},
    {"round": 3, "block": 0, "layers": [{"name": "layer0", "dropped": 2, "grown": 2}]},
  ]
  # Once for the layers at the start, twice a round.
  assert seen == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_densities_are_shares_of_the_full_model(world):
  world.full.spec = spec_of_sizes(10, 22)
  rows = world.phase().run(scripted_rounds.state()).rows
  assert {row["density"] for row in rows} == {4 / 32}


def test_a_changed_density_is_a_defect_and_not_stored(world):
  world.builder.wrong_layer = 2
  with pytest.raises(RuntimeError, match="round 2 left other densities than planned"):
    world.phase().run(scripted_rounds.state())
  stored = state_store.StateStore(world.path / "state").load_latest()
  assert stored is not None
  assert stored[0] == 2


def test_each_round_is_built_for_the_mask_it_starts_from(world):
  result = world.phase().run(scripted_rounds.state())
  # Events at the end of rounds 1 and 3.
  first, last = scripted_rounds.state().mask, result.state.mask
  for number, wanted in ((0, first), (1, first), (4, last)):
    np.testing.assert_array_equal(world.builder.masks[number], wanted)
  between = world.builder.masks[2]
  np.testing.assert_array_equal(between, world.builder.masks[3])
  assert (between != first).sum() == (between != last).sum() == 2


@pytest.mark.parametrize(("per_round", "wanted"), [(4, True), (3, False)])
def test_masks_may_be_held_only_when_every_client_takes_part(
  world, monkeypatch, per_round, wanted
):
  given = {}

  def build(*arguments, **named):
    given.update(named)
    return world.builder

  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", build)
  world.phase(clients_per_round=per_round, num_clients=4).run(scripted_rounds.state())
  assert given["all_clients_every_round"] is wanted


@pytest.fixture(name="shrinking")
def fixture_shrinking(world):
  """The same world, whose events take a weight away for good."""
  events = tuple(
    schedules.AdjustmentEvent(number, block, (1,), grows=False)
    for number, block in ((1, 1), (3, 0))
  )
  world.builder._events = {event.round_index: event for event in events}
  world.strategy._events = events
  return world


def test_events_may_shrink_the_model(shrinking):
  result = shrinking.phase().run(scripted_rounds.state())
  assert [row["density"] for row in result.rows] == [0.5, 0.375, 0.375, 0.25, 0.25]
  assert result.events == [
    {"round": 1, "block": 1, "layers": [{"name": "layer1", "dropped": 1, "grown": 0}]},
    {"round": 3, "block": 0, "layers": [{"name": "layer0", "dropped": 1, "grown": 0}]},
  ]
  # Evaluated after rounds 1, 3 and 4: a computation for each size.
  assert shrinking.built == [3, 2]


def test_a_model_that_did_not_shrink_as_planned_is_a_defect(shrinking):
  shrinking.builder._events[1] = schedules.AdjustmentEvent(1, 1, (2,), grows=False)
  with pytest.raises(RuntimeError, match="round 1 left other densities than planned"):
    shrinking.phase().run(scripted_rounds.state())


def test_a_shrunk_phase_goes_on_where_it_was(shrinking, monkeypatch):
  whole = shrinking.phase().run(scripted_rounds.state())
  for path in sorted((shrinking.path / "state").iterdir())[1:]:
    path.unlink()
  again = shrinking.phase().run(scripted_rounds.state())
  np.testing.assert_array_equal(again.state.mask, whole.state.mask)
  assert again.events == whole.events
