"""Rounds follow the plan, every finished one is kept; the computation is scripted."""

import csv
import io
import types
from typing import Any

import numpy as np
import pytest
import rich.console

from fedtiny_tff import schedules, tasks, training
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import messages, states
from fedtiny_tff.strategies import base
from fedtiny_tff.tfmot_masking import ModelWeights
from pipelines.apps.progress import Progress
from pipelines.runs import metrics_log, participation, state_store
from pipelines.training import round_clients, rounds_stage
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


def _state(value=0.0, mask=START, memory=()):
  return states.ServerState(_weights(value), mask, np.int32(0), memory)


class _Builder:
  """Adds 1 to every weight a round; an event swaps one weight of its block.

  One that does not grow only drops it. Events add 1 to what is remembered.
  """

  def __init__(self, events):
    self._events = {event.round_index: event for event in events}
    self.rounds = []
    self.rates = []
    self.masks = []
    self.wrong_layer = None
    self.excluded = 0

  @property
  def events(self):
    return tuple(self._events.values())

  def event(self, number):
    return self._events.get(number)

  def instruction(self, number, learning_rate):
    return (number, learning_rate)

  def computation(self, number, mask):
    self.masks.append(np.array(mask))

    def advance(state, clients, instruction):
      assert instruction[0] == number
      self.rates.append(instruction[1])
      self.rounds.append((number, [int(c.client) for c in clients]))
      mask, memory = np.array(state.mask), state.memory
      event = self.event(number)
      if event:
        first = 4 * event.block
        mask[[first, first + 2]] = mask[[first + 2, first]]
        mask[first + 2] &= event.grows
        memory = tuple(each + each.dtype.type(1) for each in memory)
      if self.wrong_layer == number:
        mask[0] = not mask[0]
      value = state.weights.prunable[0] + 1
      sums = 6, 1, 4, len(clients) - self.excluded, self.excluded, 0, 0
      metrics = messages.RoundMetrics(*map(np.float32, sums))
      new = states.ServerState(_weights(value), mask, np.int32(number + 1), memory)
      return new, metrics

    block = self.event(number).block if self.event(number) else None
    upload = 100 if block is None else 100 + 8
    return types.SimpleNamespace(
      run=advance, upload_bytes=upload, download_bytes=50, secure_extra_bytes=0
    )


class _Swaps(base.Strategy):
  """Has the events of a test; the hooks of rounds can be set."""

  def __init__(self, events):
    self._events = events

  def plan_events(self, spec, active_counts, config):
    return self._events


@pytest.fixture(name="world")
def fixture_world(tmp_path, monkeypatch):
  """A phase factory over one folder; built phases share the scripted builder."""
  events = (
    schedules.AdjustmentEvent(1, 1, (1,)),
    schedules.AdjustmentEvent(3, 0, (1,)),
  )
  builder = _Builder(events)
  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", lambda *a, **k: builder)
  evaluated, built = [], []

  def evaluate(state, clients):
    evaluated.append(float(state.model.active_values[0]))
    return training.Metrics(np.float32(2), np.float32(3), np.float32(4))

  def build_evaluation(*arguments, active_count, batch_size, secure):
    built.append(active_count)
    return evaluate

  monkeypatch.setattr(round_clients.evaluation, "build_evaluation", build_evaluation)
  references = np.array([[k, 0, 5, 2] for k in range(4)], np.int64)
  data: Any = types.SimpleNamespace(
    references=references,
    clients=None,
    reference=lambda k: rounds_stage.ClientReference(*references[k]),
    info=types.SimpleNamespace(num_classes=2),
  )
  strategy = _Swaps(events)
  definition: Any = types.SimpleNamespace(spec=SPEC, task=tasks.CLASSIFY)
  full: Any = types.SimpleNamespace(spec=SPEC)
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)

  def phase(**changes):
    return rounds_stage.Phase(
      "sparse",
      support.make_config(**{"rounds": 5, "eval_every_rounds": 2, **changes}),
      data,
      base.ModelPlan(full, definition, definition, strategy),
      state_store.StateStore(tmp_path / "state"),
      metrics_log.MetricsLog(tmp_path / "metrics.csv"),
      Progress(console),
    )

  return types.SimpleNamespace(
    phase=phase, builder=builder, evaluated=evaluated, data=data, path=tmp_path,
    definition=definition, full=full, strategy=strategy, built=built,
  )  # fmt: skip


def test_rounds_follow_one_another(world):
  result = world.phase().run(_state())
  assert [number for number, _ in world.builder.rounds] == [0, 1, 2, 3, 4]
  assert [row["round"] for row in result.rows] == [0, 1, 2, 3, 4]
  assert result.state.weights.prunable[0] == 5.0
  assert {tuple(row) for row in result.rows} == {metrics_log.COLUMNS}


def test_a_strategy_may_raise_the_learning_rate(world):
  seen = []

  def factor(round_index, events, scheduled):
    assert [event.round_index for event in events] == [1, 3]
    seen.append(scheduled)
    return 5.0 if round_index == 3 else 1.0

  world.strategy.learning_rate_factor = factor
  world.phase(learning_rate_schedule="step").run(_state())
  # A tenth from the middle on, a hundredth from three quarters on.
  assert seen == pytest.approx([1, 1, 1, 0.1, 0.01])
  assert world.builder.rates == pytest.approx([0.05, 0.05, 0.05, 0.025, 0.0005])


def test_without_a_word_of_the_strategy_the_schedule_holds(world):
  world.phase().run(_state())
  assert world.builder.rates == [0.05] * 5


def test_what_leaves_the_rounds_has_the_weights_of_the_plain_model(world):
  def plain_weights(spec, weights, mask):
    assert spec is SPEC
    assert np.count_nonzero(mask) == 4
    return weights._replace(prunable=weights.prunable + 100)

  world.strategy.plain_weights = plain_weights
  result = world.phase().run(_state())
  assert world.evaluated == [102.0, 104.0, 105.0]
  assert result.state.weights.prunable[0] == 105.0
  # Rounds went on with their own.
  stored = state_store.StateStore(world.path / "state").load_latest()
  assert stored is not None
  assert stored[1]["prunable"][0] == 5.0
  # A finished phase that is run again ends in the same place.
  assert world.phase().run(_state()).state.weights.prunable[0] == 105.0


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


def test_what_moves_is_told_of_the_pre_trained_model(world):
  """Devices train one half of it; which one the strategy remembers."""
  seen = []

  def kept_weights(mask, memory):
    seen.append(int(memory[0]))
    return np.arange(8) % 2 == memory[0] % 2

  world.strategy.kept_weights = kept_weights
  result = world.phase().run(_state(memory=(np.int64(0),)))
  assert result.events == [
    {"round": 1, "block": 1, "layers": [{"name": "layer1", "dropped": 2, "grown": 2}]},
    {"round": 3, "block": 0, "layers": [{"name": "layer0", "dropped": 2, "grown": 2}]},
  ]
  # Once for the layers at the start, twice a round.
  assert seen == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_densities_are_shares_of_the_full_model(world):
  world.full.spec = spec_of_sizes(10, 22)
  assert {row["density"] for row in world.phase().run(_state()).rows} == {4 / 32}


def test_a_changed_density_is_a_defect_and_not_stored(world):
  world.builder.wrong_layer = 2
  with pytest.raises(RuntimeError, match="round 2 left other densities than planned"):
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
    for name in set(metrics_log.COLUMNS) - set(metrics_log.VARYING_COLUMNS):
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


MEMORY = (np.zeros(3, np.float32), np.asarray(7, np.int64))


def _remembered(state):
  return [(each.dtype.name, np.ravel(each).tolist()) for each in state.memory]


def test_a_strategys_memory_goes_from_round_to_round_and_is_stored(world):
  result = world.phase().run(_state(memory=MEMORY))
  # Events at the end of rounds 1 and 3.
  wanted = [("float32", [2.0] * 3), ("int64", [9])]
  assert _remembered(result.state) == wanted
  stored = state_store.StateStore(world.path / "state").load_latest()
  assert stored is not None
  assert {name for name in stored[1] if "memory" in name} == {"memory_000", "memory_001"}
  assert _remembered(rounds_stage.from_arrays(stored[1], 5)) == wanted


@pytest.mark.parametrize("broken_in", [1, 2, 3, 4])
def test_a_broken_phase_remembers_what_was_stored(world, monkeypatch, broken_in):
  advance = world.builder.computation

  def computation(number, mask):
    if number == broken_in:
      raise KeyboardInterrupt
    return advance(number, mask)

  with monkeypatch.context() as patch:
    patch.setattr(world.builder, "computation", computation)
    with pytest.raises(KeyboardInterrupt):
      world.phase().run(_state(memory=MEMORY))
  again = world.phase().run(_state(memory=MEMORY))
  assert _remembered(again.state) == [("float32", [2.0] * 3), ("int64", [9])]


def test_rounds_are_built_for_the_memory_of_the_start(world, monkeypatch):
  given = {}

  def build(*arguments, **named):
    given.update(named)
    return world.builder

  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", build)
  world.phase().run(_state(memory=MEMORY))
  assert given["memory"] is MEMORY
  assert given["active_count"] == 4


def test_memory_of_many_arrays_keeps_their_order():
  memory = tuple(np.full(1, number, np.int32) for number in range(12))
  arrays = rounds_stage.state_arrays(_state(memory=memory))
  assert set(arrays) == {
    *ModelWeights._fields, "mask", *(f"memory_{number:03d}" for number in range(12))
  }  # fmt: skip
  # As an archive might list them.
  shuffled = dict(sorted(arrays.items(), key=lambda item: item[0][::-1]))
  found = rounds_stage.from_arrays(shuffled, 0).memory
  assert [int(each[0]) for each in found] == list(range(12))


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
  result = shrinking.phase().run(_state())
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
    shrinking.phase().run(_state())


def test_a_shrunk_phase_goes_on_where_it_was(shrinking, monkeypatch):
  whole = shrinking.phase().run(_state())
  for path in sorted((shrinking.path / "state").iterdir())[1:]:
    path.unlink()
  again = shrinking.phase().run(_state())
  np.testing.assert_array_equal(again.state.mask, whole.state.mask)
  assert again.events == whole.events


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


class TestReports:
  """Three of four clients are drawn for a round."""

  def test_rows_tell_who_counted(self, world):
    world.builder.excluded = 1
    row = world.phase().run(_state()).rows[0]
    assert [row[name] for name in ("clients", "reports", "excluded", "attempts")] == [
      3, 2, 1, 1,
    ]  # fmt: skip

  def test_a_round_with_too_few_is_repeated_with_others(self, world):
    result = world.phase(client_dropout=0.5, min_reports=2, seed=1).run(_state())
    attempts = [row["attempts"] for row in result.rows]
    assert max(attempts) > 1
    # Those that drew too few were not run; state and rounds are as without.
    assert [number for number, _ in world.builder.rounds] == [0, 1, 2, 3, 4]
    assert all(len(clients) >= 2 for _, clients in world.builder.rounds)
    assert result.state.weights.prunable[0] == 5.0

  def test_a_round_whose_reports_do_not_count_is_not_kept(self, world):
    world.builder.excluded = 2
    with pytest.raises(InputError, match=r"--min_reports=2: round 0 had 1 reports that c"):
      world.phase(min_reports=2).run(_state())
    assert len(world.builder.rounds) == participation.MOST_ATTEMPTS
    assert state_store.StateStore(world.path / "state").load_latest() is None


class TestEarlyStopping:
  """Adjustments in rounds 1 and 3; evaluated after rounds 1, 3, 5, …: always 0.5."""

  def _run(self, world, most_rounds=None, **changes):
    phase = world.phase(**{"rounds": 12, "early_stopping": 2, **changes})
    return phase.run(_state(), most_rounds)

  def test_rounds_end_early_after_the_last_adjustment(self, world):
    result = self._run(world)
    assert len(result.rows) == 6
    assert result.state.weights.prunable[0] == 6.0
    assert result.rounds == {
      "planned": 12, "run": 6, "stopped_early": True, "best_round": 3,
    }  # fmt: skip

  def test_a_continued_run_ends_with_the_same_round(self, world, monkeypatch):
    advance = world.builder.computation

    def computation(number, mask):
      if number == 5:
        raise KeyboardInterrupt
      return advance(number, mask)

    with monkeypatch.context() as patch:
      patch.setattr(world.builder, "computation", computation)
      with pytest.raises(KeyboardInterrupt):
        self._run(world)
    assert len(self._run(world).rows) == 6
    world.builder.rounds.clear()
    # And one that ended is not begun again.
    again = self._run(world)
    assert (len(again.rows), world.builder.rounds) == (6, [])
    assert again.rounds["stopped_early"]

  def test_a_run_with_a_given_end_goes_on_to_it(self, world):
    result = self._run(world, most_rounds=7)
    assert len(result.rows) == 7
    # The last round is evaluated, wherever it is.
    assert result.rows[-1]["eval_loss"] != ""

  def test_patience_that_is_not_used_up_changes_nothing(self, world):
    result = self._run(world, early_stopping=9)
    assert len(result.rows) == 12
    assert not result.rounds["stopped_early"]
