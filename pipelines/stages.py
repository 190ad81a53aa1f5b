"""Train, export and report as the apps call them; each skips what is finished."""

import sys
from typing import Any

import rich.console

from pipelines import config as config_lib
from pipelines import (
  data_stage,
  export_stage,
  files,
  model_files,
  report,
  training_pipeline,
)
from pipelines.progress import Progress
from pipelines.run_directory import RunDirectory
from tflite_export.artifacts import VerificationError


def train(
  config: config_lib.RunConfig, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
  """Trains unless that is done; returns the report.

  Raises:
    InputError: Before anything is written, when the input cannot be used.
  """
  run.check(config)
  if run.report.exists() and run.model.exists():
    return run.read_report()
  experiment = training_pipeline.plan_experiment(config)
  run.claim(config)
  outcome = training_pipeline.train(experiment, run, progress)
  with progress.stage("report", "final figures on the test split"):
    made = report.make_report(config, run, outcome, progress.seconds)
  report.write(run, made)
  return made


def export(
  config: config_lib.RunConfig,
  run: RunDirectory,
  targets: list[str],
  progress: Progress,
) -> dict[str, Any]:
  """Exports a trained run to targets; returns and writes the report.

  Raises:
    VerificationError: After all other targets were exported and reported.
  """
  trained = run.read_report()
  files.remove_leftovers(run.path)
  plan = data_stage.plan_data(
    config, data_stage.load_dataset(config), model_files.read_task(run.model)
  )
  data = data_stage.write_data(plan, run.data)
  rows, failures = export_stage.export_all(
    targets, run, data, progress, config.verify_arm64
  )
  made = report.add_artifacts(trained, targets, rows, progress.seconds)
  report.write(run, made)
  if failures:
    raise VerificationError("; ".join(failures))
  return made


def missing_targets(
  made: dict[str, Any], run: RunDirectory, targets: list[str], verify_arm64: bool = False
) -> list[str]:
  """Names the targets whose files are not all there, or not all verified as wanted."""
  whole = {
    target
    for target in targets
    if any(row["target"] == target for row in made["artifacts"])
    and all(
      _is_whole(run, row) and not (verify_arm64 and _lacks_arm64(row))
      for row in made["artifacts"]
      if row["target"] == target
    )
  }
  return [target for target in targets if target not in whole]


def _is_whole(run: RunDirectory, row: dict[str, Any]) -> bool:
  path = run.path / row["path"]
  return path.is_file() and path.stat().st_size == row["bytes"]


def _lacks_arm64(row: dict[str, Any]) -> bool:
  # Runs of earlier versions have no such entry.
  return row["target"] in export_stage.ARM64_TARGETS and row.get("arm64") is None


def summarize(run: RunDirectory, made: dict[str, Any]) -> None:
  """Prints the closing table on stdout."""
  width = None if sys.stdout.isatty() else 140
  report.print_summary(run, made, rich.console.Console(width=width))
