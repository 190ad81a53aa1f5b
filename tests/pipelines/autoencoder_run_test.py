"""An autoencoder through the whole pipeline: trained on normal data, judged by AUC."""

import csv
import json

import jsonschema
import numpy as np
import pytest

from fedtiny_tff import roc, tasks
from pipelines import evaluate, export, run
from pipelines.datasets import data_folder, data_stage
from pipelines.runs import model_files
from pipelines.runs.run_directory import RunDirectory
from tests.pipelines import support

_FLAGS = {
  **support.TINY,
  "model": "autoencoder",
  # Layers of 2 to 32 units: dense layers with few inputs are the hard ones.
  "width": 0.25,
  "anomaly_classes": "0,9",
  "target_density": 0.3,
  "rounds": 2,
  "adjust_until_round": 2,
  "eval_every_rounds": 1,
  "client_learning_rate": 0.1,
  "dense_baseline": "false",
}
_FILES = support.TFLITES
_FP32 = "export/android/fp32_sparse.tflite"


@pytest.fixture(name="path", scope="module")
def fixture_path(tmp_path_factory):
  """A finished run."""
  folder = tmp_path_factory.mktemp("autoencoder")
  flagfile = support.write_flagfile(folder / "tiny.flags", _FLAGS)
  path = folder / "run"
  arguments = (f"--flagfile={flagfile}", f"--output_dir={path}")
  assert support.call("run", run.main, *arguments) == 0
  return path


@pytest.fixture(name="report", scope="module")
def fixture_report(path):
  return json.loads((path / "report.json").read_text())


def _data(path):
  config = support.make_config(**{**_FLAGS, "anomaly_classes": ["0", "9"]})
  plan = support.plan_data(config, tasks.RECONSTRUCT)
  return data_stage.write_data(plan, path / "data")


def test_the_report_fits_its_schema(report):
  schema = json.loads((support.ROOT / "pipelines" / "report.schema.json").read_text())
  jsonschema.Draft202012Validator(schema).validate(report)


def test_auc_takes_the_place_of_accuracy(report):
  assert report["task"] == "reconstruct"
  assert report["accuracy"] == dict.fromkeys(["dense", "sparse", *_FILES])
  assert report["auc"] == report["auc_by_model"]["sparse"]
  assert list(report["auc_by_model"]) == ["dense", "sparse", *_FILES]
  areas = list(report["auc_by_model"].values())
  assert areas[0] is None  # --nodense_baseline
  assert all(0 <= area <= 1 for area in areas[1:])
  assert {row["argmax_agreement"] for row in report["artifacts"]} == {None}
  assert [row["accuracy"] for row in report["selection"]] == [None] * 3
  # float32 files rank as the model does.
  assert report["auc_by_model"][_FP32] == pytest.approx(report["auc"], abs=1e-3)


def test_auc_is_that_of_the_final_model(path, report):
  model, _ = model_files.load(path / "model")
  inputs, labels = data_folder.read_all(_data(path).test)
  flat = inputs.reshape(len(inputs), -1)
  errors = np.square(model.predict(inputs, verbose=0) - flat).mean(axis=1)
  expected = roc.area_under_roc(errors, np.isin(labels, (0, 9)))
  assert report["auc"] == pytest.approx(expected, abs=1e-4)


def test_nobody_trains_on_anomalies(path, report):
  data = _data(path)
  assert report["dataset"]["anomaly_classes"] == ["0", "9"]
  for store in (data.clients, data.public):
    assert not set(data_folder.read_all(store)[1].tolist()) & {0, 9}
  assert set(data_folder.read_all(data.test)[1].tolist()) == set(range(10))


def test_accuracies_are_empty_in_the_tables(path):
  rows = list(csv.DictReader((path / "metrics.csv").open()))
  assert [float(row["train_loss"]) > 0 for row in rows] == [True, True]
  assert [float(row["eval_loss"]) > 0 for row in rows] == [True, True]
  assert {row["train_accuracy"] + row["eval_accuracy"] for row in rows} == {""}
  candidates = list(csv.DictReader((path / "selection.csv").open()))
  losses = [float(row["loss"]) for row in candidates]
  assert [int(row["chosen"]) for row in candidates].index(1) == int(np.argmin(losses))
  assert {row["accuracy"] for row in candidates} == {""}


def test_firmware_sources_know_no_classes(path):
  for name in ("model_settings.h", "README.md"):
    assert "kClassNames" not in (path / "export" / "mcu" / name).read_text()


def test_firmware_is_told_how_normal_samples_score(path):
  samples = _data(path).public.num_records
  settings = (path / "export" / "mcu" / "model_settings.h").read_text()
  assert ("kScorePercentile95" in settings) == (samples >= 20)
  assert (f"of {samples} calibration samples" in settings) == (samples >= 20)


def test_evaluation_agrees_with_the_report(path, report, capsys):
  arguments = [f"--run_dir={path}", "--format=json"]
  assert support.call("evaluate", evaluate.main, *arguments) == 0
  figures = json.loads(capsys.readouterr().out)
  assert figures["accuracy"] is None
  assert figures["accuracy_by_class"] == {}
  assert figures["auc"] == report["auc"]
  assert figures["loss"] > 0
  assert figures["test_examples"] == 359


def test_evaluation_as_text(path, capsys):
  assert support.call("evaluate", evaluate.main, f"--run_dir={path}") == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[2].split() == ["accuracy", "-"]
  assert not [line for line in lines if "class " in line]


def test_exporting_again_repeats_the_files(path, capsys):
  before = {name: (path / name).read_bytes() for name in _FILES}
  assert support.call("export", export.main, f"--run_dir={path}") == 0
  assert {name: (path / name).read_bytes() for name in _FILES} == before
  assert "AUC" in capsys.readouterr().out


def test_lost_data_come_back_without_anomalies(path, capsys):
  before = support.snapshot(path / "data")
  (path / "data" / "dataset.json").unlink()
  (path / "data" / "clients.records").unlink()
  assert support.call("evaluate", evaluate.main, f"--run_dir={path}") == 0
  assert support.snapshot(path / "data") == before


def test_other_anomalies_are_another_run(path, capsys):
  arguments = [f"--run_dir={path}", "--anomaly_classes=1"]
  assert support.call("evaluate", evaluate.main, *arguments) == 2
  assert "holds a run with --anomaly_classes" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("flag", "said"),
  [
    ("--anomaly_classes=10", "dataset digits has no class '10'; its classes are 0, 1"),
    (
      "--anomaly_classes=0,1,2,3,4,5,6,7,8,9",
      "these are all classes of dataset digits",
    ),
    ("--model=digits_cnn", "the model's task is classify"),
  ],
)
def test_anomalies_that_do_not_fit_end_with_2(tmp_path, capsys, flag, said):
  flagfile = support.write_flagfile(tmp_path / "tiny.flags", _FLAGS)
  new = RunDirectory(tmp_path / "new")
  arguments = [f"--flagfile={flagfile}", flag, f"--output_dir={new.path}"]
  assert support.call("run", run.main, *arguments) == 2
  [line] = capsys.readouterr().err.splitlines()
  assert line.startswith("run: --anomaly_classes=")
  assert said in line
  assert not new.path.exists()
