"""Rounds follow the plan, and their figures tell of it; the computation is scripted."""

import csv

import numpy as np
import pytest

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.sparsity import schedules
from pipelines.runs import metrics_log, participation, state_store
from pipelines.training import rounds_stage
from tests.pipelines import support
from tests.pipelines.training import scripted_rounds


@pytest.fixture(name="world")
def fixture_world(tmp_path, monkeypatch):
  return scripted_rounds.make_world(tmp_path, monkeypatch)


def test_rounds_follow_one_another(world):
  result = world.phase().run(scripted_rounds.state())
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
  world.phase(learning_rate_schedule="step").run(scripted_rounds.state())
  # A tenth from the middle on, a hundredth from three quarters on.
  assert seen == pytest.approx([1, 1, 1, 0.1, 0.01])
  assert world.builder.rates == pytest.approx([0.05, 0.05, 0.05, 0.025, 0.0005])


def test_without_a_word_of_the_strategy_the_schedule_holds(world):
  world.phase().run(scripted_rounds.state())
  assert world.builder.rates == [0.05] * 5


def test_what_leaves_the_rounds_has_the_weights_of_the_plain_model(world):
  def plain_weights(spec, weights, mask):
    assert spec is scripted_rounds.SPEC
    assert np.count_nonzero(mask) == 4
    return weights._replace(prunable=weights.prunable + 100)

  world.strategy.plain_weights = plain_weights
  result = world.phase().run(scripted_rounds.state())
  assert world.evaluated == [102.0, 104.0, 105.0]
  assert result.state.weights.prunable[0] == 105.0
  # Rounds went on with their own.
  stored = state_store.StateStore(world.path / "state").load_latest()
  assert stored is not None
  assert stored[1]["prunable"][0] == 5.0
  # A finished phase that is run again ends in the same place.
  assert world.phase().run(scripted_rounds.state()).state.weights.prunable[0] == 105.0


def test_figures_are_means_over_examples(world):
  row = world.phase().run(scripted_rounds.state()).rows[1]
  assert (row["train_loss"], row["train_accuracy"]) == (1.5, 0.25)
  assert (row["eval_loss"], row["eval_accuracy"]) == (0.5, 0.75)
  assert row["density"] == 0.5
  assert row["clients"] == 3
  assert row["bytes_up_per_client"] == 108
  assert row["bytes_down_per_client"] == 50


def test_what_saw_no_example_has_no_figures(world):
  world.unmeasured.add(2.0)
  world.builder.examples = 0
  rows = world.phase().run(scripted_rounds.state()).rows
  assert [row["eval_loss"] for row in rows] == ["", "", "", 0.5, 0.5]
  assert [row["eval_accuracy"] for row in rows] == ["", "", "", 0.75, 0.75]
  assert {
    row[f"train_{figure}"] for row in rows for figure in ("loss", "accuracy")
  } == {""}
  table = list(csv.DictReader((world.path / "metrics.csv").open()))
  assert [row["eval_loss"] for row in table] == ["", "", "", "0.5", "0.5"]


def test_without_classes_accuracies_are_empty(world):
  world.definition.task = tasks.RECONSTRUCT
  rows = world.phase().run(scripted_rounds.state()).rows
  assert [row["train_loss"] for row in rows] == [1.5] * 5
  assert [row["eval_loss"] for row in rows] == ["", 0.5, "", 0.5, 0.5]
  assert {row[f"{part}_accuracy"] for row in rows for part in ("train", "eval")} == {""}
  table = csv.DictReader((world.path / "metrics.csv").open())
  assert {row["train_accuracy"] for row in table} == {""}


def test_progress_shows_what_there_is(world):
  assert rounds_stage._figures(world.phase().run(scripted_rounds.state()).rows[4]) == (
    "loss 1.500, held-out accuracy 0.750"
  )
  shown = {"train_loss": 0.25, "adjusted_block": 2, "eval_accuracy": ""}
  assert rounds_stage._figures({**shown, "eval_loss": 0.5}) == (
    "loss 0.250, held-out loss 0.500, block 2 adjusted"
  )
  assert rounds_stage._figures({**shown, "eval_loss": ""}) == (
    "loss 0.250, block 2 adjusted"
  )
  assert rounds_stage._figures({**shown, "train_loss": "", "eval_loss": 0.5}) == (
    "nothing trained on, held-out loss 0.500, block 2 adjusted"
  )


def test_progress_counts_the_next_adjustment_as_itself():
  event = schedules.AdjustmentEvent(3, 1, (2,))
  rows = [{"density": 0.5}] * 3
  # Three rounds are over, "3/9" in progress; the next, "4/9", is round 3 in files.
  assert rounds_stage._ahead(rows, [event]) == (
    "density 0.5, masks move in round 4 (block 1)"
  )
  assert rounds_stage._ahead([*rows, rows[0]], [event]) == "density 0.5"


def test_rounds_are_evaluated_when_due_and_the_last_always(world):
  rows = world.phase().run(scripted_rounds.state()).rows
  assert [row["round"] for row in rows if row["eval_loss"] != ""] == [1, 3, 4]
  # On the state after the round.
  assert world.evaluated == [2.0, 4.0, 5.0]


def test_rounds_are_run_with_their_participants(world):
  world.phase().run(scripted_rounds.state())
  for number, clients in world.builder.rounds:
    drawn = participation.chosen(
      support.make_config(), world.data, "participants", number
    )
    assert clients == [int(each.client) for each in drawn]


class TestReports:
  """Three of four clients are drawn for a round."""

  def test_rows_tell_who_counted(self, world):
    world.builder.excluded = 1
    row = world.phase().run(scripted_rounds.state()).rows[0]
    assert [row[name] for name in ("clients", "reports", "excluded", "attempts")] == [
      3, 2, 1, 1,
    ]  # fmt: skip

  def test_a_round_with_too_few_is_repeated_with_others(self, world):
    phase = world.phase(client_dropout=0.5, min_reports=2, seed=1)
    result = phase.run(scripted_rounds.state())
    attempts = [row["attempts"] for row in result.rows]
    assert max(attempts) > 1
    # Those that drew too few were not run; state and rounds are as without.
    assert [number for number, _ in world.builder.rounds] == [0, 1, 2, 3, 4]
    assert all(len(clients) >= 2 for _, clients in world.builder.rounds)
    assert result.state.weights.prunable[0] == 5.0

  def test_a_round_whose_reports_do_not_count_is_not_kept(self, world):
    world.builder.excluded = 2
    with pytest.raises(
      InputError, match=r"--min_reports=2: round 1 had 1 reports that c"
    ):
      world.phase(min_reports=2).run(scripted_rounds.state())
    assert len(world.builder.rounds) == participation.MOST_ATTEMPTS
    assert state_store.StateStore(world.path / "state").load_latest() is None


class TestEarlyStopping:
  """Adjustments in rounds 1 and 3; evaluated after rounds 1, 3, 5, …: always 0.5."""

  def _run(self, world, most_rounds=None, **changes):
    phase = world.phase(**{"rounds": 12, "early_stopping": 2, **changes})
    return phase.run(scripted_rounds.state(), most_rounds)

  def test_rounds_end_early_after_the_last_adjustment(self, world):
    result = self._run(world)
    assert len(result.rows) == 6
    assert result.state.weights.prunable[0] == 6.0
    assert result.rounds == {
      "planned": 12, "run": 6, "stopped_early": True, "best_round": 3,
    }  # fmt: skip

  def test_a_continued_run_ends_with_the_same_round(self, world, monkeypatch):
    with scripted_rounds.interrupted_in(world, monkeypatch, 5):
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

  def test_a_round_that_nobody_could_evaluate_is_not_the_best(self, world):
    world.unmeasured.add(4.0)
    result = self._run(world)
    # Round 3 was not measured, so patience begins with round 5.
    assert len(result.rows) == 8
    assert result.rounds["best_round"] == 5

  def test_patience_that_is_not_used_up_changes_nothing(self, world):
    result = self._run(world, early_stopping=9)
    assert len(result.rows) == 12
    assert not result.rounds["stopped_early"]
