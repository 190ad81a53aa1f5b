"""`metrics.csv` shows every finished round once; trackers are told what it says."""

import csv
from typing import Any

import pytest

from pipelines.runs import metrics_log
from pipelines.tracking import base
from tests.pipelines.tracking import told


class _Trackers:
  """Remembers what it is told."""

  def __init__(self):
    self.calls = []

  def tell(self, rounds):
    self.calls.append([each.number for each in rounds])
    self.rounds = list(rounds)

  def finish(self, rounds, is_done):
    self.calls.append(("finish", len(rounds), is_done))


@pytest.fixture(name="path")
def fixture_path(tmp_path):
  return tmp_path / "metrics.csv"


def _log(path):
  trackers: Any = _Trackers()
  return metrics_log.MetricsLog(path, trackers), trackers


def test_csv_has_a_header_and_empty_cells():
  rows = [{"a": 1, "b": ""}, {"a": 0.1, "b": "x,y"}]
  assert metrics_log.to_csv(("a", "b"), rows) == 'a,b\n1,\n0.1,"x,y"\n'
  assert metrics_log.to_csv(("a", "b"), []) == "a,b\n"


@pytest.mark.parametrize("row", [{"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}])
def test_csv_refuses_unknown_columns(row):
  with pytest.raises(ValueError, match="fields not in"):
    metrics_log.to_csv(("a", "b"), [row])


def test_a_row_of_an_earlier_version_lacks_a_column():
  """Its state was stored before the column was there."""
  assert metrics_log.to_csv(("a", "b"), [{"a": 1}]) == "a,b\n1,\n"


def test_without_rounds_there_is_a_header(path):
  metrics_log.MetricsLog(path).write([], [])
  assert path.read_text() == ",".join(metrics_log.COLUMNS) + "\n"


def test_every_round_is_written_once(path):
  log = metrics_log.MetricsLog(path)
  rows = [told.row(0)]
  log.write(rows, [])
  rows.append(told.row(1, eval_loss=1.5, eval_accuracy=0.75, adjusted_block=0))
  log.write(rows, [])
  read = list(csv.DictReader(path.open()))
  assert [row["round"] for row in read] == ["0", "1"]
  assert [row["eval_loss"] for row in read] == ["", "1.5"]
  assert [row["adjusted_block"] for row in read] == ["", "0"]


LAYERS = [metrics_log.Layer("conv", 4, 16), metrics_log.Layer("logits", 5, 10)]


def _event(number, dropped, grown):
  layers = [{"name": "conv", "dropped": dropped, "grown": grown}]
  return {"round": number, "block": 0, "layers": layers}


def test_trackers_hear_of_adjustments_and_densities(path):
  log, trackers = _log(path)
  rows = [told.row(0), told.row(1), told.row(2), told.row(3)]
  events = [_event(1, 2, 2), _event(2, 3, 1)]
  with log.following(LAYERS):
    log.write(rows[:1], [])
    log.write(rows, events)
  assert trackers.calls == [[0], [0, 1, 2, 3], ("finish", 4, True)]
  assert [each.change for each in trackers.rounds] == [None, *events, None]
  # Of 16 weights 4, 4, 2 and 2.
  assert [each.densities["conv"] for each in trackers.rounds] == [
    0.25, 0.25, 0.125, 0.125,
  ]  # fmt: skip
  assert {each.densities["logits"] for each in trackers.rounds} == {0.5}


def test_a_continued_run_tells_what_an_unbroken_one_does(path):
  rows = [told.row(number) for number in range(3)]
  events = [_event(0, 1, 0), _event(2, 1, 0)]
  seen = []
  for first in (1, 3):
    log, trackers = _log(path)
    with log.following(LAYERS):
      log.write(rows[:first], [e for e in events if e["round"] < first])
      log.write(rows, events)
    seen.append(trackers.rounds)
  assert seen[0] == seen[1]
  assert [each.densities["conv"] for each in seen[0]] == [0.1875, 0.1875, 0.125]


def test_a_broken_phase_is_not_done(path):
  log, trackers = _log(path)
  with pytest.raises(KeyboardInterrupt), log.following(LAYERS):
    log.write([told.row(0)], [])
    raise KeyboardInterrupt
  assert trackers.calls[-1] == ("finish", 1, False)


def test_a_round_names_its_figures():
  change = _event(1, 3, 2)
  each = base.Round(told.row(1, adjusted_block=0), change, {})
  assert each.number == 1
  assert "eval_loss" not in each.scalars
  assert "round" not in each.scalars
  # Block 0 is a block, an empty cell is none.
  assert each.scalars["adjusted_block"] == 0
  assert each.moved == {"dropped/conv": 3, "grown/conv": 2}
  assert base.Round(told.row(1), None, {}).moved == {}
