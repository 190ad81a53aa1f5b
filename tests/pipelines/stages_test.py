"""Stages skip what is finished and write nothing before input was checked."""

import io
import json

import pytest
import rich.console

from fedtiny_tff.errors import InputError
from pipelines import run, stages
from pipelines.apps.progress import Progress
from pipelines.exports import export_stage
from pipelines.runs.run_directory import RunDirectory
from pipelines.training import experiments
from tests.pipelines import support
from tests.pipelines.handmade_reports import artifact, handmade_report
from tflite_export import targets
from tflite_export.artifacts import VerificationError

ANDROID = "export/android/fp32_sparse.tflite"
MCU = "export/mcu/model.tflite"
PLAIN = export_stage.ExportSteps()


@pytest.fixture(name="progress")
def fixture_progress():
  return Progress(rich.console.Console(file=io.StringIO()))


@pytest.fixture(name="directory")
def fixture_directory(tmp_path):
  directory = RunDirectory(tmp_path / "run")
  for path in (ANDROID, MCU):
    (directory.path / path).parent.mkdir(parents=True)
    (directory.path / path).write_bytes(bytes(artifact(path)["bytes"]))
  return directory


@pytest.mark.parametrize(
  ("named", "lost", "missing"),
  [
    (["android", "mcu"], [], []),
    (["android"], [MCU], []),
    (["android", "mcu"], [MCU], ["mcu"]),
    (["mcu", "android"], [MCU, ANDROID], ["mcu", "android"]),
    ([], [], []),
  ],
)
def test_targets_with_missing_files_are_named(directory, named, lost, missing):
  made = handmade_report([artifact(ANDROID), artifact(MCU)])
  for path in lost:
    (directory.path / path).unlink()
  assert stages.missing_targets(made, directory, named, PLAIN) == missing


def test_a_target_whose_file_was_truncated_is_missing(directory):
  made = handmade_report([artifact(ANDROID), artifact(MCU)])
  (directory.path / MCU).write_bytes(b"x")
  assert stages.missing_targets(made, directory, ["android", "mcu"], PLAIN) == ["mcu"]


def test_targets_never_exported_are_missing(directory):
  made = handmade_report([artifact(ANDROID)])
  assert stages.missing_targets(made, directory, ["android", "mcu"], PLAIN) == ["mcu"]


def test_a_finished_training_is_only_read(tmp_path, progress, monkeypatch):
  untrained = support.make_untrained_run(tmp_path / "run")
  monkeypatch.setattr(experiments, "plan_experiment", None)
  before = support.snapshot(tmp_path)
  made = stages.train(untrained.config, RunDirectory(untrained.path), progress)
  assert made == untrained.report
  assert support.snapshot(tmp_path) == before


def test_a_report_of_another_form_is_read_without_a_page(
  tmp_path, progress, monkeypatch
):
  untrained = support.make_untrained_run(tmp_path / "run")
  monkeypatch.setattr(experiments, "plan_experiment", None)
  run_directory = RunDirectory(untrained.path)
  run_directory.page.unlink(missing_ok=True)
  strange = {**untrained.report, "accuracy": "high", "dataset": 3}
  run_directory.report.write_text(json.dumps(strange))
  assert stages.train(untrained.config, run_directory, progress) == strange
  assert not run_directory.page.exists()


def test_another_configuration_is_refused_even_when_finished(tmp_path, progress):
  untrained = support.make_untrained_run(tmp_path / "run")
  with pytest.raises(InputError, match="another configuration"):
    stages.train(support.make_config(rounds=9), RunDirectory(untrained.path), progress)


def test_nothing_is_claimed_when_the_plan_fails(tmp_path, progress):
  directory = RunDirectory(tmp_path / "run")
  with pytest.raises(InputError, match="--num_clients"):
    stages.train(support.make_config(num_clients=500), directory, progress)
  assert support.snapshot(tmp_path) == {}


def _fail(request):
  raise VerificationError("wrong")


def test_a_failed_target_is_tried_again_by_the_next_run(tmp_path, monkeypatch, capsys):
  untrained = support.make_untrained_run(tmp_path / "run")
  flagfile = untrained.path / "run.flags"
  arguments = [f"--flagfile={flagfile}", f"--output_dir={untrained.path}"]
  tried = []

  def export(request):
    tried.append("mcu")
    return _fail(request)

  monkeypatch.setitem(targets.TARGETS, "mcu", export)
  for attempt in (1, 2):
    assert support.call("run", run.main, *arguments) == 3
    assert capsys.readouterr().err.endswith("verification failed: mcu: wrong\n")
    assert len(tried) == attempt
  # Only the failed one was tried again.
  made = json.loads((untrained.path / "report.json").read_text())
  assert {row["target"] for row in made["artifacts"]} == {"android"}
  assert list(made["seconds"]) == ["data", "export_android", "export_mcu"]


def test_names_are_no_markup(tmp_path, capsys):
  name = "[/] [red]x :smile:"
  made = handmade_report([artifact(ANDROID)])
  made["dataset"]["name"] = name
  stages.summarize(RunDirectory(tmp_path), made)
  assert f"fedtiny on {name}" in capsys.readouterr().out


def test_the_summary_goes_to_stdout(tmp_path, capsys):
  directory = RunDirectory(tmp_path / ("long" * 40))
  stages.summarize(directory, handmade_report([artifact(ANDROID)]))
  printed = capsys.readouterr()
  # A path is never broken over lines where it is not shown on a terminal.
  assert str(directory.page) in printed.out
  assert ANDROID in printed.out
  assert printed.err == ""
