"""Rounds follow the plan, every finished one is kept; the computation is scripted."""

import csv
import io
import types
from typing import Any

import numpy as np
import pytest
import rich.console

from fedtiny_tff import schedules, tasks, training
from fedtiny_tff.federated import states
from fedtiny_tff.tfmot_masking import ModelWeights
from pipelines import metrics_log, rounds_stage, state_store
from pipelines.progress import Progress
from tests.fedtiny_tff.support import spec_of_sizes
from tests.pipelines import support

# Two layers of four weights, a block each.
SPEC = spec_of_sizes(4, 4)
START = np.array([1, 1, 0, 0, 1, 1, 0, 0], bool)


def _weights(value):
  vector = np.full(8, value, np.float32)
  return ModelWeights(
    vector, np.zeros(1, np.float32), np.zeros(2, np.float32), np.ones(2, np.float32)
  )


def _state(value=0.0, mask=START):
  return states.ServerState(_weights(value), mask, np.int32(0))


class _Builder:
  """Adds 1 to every weight a round; an event swaps one weight of its block."""

  def __init__(self, events):
    self._events = {event.round_index: event for event in events}
    self.rounds = []
    self.masks = []
    self.wrong_layer = None

  def event(self, number):
    return self._events.get(number)

  def instruction(self, number, learning_rate):
    return (number, learning_rate)

  def computation(self, number, mask):
    self.masks.append(np.array(mask))

    def advance(state, clients, instruction):
      assert instruction == (number, 0.05)
      self.rounds.append((number, [int(c.client) for c in clients]))
      mask = np.array(state.mask)
      event = self.event(number)
      if event:
        first = 4 * event.block
        mask[[first, first + 2]] = mask[[first + 2, first]]
      if self.wrong_layer == number:
        mask[0] = not mask[0]
      value = state.weights.prunable[0] + 1
      metrics = training.Metrics(np.float32(6), np.float32(1), np.float32(4))
      new = states.ServerState(_weights(value), mask, np.int32(number + 1))
      return new, metrics

    block = self.event(number).block if self.event(number) else None
    upload = 100 if block is None else 100 + 8
    return types.SimpleNamespace(run=advance, upload_bytes=upload, download_bytes=50)


@pytest.fixture(name="world")
def fixture_world(tmp_path, monkeypatch):
  """A phase factory over one folder; built phases share the scripted builder."""
  events = (
    schedules.AdjustmentEvent(1, 1, (1,)),
    schedules.AdjustmentEvent(3, 0, (1,)),
  )
  builder = _Builder(events)
  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", lambda *a, **k: builder)
  evaluated = []

  def evaluate(state, clients):
    evaluated.append(float(state.model.active_values[0]))
    return training.Metrics(np.float32(2), np.float32(3), np.float32(4))

  monkeypatch.setattr(
    rounds_stage.evaluation, "build_evaluation", lambda *a, **k: evaluate
  )
  references = np.array([[k, 0, 5, 2] for k in range(4)], np.int64)
  data: Any = types.SimpleNamespace(
    references=references,
    clients=None,
    reference=lambda k: rounds_stage.ClientReference(*references[k]),
  )
  strategy: Any = types.SimpleNamespace(plan_events=lambda *arguments: events)
  definition: Any = types.SimpleNamespace(spec=SPEC, task=tasks.CLASSIFY)
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)

  def phase(**changes):
    return rounds_stage.Phase(
      "sparse",
      support.make_config(**{"rounds": 5, "eval_every_rounds": 2, **changes}),
      data,
      definition,
      strategy,
      state_store.StateStore(tmp_path / "state"),
      metrics_log.MetricsLog(tmp_path / "metrics.csv", tmp_path / "tensorboard"),
      Progress(console),
    )

  return types.SimpleNamespace(
    phase=phase, builder=builder, evaluated=evaluated, data=data, path=tmp_path,
    definition=definition,
  )  # fmt: skip


def test_rounds_follow_one_another(world):
  result = world.phase().run(_state())
  assert [number for number, _ in world.builder.rounds] == [0, 1, 2, 3, 4]
  assert [row["round"] for row in result.rows] == [0, 1, 2, 3, 4]
  assert result.state.weights.prunable[0] == 5.0
  assert {tuple(row) for row in result.rows} == {metrics_log.COLUMNS}


def test_figures_are_means_over_examples(world):
  row = world.phase().run(_state()).rows[1]
  assert (row["train_loss"], row["train_accuracy"]) == (1.5, 0.25)
  assert (row["eval_loss"], row["eval_accuracy"]) == (0.5, 0.75)
  assert row["density"] == 0.5
  assert row["clients"] == 3
  assert row["bytes_up_per_client"] == 108
  assert row["bytes_down_per_client"] == 50


def test_without_classes_accuracies_are_empty(world):
  world.definition.task = tasks.RECONSTRUCT
  rows = world.phase().run(_state()).rows
  assert [row["train_loss"] for row in rows] == [1.5] * 5
  assert [row["eval_loss"] for row in rows] == ["", 0.5, "", 0.5, 0.5]
  assert {row[f"{part}_accuracy"] for row in rows for part in ("train", "eval")} == {""}
  table = csv.DictReader((world.path / "metrics.csv").open())
  assert {row["train_accuracy"] for row in table} == {""}


def test_progress_shows_what_there_is(world):
  assert rounds_stage._figures(world.phase().run(_state()).rows[4]) == (
    "loss 1.500, held-out accuracy 0.750"
  )
  shown = {"train_loss": 0.25, "adjusted_block": 2, "eval_accuracy": ""}
  assert rounds_stage._figures({**shown, "eval_loss": 0.5}) == (
    "loss 0.250, held-out loss 0.500, block 2 adjusted"
  )
  assert rounds_stage._figures({**shown, "eval_loss": ""}) == (
    "loss 0.250, block 2 adjusted"
  )


def test_rounds_are_evaluated_when_due_and_the_last_always(world):
  rows = world.phase().run(_state()).rows
  assert [row["round"] for row in rows if row["eval_loss"] != ""] == [1, 3, 4]
  # On the state after the round.
  assert world.evaluated == [2.0, 4.0, 5.0]


def test_adjusted_blocks_are_indices_or_empty(world):
  rows = world.phase().run(_state()).rows
  assert [row["adjusted_block"] for row in rows] == ["", 1, "", 0, ""]


def test_events_count_what_moved(world):
  events = world.phase().run(_state()).events
  assert events == [
    {"round": 1, "block": 1, "layers": [{"name": "layer1", "dropped": 1, "grown": 1}]},
    {"round": 3, "block": 0, "layers": [{"name": "layer0", "dropped": 1, "grown": 1}]},
  ]


def test_a_changed_density_is_a_defect_and_not_stored(world):
  world.builder.wrong_layer = 2
  with pytest.raises(RuntimeError, match="round 2 changed a layer's density"):
    world.phase().run(_state())
  stored = state_store.StateStore(world.path / "state").load_latest()
  assert stored is not None
  assert stored[0] == 2


def test_every_round_is_stored_before_the_next(world, monkeypatch):
  seen = []
  advance = world.builder.computation

  def computation(number, mask):
    stored = state_store.StateStore(world.path / "state").load_latest()
    rows = (world.path / "metrics.csv").read_text().count("\n") - 1
    seen.append((number, stored[0] if stored else 0, rows))
    return advance(number, mask)

  monkeypatch.setattr(world.builder, "computation", computation)
  world.phase().run(_state())
  assert seen == [(number,) * 3 for number in range(5)]


def test_each_round_is_built_for_the_mask_it_starts_from(world):
  result = world.phase().run(_state())
  # Events at the end of rounds 1 and 3.
  first, last = _state().mask, result.state.mask
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
  world.phase(clients_per_round=per_round, num_clients=4).run(_state())
  assert given["all_clients_every_round"] is wanted


@pytest.mark.parametrize("broken_in", [0, 1, 3, 4])
def test_a_broken_phase_goes_on_and_ends_the_same(world, monkeypatch, broken_in):
  whole = world.phase().run(_state())
  for path in (world.path / "state").iterdir():
    path.unlink()
  world.builder.rounds.clear()
  advance = world.builder.computation

  def computation(number, mask):
    if number == broken_in:
      raise KeyboardInterrupt
    return advance(number, mask)

  with monkeypatch.context() as patch:
    patch.setattr(world.builder, "computation", computation)
    with pytest.raises(KeyboardInterrupt):
      world.phase().run(_state())
  again = world.phase().run(_state())
  assert [number for number, _ in world.builder.rounds] == [0, 1, 2, 3, 4]
  for one, other in zip(again.rows, whole.rows, strict=True):
    for name in set(metrics_log.COLUMNS) - {"seconds", "rss_mb"}:
      assert one[name] == other[name]
  assert again.events == whole.events
  np.testing.assert_array_equal(again.state.mask, whole.state.mask)
  np.testing.assert_array_equal(
    again.state.weights.prunable, whole.state.weights.prunable
  )


def test_a_finished_phase_computes_nothing(world, monkeypatch):
  whole = world.phase().run(_state())
  (world.path / "metrics.csv").unlink()
  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", None)
  again = world.phase().run(_state())
  assert again.rows == whole.rows
  table = list(csv.DictReader((world.path / "metrics.csv").open()))
  assert [row["round"] for row in table] == ["0", "1", "2", "3", "4"]


def test_a_state_survives_its_arrays():
  arrays = rounds_stage.to_arrays(_weights(1.5), START)
  assert set(arrays) == {*ModelWeights._fields, "mask"}
  state = rounds_stage.from_arrays(arrays, 7)
  assert state.round_index == 7
  assert state.round_index.dtype == np.int32
  np.testing.assert_array_equal(state.mask, START)
  np.testing.assert_array_equal(state.weights.prunable, _weights(1.5).prunable)


def _drawn(world, *numbers, purpose="participants", **changes):
  chosen = rounds_stage.participants(
    support.make_config(**changes), world.data, purpose, *numbers
  )
  return [int(reference.client) for reference in chosen]


def test_participants_are_distinct_clients_of_the_round(world):
  draws = [_drawn(world, number) for number in range(20)]
  assert all(draw == sorted(set(draw)) and len(draw) == 3 for draw in draws)
  assert draws == [_drawn(world, number) for number in range(20)]
  assert len({tuple(draw) for draw in draws}) > 1
  assert {client for draw in draws for client in draw} == {0, 1, 2, 3}


def test_participants_depend_on_seed_and_purpose(world):
  def series(**changes):
    return [_drawn(world, number, **changes) for number in range(20)]

  assert series() != series(seed=6)
  assert series() != series(purpose="selection")


def test_rounds_are_run_with_their_participants(world):
  world.phase().run(_state())
  for number, clients in world.builder.rounds:
    assert clients == _drawn(world, number)
