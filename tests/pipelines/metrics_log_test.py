"""`metrics.csv` and TensorBoard show every finished round once."""

import csv

import pytest
import tensorflow as tf

from pipelines import metrics_log


def _row(number, **changes):
  return {
    "round": number,
    "train_loss": 2.25 - number,
    "train_accuracy": 0.5,
    "eval_loss": "",
    "eval_accuracy": "",
    "density": 0.1,
    "clients": 3,
    "reports": 2,
    "excluded": 1,
    "attempts": 1,
    "seconds": 0.25,
    "rss_mb": 512.5,
    "bytes_up_per_client": 100,
    "bytes_down_per_client": 200,
    "adjusted_block": "",
    **changes,
  }


@pytest.fixture(name="paths")
def fixture_paths(tmp_path):
  return tmp_path / "metrics.csv", tmp_path / "tensorboard"


def _events(folder):
  found = []
  for path in sorted(folder.glob("events.*")):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      for value in event.summary.value:
        found.append((value.tag, event.step, float(tf.make_ndarray(value.tensor))))
  return found


def test_csv_has_a_header_and_empty_cells():
  rows = [{"a": 1, "b": ""}, {"a": 0.1, "b": "x,y"}]
  assert metrics_log.to_csv(("a", "b"), rows) == 'a,b\n1,\n0.1,"x,y"\n'
  assert metrics_log.to_csv(("a", "b"), []) == "a,b\n"


@pytest.mark.parametrize("row", [{"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}])
def test_csv_refuses_unknown_columns(row):
  with pytest.raises(ValueError, match="fields not in"):
    metrics_log.to_csv(("a", "b"), [row])


def test_without_rounds_there_is_a_header(paths):
  metrics_log.MetricsLog(*paths).write([])
  assert paths[0].read_text() == ",".join(metrics_log.COLUMNS) + "\n"
  assert _events(paths[1]) == []


def test_every_round_is_written_once(paths):
  log = metrics_log.MetricsLog(*paths)
  rows = [_row(0)]
  log.write(rows)
  rows.append(_row(1, eval_loss=1.5, eval_accuracy=0.75, adjusted_block=0))
  log.write(rows)
  read = list(csv.DictReader(paths[0].open()))
  assert [row["round"] for row in read] == ["0", "1"]
  assert [row["eval_loss"] for row in read] == ["", "1.5"]
  assert [row["adjusted_block"] for row in read] == ["", "0"]
  events = _events(paths[1])
  assert [e for e in events if e[0] == "train_loss"] == [
    ("train_loss", 0, 2.25),
    ("train_loss", 1, 1.25),
  ]
  # Block 0 is a block, an empty cell is none.
  assert [e for e in events if e[0] == "adjusted_block"] == [("adjusted_block", 1, 0.0)]
  assert [e for e in events if e[0] == "eval_accuracy"] == [("eval_accuracy", 1, 0.75)]
  assert "round" not in {tag for tag, _, _ in events}


def test_accuracies_of_an_autoencoder_are_not_drawn(paths):
  row = _row(0, eval_loss=1.5, train_accuracy="", eval_accuracy="")
  metrics_log.MetricsLog(*paths).write([row])
  assert "2.25,,1.5,," in paths[0].read_text()
  tags = {tag for tag, _, _ in _events(paths[1])}
  assert {"train_loss", "eval_loss"} < tags
  assert not {tag for tag in tags if "accuracy" in tag}


def test_a_continued_run_starts_tensorboard_over(paths):
  metrics_log.MetricsLog(*paths).write([_row(0), _row(1), _row(2)])
  # The newest state was damaged: round 2 comes again.
  continued = metrics_log.MetricsLog(*paths)
  continued.write([_row(0), _row(1)])
  continued.write([_row(0), _row(1), _row(2)])
  steps = [step for tag, step, _ in _events(paths[1]) if tag == "train_loss"]
  assert steps == [0, 1, 2]


def test_other_files_beside_the_events_are_kept(paths):
  dense = paths[1] / "dense"
  dense.mkdir(parents=True)
  (dense / "events.out").write_bytes(b"")
  metrics_log.MetricsLog(*paths).write([_row(0)])
  assert (dense / "events.out").exists()
