"""`--verify_arm64`: figures in the report, or nothing shipped."""

import io

import numpy as np
import pytest
import rich.console

from fedtiny_tff.errors import InputError
from pipelines import export, stages
from pipelines.apps.progress import Progress
from pipelines.datasets import data_stage
from pipelines.exports import export_stage
from pipelines.settings import config
from tests.pipelines import support
from tests.pipelines.handmade_reports import artifact, toy_bundle
from tflite_export import targets
from tflite_export.arm64 import arm64, arm64_setup
from tflite_export.artifacts import ExportBundle, VerificationError
from tflite_export.conversion.convert import convert
from tflite_export.runtimes import litert


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory):
  made = support.make_untrained_run(tmp_path_factory.mktemp("runs") / "made")
  return stages.RunDirectory(made.path), support.plan_data(made.config), made.config


@pytest.fixture(name="pretended")
def fixture_pretended(monkeypatch):
  """One Android file, and this machine's LiteRT in the emulator's place."""
  [row] = toy_bundle("android", "fp32_dense").artifacts

  def exporter(request):
    return ExportBundle({row.path: convert(request.model, row.format)}, (row,))

  monkeypatch.setattr(targets, "TARGETS", {"android": exporter, "mcu": exporter})
  monkeypatch.setattr(arm64_setup, "problem", lambda: "")
  monkeypatch.setattr(arm64, "run", litert.run)
  monkeypatch.setattr(
    arm64, "invoke_seconds", lambda contents, runs: np.full((len(contents), runs), 0.5)
  )


def _exported(run, **steps):
  directory, plan, made = run
  data = data_stage.write_data(plan, directory.data)
  progress = Progress(rich.console.Console(file=io.StringIO()))
  request = support.export_request(made, directory, data)
  return export_stage.export_all(
    ["android"], request, directory.export, progress, export_stage.ExportSteps(**steps)
  )


def test_figures_are_in_the_rows_when_asked_for(run, pretended):
  [row], failures = _exported(run, verify_arm64=True)
  assert failures == []
  assert row["arm64"]["samples"] == 200
  assert row["arm64"]["emulated_seconds"] == 0.5
  assert row["arm64"]["emulated_speedup"] is None
  [row], _ = _exported(run, verify_arm64=False)
  assert row["arm64"] is None


def test_files_are_timed_when_asked_for(run, pretended):
  [row], _ = _exported(run, benchmark=True, benchmark_runs=3)
  assert (row["latency"]["threads"], row["latency"]["runs"]) == (1, 3)
  assert 0 < row["latency"]["median_seconds"] <= row["latency"]["p90_seconds"]
  [row], _ = _exported(run)
  assert row["latency"] is None


def test_a_failure_on_arm_ships_nothing_and_ends_with_3(
  run, pretended, monkeypatch, capsys
):
  def refuse(*given):
    raise VerificationError("on ARM64: XNNPack delegate failed")

  monkeypatch.setattr(arm64, "run", refuse)
  arguments = [f"--run_dir={run[0].path}", "--targets=android", "--verify_arm64"]
  assert support.call("export", export.main, *arguments) == 3
  printed = capsys.readouterr().err.splitlines()[-1]
  assert printed.startswith("export: verification failed: android: android/model")
  assert not (run[0].export / "android").exists()


def test_without_emulator_the_flag_is_refused(monkeypatch):
  monkeypatch.setattr(arm64_setup, "problem", lambda: "not set up: run `make arm64`")
  with pytest.raises(InputError, match=r"--verify_arm64: .*`make arm64`"):
    config.make_config(support.flag_values(verify_arm64=True))
  config.make_config(support.flag_values(verify_arm64=False))


def test_the_flag_is_no_part_of_the_configuration(pretended):
  verified, plain = (
    config.make_config(support.flag_values(verify_arm64=value))
    for value in (True, False)
  )
  assert verified.configuration() == plain.configuration()


@pytest.mark.parametrize(
  ("target", "figures", "missing"),
  [("android", None, True), ("android", {"samples": 1}, False), ("mcu", None, False)],
)
def test_files_not_yet_verified_on_arm_are_exported_again(
  run, target, figures, missing
):
  path = f"export/{target}/fp32_dense.tflite"
  (run[0].path / path).parent.mkdir(parents=True, exist_ok=True)
  (run[0].path / path).write_bytes(b"bytes")
  row = artifact(path, bytes=5, arm64=figures)
  made = {"artifacts": [row]}
  verified, plain = (export_stage.ExportSteps(verify_arm64=v) for v in (True, False))
  wanted = [target] * missing
  assert stages.missing_targets(made, run[0], [target], verified) == wanted
  assert stages.missing_targets(made, run[0], [target], plain) == []
