"""Train, export and report as the apps call them; each skips what is finished."""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any, Optional

import rich.console

from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import registry as strategies
from pipelines import run_report
from pipelines.apps import files
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, data_stage
from pipelines.devices import device_target
from pipelines.exports import calibration_stage, export_stage
from pipelines.models import density_budget
from pipelines.runs import model_files, runtimes
from pipelines.runs.quantisation_decision import Quantisation, facts_without_figures
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import config as config_lib
from pipelines.training import (
  experiments,
  quantisation_stage,
  round_profile,
  training_pipeline,
)
from tflite_export.targets import INTEGER_TARGETS


def expected(config: config_lib.RunConfig, targets: Sequence[str]) -> dict[str, str]:
  """Names the stages of a run, in order, and what is shown of them.

  Args:
    config: The run's flags.
    targets: What is exported to.
  """
  strategy = strategies.get_strategy(config.strategy)
  found = {
    "data": "data",
    "pretrain": "pre-training",
    "runtime": "start of TFF's runtime",
    **({"devices": "devices"} if config.device_exchange else {}),
    "selection": "selection",
    "sparse_rounds": f"{config.rounds} rounds, {strategy.name}",
  }
  if config.dense_baseline and strategy.prunes:
    found["dense_rounds"] = f"{config.rounds} rounds, dense, to compare with"
  found |= {"finalize": "final masks", "report": "final figures"}
  if _with_integers(targets) and config.quantisation_aware != "never":
    found["export_quantisation"] = "what quantisation costs"
  return found | {f"export_{name}": f"export: {name}" for name in targets}


def train(
  config: config_lib.RunConfig, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
  """Trains unless that is done; returns the report.

  Raises:
    InputError: Before anything is written, when the input cannot be used.
    BudgetError: Likewise, when no density fits the memory there is.
  """
  config = density_budget.adopt(config, run)
  run.check(config)
  if run.report.exists() and run.model.exists():
    progress.say(
      f"{run.path}: finished before, with the data as they were then; to read them again, "
      "name a new --output_dir"
    )
    return _finished(run)
  is_begun = run.flags.exists()
  experiment = experiments.plan_experiment(
    config, run.data, progress, is_begun=is_begun
  )
  if not is_begun:
    experiment = experiments.within_budget(experiment, progress)
    config = experiment.config
  runtimes.check(config, progress)
  run.claim(config)
  outcome = training_pipeline.train(experiment, run, progress)
  with progress.stage("report", "final figures on the test split"):
    made = run_report.make_report(config, run, outcome, progress.seconds)
  run_report.write(run, made)
  return made


def _finished(run: RunDirectory) -> dict[str, Any]:
  """Returns a run's report; writes the page that a killed process could not write."""
  made = run.read_report()
  if not run.page.exists():
    # Who may only read it, or not now, reads on without the page, and so does who was
    # given a report that no run has written.
    with contextlib.suppress(OSError, InputError):
      run.lock()
      run_report.write_page(run)
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
    BudgetError: Likewise, when nothing but memory was the matter.
  """
  config = density_budget.adopt(config, run)
  trained = run.read_report()
  files.remove_leftovers(run.path)
  data = data_stage.reopen(config, run.data, model_files.read_task(run.model), progress)
  integers = _with_integers(targets)
  device = None
  if device_target.TARGET in targets:
    device = device_target.request_of_run(config, run, data.info)
  calibration, quantised = _measured(config, run, data, progress, bool(integers))
  rows, failures = export_stage.export_all(
    targets,
    export_stage.export_request(config, run, data, calibration, quantised, device),
    run.export,
    progress,
    export_stage.steps_of(config),
  )
  rows = [row | {"path": f"{run.export.name}/{row['path']}"} for row in rows]
  made = run_report.add_artifacts(trained, targets, rows, progress.seconds)
  made = run_report.add_calibration(made, integers, calibration.facts)
  if integers:
    made["quantisation"] = quantised.facts
  run_report.write(run, made)
  export_stage.raise_any(failures)
  return made


def _with_integers(targets: Sequence[str]) -> list[str]:
  return [target for target in targets if target in INTEGER_TARGETS]


def _measured(
  config: config_lib.RunConfig,
  run: RunDirectory,
  data: data_folder.RunData,
  progress: Progress,
  for_integers: bool,
) -> tuple[calibration_stage.Calibration, Quantisation]:
  """Measures what integer files are made with, if there are any to make."""
  if for_integers:
    return (
      calibration_stage.calibrate(config, run, data, progress),
      quantisation_stage.quantise(config, run, data, progress),
    )
  facts = facts_without_figures(
    config.quantisation_aware, "No file of integers was made."
  )
  return calibration_stage.without_samples(config), Quantisation(None, facts)


def missing_targets(
  made: dict[str, Any],
  run: RunDirectory,
  targets: list[str],
  steps: export_stage.ExportSteps,
) -> list[str]:
  """Names the targets whose files are not all there, or lack figures asked for."""
  whole = {
    target
    for target in targets
    if any(row["target"] == target for row in made["artifacts"])
    and all(
      _is_whole(run, row) and not _lacks_figures(row, steps)
      for row in made["artifacts"]
      if row["target"] == target
    )
  }
  return [target for target in targets if target not in whole]


def _is_whole(run: RunDirectory, row: dict[str, Any]) -> bool:
  path = run.path / row["path"]
  return path.is_file() and path.stat().st_size == row["bytes"]


def _lacks_figures(row: dict[str, Any], steps: export_stage.ExportSteps) -> bool:
  # Runs of earlier versions have no such entries.
  wanted = {"arm64": steps.verify_arm64, "latency": steps.benchmark}
  return row["target"] in export_stage.LITERT_TARGETS and any(
    asked and row.get(name) is None for name, asked in wanted.items()
  )


def summarize(
  run: RunDirectory, made: dict[str, Any], targets: Optional[list[str]] = None
) -> None:
  """Prints the closing table on stdout, after that of a profile if there is one.

  Args:
    run: The run.
    made: Its report.
    targets: What was exported now; None shows the files of all.
  """
  console = closing_console()
  profiled = round_profile.read(run.profile)
  if profiled is not None:
    round_profile.show(profiled, console)
  run_report.print_summary(run, made, console, targets)


def closing_console() -> rich.console.Console:
  """Returns stdout; wide enough for paths where nobody says how wide it is."""
  # Names of data, layers and files are anybody's: brackets in them are no markup.
  return rich.console.Console(
    width=None if sys.stdout.isatty() else 140, markup=False, emoji=False
  )
