"""Artifacts in the report, and the closing table."""

import copy
import io
import json
import types
from typing import Any

import jsonschema
import numpy as np
import pytest
import rich.console

from fedtiny_tff import tasks
from fedtiny_tff.strategies import registry as strategies
from pipelines import run_report
from pipelines.models import cost_figures
from pipelines.runs.run_directory import RunDirectory
from pipelines.tracking import base
from tests.pipelines import report_schema, support
from tests.pipelines.handmade_reports import artifact, handmade_report

ANDROID = "export/android/fp32_sparse.tflite"
MCU = "export/mcu/model.tflite"


@pytest.fixture(name="schema", scope="module")
def fixture_schema():
  return report_schema.validator()


def test_artifacts_are_put_in_by_path():
  made = run_report.add_artifacts(
    handmade_report(),
    ["mcu", "android"],
    [artifact(MCU, accuracy=0.5), artifact(ANDROID, accuracy=0.75)],
    {"export_mcu": 1.23456, "sparse_rounds": 99.0},
  )
  assert [row["path"] for row in made["artifacts"]] == [ANDROID, MCU]
  assert made["accuracy"] == {
    "dense": 0.975,
    "sparse": 0.9625,
    ANDROID: 0.75,
    MCU: 0.5,
  }
  # Times of training belong to the run that trained.
  assert made["seconds"] == {"data": 0.5, "export_mcu": 1.235}


def test_artifacts_of_other_targets_stay():
  before = handmade_report([artifact(ANDROID), artifact(MCU)])
  other = "export/mcu/other.tflite"
  made = run_report.add_artifacts(before, ["mcu"], [artifact(other)], {})
  assert [row["path"] for row in made["artifacts"]] == [ANDROID, other]
  assert set(made["accuracy"]) == {"dense", "sparse", ANDROID, other}


def test_artifacts_of_a_failed_target_go():
  before = handmade_report([artifact(ANDROID), artifact(MCU)])
  made = run_report.add_artifacts(before, ["mcu"], [], {})
  assert [row["path"] for row in made["artifacts"]] == [ANDROID]
  assert MCU not in made["accuracy"]


def test_adding_does_not_change_the_old_report():
  before = handmade_report()
  kept = copy.deepcopy(before)
  run_report.add_artifacts(before, ["mcu"], [artifact(MCU)], {"export_mcu": 1.0})
  assert before == kept


@pytest.mark.parametrize("prunefl", [None, handmade_report()["cost"]["dense"]])
def test_reports_name_versions_and_a_rival(schema, prunefl):
  made = handmade_report()
  made["cost"]["prunefl"] = prunefl
  made["versions"] = {"fedtiny-tff": "0.1.0"}
  schema.validate(made)
  with pytest.raises(jsonschema.ValidationError):
    schema.validate(made | {"versions": {"fedtiny-tff": 1}})
  with pytest.raises(jsonschema.ValidationError):
    schema.validate(made | {"cost": {**made["cost"], "prunefl": {}}})


def test_a_run_whose_devices_have_next_to_nothing_has_a_cost():
  config = support.make_config(local_epochs=1, batch_size=2, strategy="fedtiny")
  strategy = strategies.get_strategy("fedtiny")
  models = cost_figures.plan_models(
    config, cost_figures.find_data("digits_cnn", None, None), strategy
  )
  # Two devices of four never said what they have.
  references = np.array([[k, 0, size, 1] for k, size in enumerate((0, 2, 1, 0))])
  outcome: Any = types.SimpleNamespace(
    models=models, candidates=[], data=types.SimpleNamespace(references=references),
    sparse=types.SimpleNamespace(
      state=types.SimpleNamespace(mask=np.arange(models.trained.spec.size) % 2 == 0)
    ),
  )  # fmt: skip
  paid = run_report._cost(config, outcome)
  # Of one example, in one step.
  assert paid["training_flops_per_round"] == 3 * paid["forward_flops"]
  assert paid["adjust_round_flops"] > 3 * paid["forward_flops"]


def test_a_report_is_written_with_its_page(tmp_path):
  run = RunDirectory(tmp_path)
  made = handmade_report([artifact(ANDROID)])
  run_report.write(run, made)
  assert "<title>fedtiny on digits</title>" in run.page.read_text()


def test_a_page_is_never_that_of_the_report_before(tmp_path, monkeypatch):
  def killed(*arguments):
    raise KeyboardInterrupt

  run = RunDirectory(tmp_path)
  run_report.write(run, handmade_report())
  monkeypatch.setattr(run_report, "write_page", killed)
  with pytest.raises(KeyboardInterrupt):
    run_report.write(run, handmade_report([artifact(ANDROID)]))
  assert run.read_report()["artifacts"]
  assert not run.page.exists()


def test_a_report_is_written_as_readable_json(tmp_path):
  run = RunDirectory(tmp_path)
  made = handmade_report()
  run_report.write(run, made)
  text = run.report.read_text()
  assert json.loads(text) == run.read_report() == made
  assert text.endswith("}\n")
  assert text.count("\n") > 50


def _summary(tmp_path, made):
  shown = io.StringIO()
  console = rich.console.Console(file=shown, width=140)
  run_report.print_summary(RunDirectory(tmp_path / "a run"), made, console)
  return shown.getvalue()


def test_the_summary_shows_figures_and_places(tmp_path):
  rows = [artifact(ANDROID), artifact(MCU, arena_bytes=26_816)]
  text = _summary(tmp_path, handmade_report(rows))
  assert "fedtiny on digits" in text
  for figure in (
    "97.50 %", "96.25 %", "87.50 %", "10.00 %", "27,532", "152,856", "26,816",
    # 4 bytes for each of 37,498 parameters.
    "149,992", ANDROID, MCU, "model/model.keras",
  ):  # fmt: skip
    assert figure in text
  assert f"{tmp_path}/a run/report.html" in text


def test_the_summary_names_the_file_to_ship(tmp_path, schema):
  rows = [artifact(ANDROID, recommended=True), artifact(MCU)]
  made = handmade_report(rows)
  schema.validate(made)
  lines = _summary(tmp_path, made).splitlines()
  assert any(line.startswith(f"Ship: {tmp_path}/a run/{ANDROID} (") for line in lines)


def test_the_summary_tells_of_an_early_end(tmp_path):
  made = handmade_report()
  assert "Stopped early" not in _summary(tmp_path, made)
  made["rounds"] = {"planned": 9, "run": 4, "stopped_early": True, "best_round": 2}
  assert (
    "Stopped early after 4 of 9 rounds; least held-out loss after round 2\n"
    in _summary(tmp_path, made)
  )
  # Reports of earlier versions do not tell.
  del made["rounds"]
  assert "Stopped early" not in _summary(tmp_path, made)


def test_the_summary_sums_what_moved_by_block(tmp_path):
  made = handmade_report()
  made["events"] = [
    {
      "round": number,
      "block": block,
      "layers": [{"name": n, "dropped": d, "grown": d} for n, d in layers.items()],
    }
    for number, block, layers in (
      (1, 2, {"dense1": 1000, "logits": 20}),
      (2, 0, {"conv2": 7}),
      (3, 2, {"dense1": 500, "logits": 10}),
    )
  ]
  lines = [line for line in _summary(tmp_path, made).splitlines() if "Block" in line]
  assert lines == [
    "Block 0: adjustments 1, weights dropped 7, grown 7 (conv2)",
    "Block 2: adjustments 2, weights dropped 1,530, grown 1,530 (dense1, logits)",
  ]


def test_without_events_nothing_moved(tmp_path):
  assert "Block" not in _summary(tmp_path, handmade_report() | {"events": []})


def test_the_summary_shows_what_was_not_computed_as_a_dash(tmp_path):
  made = handmade_report([artifact(ANDROID, accuracy=None)])
  made["accuracy"]["dense"] = None
  text = _summary(tmp_path, made)
  assert "None" not in text
  dense = next(line for line in text.splitlines() if "dense model" in line)
  assert [cell.strip() for cell in dense.split("│")][2] == "-"


def _measured(monkeypatch, task, outputs):
  """Judges outputs for four zeros of the classes 0, 1, 1, 2; 2 is an anomaly."""
  labels = np.array([0, 1, 1, 2])
  monkeypatch.setattr(
    run_report.data_folder, "read_all", lambda store: (np.zeros([4, 1]), labels)
  )

  class Model:
    def predict(self, inputs, **options):
      return np.array(outputs)

  data: Any = types.SimpleNamespace(test=None, anomalies=(2,))
  return run_report.measured_quality(Model(), data, task)


def test_accuracy_is_the_share_of_test_labels_hit(monkeypatch):
  found = _measured(monkeypatch, tasks.CLASSIFY, np.eye(3)[[0, 1, 2, 2]])
  assert (found.accuracy, found.auc) == (0.75, None)


def test_auc_ranks_the_anomalies(monkeypatch):
  # Errors 1, 4, 9, 4: the anomaly beats one of three and ties with another.
  found = _measured(monkeypatch, tasks.RECONSTRUCT, [[1.0], [2.0], [3.0], [2.0]])
  assert found == tasks.Quality(loss=4.5, accuracy=None, auc=1.5 / 3)


def _reconstruction_report():
  made = handmade_report()
  made |= {"task": "reconstruct", "auc": 0.75}
  made["accuracy"] |= {"dense": None, "sparse": None}
  made["auc_by_model"] |= {"dense": 0.875, "sparse": 0.75}
  made["dataset"]["anomaly_classes"] = ["1"]
  made["selection"][0]["accuracy"] = None
  row = artifact(MCU, accuracy=None, auc=0.5, argmax_agreement=None)
  return run_report.add_artifacts(made, ["mcu"], [row], {})


def test_reports_of_autoencoders_fit(schema):
  made = _reconstruction_report()
  schema.validate(made)
  assert made["auc_by_model"] == {"dense": 0.875, "sparse": 0.75, MCU: 0.5}
  assert set(made["accuracy"].values()) == {None}
  for area in (1.5, "0.5"):
    assert not schema.is_valid(made | {"auc": area})


def test_the_summary_of_an_autoencoder_shows_auc(tmp_path):
  lines = _summary(tmp_path, _reconstruction_report()).splitlines()
  cells = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
  assert {row[1]: row[2] for row in cells} == {
    "dense model": "0.8750",
    "sparse model": "0.7500",
    "fp32_sparse": "0.5000",
  }
  heading = next(line for line in lines if "what" in line)
  assert "AUC" in heading
  assert "accuracy" not in heading


def test_what_a_csv_leaves_empty_is_null():
  row = {"candidate": 0, "loss": "", "accuracy": "", "chosen": 1}
  assert base.without_blanks(row) == {
    "candidate": 0, "loss": None, "accuracy": None, "chosen": 1,
  }  # fmt: skip
