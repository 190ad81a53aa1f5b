"""The real W&B client writes every round of an offline run; nothing is sent."""

import time

import pytest

from fedtiny_tff.errors import InputError
from pipelines.tracking import wandb_tracker
from tests.pipelines import support
from tests.pipelines.tracking import told

wandb = pytest.importorskip(
  "wandb", reason="optional: pip install -r requirements-tracking.txt"
)


@pytest.fixture(name="place")
def fixture_place(tmp_path, monkeypatch):
  for name in ("WANDB_API_KEY", "WANDB_PROJECT"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.setenv("WANDB_MODE", "offline")
  folder = tmp_path / "run"
  folder.mkdir()
  return folder


def _records(folder):
  """Returns the records of every offline run below a folder, oldest run first."""
  from wandb.proto import wandb_internal_pb2
  from wandb.sdk.internal import datastore

  found = []
  for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
    store = datastore.DataStore()
    store.open_for_scan(str(path))
    records = []
    while (content := store.scan_data()) is not None:
      record = wandb_internal_pb2.Record()
      record.ParseFromString(content)
      records.append(record)
    found.append(records)
  return found


def _history(records):
  return [
    {
      (item.key or "/".join(item.nested_key)): item.value_json
      for item in r.history.item
    }
    for r in records
    if r.WhichOneof("record_type") == "history"
  ]


def _tell(folder, first, count, **changes):
  tracker = wandb_tracker.make()
  tracker.begin(told.subject(folder, **changes))
  tracker.tell(told.rounds(first))
  tracker.tell(told.rounds(count)[first:])
  tracker.finish(True)


def test_an_offline_run_holds_every_round(place, capfd):
  _tell(place, 1, 4)
  [records] = _records(place)
  history = _history(records)
  assert [row["_step"] for row in history] == ["0", "1", "2", "3"]
  assert [float(row["train_loss"]) for row in history] == [2.25, 1.25, 0.25, -0.75]
  assert [row.get("eval_loss") for row in history] == [None, "1.5", None, "1.5"]
  assert history[1]["mask_change/dropped/conv"] == "3"
  kinds = {name: value for name, value in history[0].items() if "/_type" in name}
  assert kinds == {
    "layer_densities/_type": '"histogram"',
    "label_by_client/_type": '"image-file"',
    "candidates/_type": '"table-file"',
  }
  # W&B says nothing of its own on the console.
  assert capfd.readouterr() == ("", "")


def test_nothing_is_sent_that_was_not_asked_for(place, monkeypatch):
  monkeypatch.setattr("sys.argv", ["train", f"--flag={told.SECRET}"])
  _tell(place, 1, 2)
  for path in place.rglob("*"):
    if path.is_file():
      assert told.SECRET.encode() not in path.read_bytes(), path
  names = {path.name for path in place.rglob("*")}
  assert not names & {"wandb-metadata.json", "requirements.txt", "output.log"}


def test_a_continued_run_has_the_same_id_and_all_rounds(place):
  _tell(place, 1, 2)
  # Folders are named after the second.
  time.sleep(1.1)
  _tell(place, 3, 4)
  first, second = _records(place)
  ids = {
    record.run.run_id
    for record in (*first, *second)
    if record.WhichOneof("record_type") == "run"
  }
  assert len(ids) == 1
  # `wandb sync` of the last one has everything.
  assert [row["_step"] for row in _history(second)] == ["0", "1", "2", "3"]


def test_without_a_key_nothing_starts(place, monkeypatch):
  monkeypatch.delenv("WANDB_MODE")
  with pytest.raises(
    InputError, match="--trackers=wandb: no API key is known; set WANDB"
  ):
    support.make_config(trackers=["wandb"])
  monkeypatch.setenv("WANDB_MODE", "offline")
  support.make_config(trackers=["wandb"])
