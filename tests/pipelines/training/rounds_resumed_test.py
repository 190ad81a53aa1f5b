"""Every finished round is kept, and a run that broke off goes on from it."""

import csv

import numpy as np
import pytest

from pipelines.runs import metrics_log, state_arrays, state_store
from pipelines.training import rounds_stage
from tests.pipelines import equal_runs
from tests.pipelines.training import scripted_rounds

MEMORY = (np.zeros(3, np.float32), np.asarray(7, np.int64))


@pytest.fixture(name="world")
def fixture_world(tmp_path, monkeypatch):
  return scripted_rounds.make_world(tmp_path, monkeypatch)


def test_every_round_is_stored_before_the_next(world, monkeypatch):
  seen = []
  advance = world.builder.computation

  def computation(number, mask):
    stored = state_store.StateStore(world.path / "state").load_latest()
    rows = (world.path / "metrics.csv").read_text().count("\n") - 1
    seen.append((number, stored[0] if stored else 0, rows))
    return advance(number, mask)

  monkeypatch.setattr(world.builder, "computation", computation)
  world.phase().run(scripted_rounds.state())
  assert seen == [(number,) * 3 for number in range(5)]


@pytest.mark.parametrize("broken_in", [0, 1, 3, 4])
def test_a_broken_phase_goes_on_and_ends_the_same(world, monkeypatch, broken_in):
  whole = world.phase().run(scripted_rounds.state())
  for path in (world.path / "state").iterdir():
    path.unlink()
  world.builder.rounds.clear()
  with scripted_rounds.interrupted_in(world, monkeypatch, broken_in):
    world.phase().run(scripted_rounds.state())
  again = world.phase().run(scripted_rounds.state())
  assert [number for number, _ in world.builder.rounds] == [0, 1, 2, 3, 4]
  for one, other in zip(again.rows, whole.rows, strict=True):
    for name in set(metrics_log.COLUMNS) - set(equal_runs.VARYING):
      assert one[name] == other[name]
  assert again.events == whole.events
  np.testing.assert_array_equal(again.state.mask, whole.state.mask)
  np.testing.assert_array_equal(
    again.state.weights.prunable, whole.state.weights.prunable
  )


def test_a_finished_phase_computes_nothing(world, monkeypatch):
  whole = world.phase().run(scripted_rounds.state())
  (world.path / "metrics.csv").unlink()
  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", None)
  again = world.phase().run(scripted_rounds.state())
  assert again.rows == whole.rows
  table = list(csv.DictReader((world.path / "metrics.csv").open()))
  assert [row["round"] for row in table] == ["0", "1", "2", "3", "4"]


def _remembered(state):
  return [(each.dtype.name, np.ravel(each).tolist()) for each in state.memory]


def test_a_strategys_memory_goes_from_round_to_round_and_is_stored(world):
  result = world.phase().run(scripted_rounds.state(memory=MEMORY))
  # Events at the end of rounds 1 and 3.
  wanted = [("float32", [2.0] * 3), ("int64", [9])]
  assert _remembered(result.state) == wanted
  stored = state_store.StateStore(world.path / "state").load_latest()
  assert stored is not None
  assert {name for name in stored[1] if "memory" in name} == {
    "memory_000",
    "memory_001",
  }
  assert _remembered(state_arrays.to_state(stored[1], 5)) == wanted


@pytest.mark.parametrize("broken_in", [1, 2, 3, 4])
def test_a_broken_phase_remembers_what_was_stored(world, monkeypatch, broken_in):
  with scripted_rounds.interrupted_in(world, monkeypatch, broken_in):
    world.phase().run(scripted_rounds.state(memory=MEMORY))
  again = world.phase().run(scripted_rounds.state(memory=MEMORY))
  assert _remembered(again.state) == [("float32", [2.0] * 3), ("int64", [9])]


def test_rounds_are_built_for_the_memory_of_the_start(world, monkeypatch):
  given = {}

  def build(*arguments, **named):
    given.update(named)
    return world.builder

  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", build)
  world.phase().run(scripted_rounds.state(memory=MEMORY))
  assert given["memory"] is MEMORY
  assert given["active_count"] == 4
