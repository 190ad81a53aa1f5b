"""A real MLflow store in a folder holds every round once."""

import json

import pytest

from pipelines.tracking import mlflow_tracker
from tests.pipelines.tracking import told

mlflow = pytest.importorskip(
  "mlflow", reason="optional: pip install -r requirements-tracking.txt"
)


@pytest.fixture(name="place")
def fixture_place(tmp_path, monkeypatch):
  monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
  monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / "first run"
  folder.mkdir()
  return folder


def _runs(folder):
  client = mlflow.MlflowClient((folder / "mlruns").as_uri())
  experiment = client.get_experiment_by_name("fedtiny")
  return client, client.search_runs([experiment.experiment_id])


def _steps(client, run, name):
  return [each.step for each in client.get_metric_history(run.info.run_id, name)]


def _tell(folder, first, count, is_done=True, **changes):
  tracker = mlflow_tracker.make()
  tracker.begin(told.subject(folder, **changes))
  tracker.tell(told.rounds(first))
  tracker.tell(told.rounds(count)[first:])
  tracker.finish(is_done)


def test_a_phase_is_a_run(place):
  _tell(place, 1, 4)
  client, [run] = _runs(place)
  assert run.info.run_name == "first run"
  assert run.info.status == "FINISHED"
  assert run.data.params == {
    "rounds": "4", "model": "digits_cnn", "targets": "['mcu']",
  }  # fmt: skip
  assert run.data.metrics["train_loss"] == -0.75
  assert _steps(client, run, "train_loss") == [0, 1, 2, 3]
  assert _steps(client, run, "eval_loss") == [1, 3]
  assert _steps(client, run, "candidate_loss") == [0, 1]
  assert _steps(client, run, "mask_change/grown/conv") == [1, 3]
  assert _steps(client, run, "layer_density/logits") == [0, 1, 3]
  [picture] = client.list_artifacts(run.info.run_id)
  assert picture.path == "label_by_client.png"
  # Nothing elsewhere: not in the working directory.
  assert [path.name for path in place.parent.iterdir()] == ["first run"]


def test_a_continued_run_goes_on_in_the_same_entry(place):
  _tell(place, 1, 3, is_done=False)
  _, [broken] = _runs(place)
  assert broken.info.status == "KILLED"
  _tell(place, 2, 4)
  client, [run] = _runs(place)
  assert run.info.run_id == broken.info.run_id
  assert run.info.status == "FINISHED"
  for name in ("train_loss", "seconds"):
    assert _steps(client, run, name) == [0, 1, 2, 3]
  assert _steps(client, run, "candidate_loss") == [0, 1]


def test_an_entry_that_is_gone_is_made_anew(place):
  _tell(place, 1, 2)
  path = place / "tracking" / "mlflow.json"
  for identity in ("0" * 32, "no/such", 7):
    path.write_text(json.dumps({"id": identity}))
    _tell(place, 1, 2)
  client, runs = _runs(place)
  assert len(runs) == 4
  assert {tuple(_steps(client, run, "train_loss")) for run in runs} == {(0, 1)}


def test_the_dense_run_is_a_run_of_its_own(place):
  for phase in ("sparse", "dense"):
    _tell(place, 1, 2, phase=phase)
  _, runs = _runs(place)
  assert {run.info.run_name for run in runs} == {"first run", "first run_dense"}
