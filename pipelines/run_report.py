"""`report.json`: what a run did and what came of it; and its closing table."""

import json
import pathlib
from typing import Any, Optional

import numpy as np
import rich.console
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.protection import secure_config
from pipelines.apps import files
from pipelines.datasets import data_folder
from pipelines.exports import artifact_table
from pipelines.models import cost_figures
from pipelines.runs import label_counts, model_files, versions
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan
from pipelines.tracking.base import without_blanks
from pipelines.training import client_evaluation
from pipelines.training.training_pipeline import TrainingOutcome, finalize


def measured_quality(
  model: tf.keras.Model,
  data: data_folder.RunData,
  task: tasks.Task,
  confusion: Optional[pathlib.Path] = None,
) -> tasks.Quality:
  """Returns a model's figures on the test split.

  Args:
    model: A plain Keras model.
    data: The run's data.
    task: What the model is for.
    confusion: Where to write which class is taken for which, if anywhere and if
      there are classes.
  """
  inputs, labels = data_folder.read_test(data, task)
  outputs = model.predict(inputs, batch_size=256, verbose=0)
  if confusion is not None and task.has_classes:
    answers = np.argmax(outputs, axis=1)
    files.write_text(confusion, label_counts.confusion(labels, answers))
  return task.quality(inputs, outputs, labels)


def _layers(outcome: TrainingOutcome) -> list[dict[str, Any]]:
  """Returns the layers of the full model, and what share of each there is."""
  spec = outcome.models.full.spec
  mask = np.asarray(outcome.sparse.state.mask)
  active = outcome.models.trained.spec.active_counts(mask)
  return [
    {
      "name": layer.name,
      "shape": list(layer.shape),
      "density": count / layer.size,
      "block": next(b for b, members in enumerate(spec.blocks) if i in members),
    }
    for i, (layer, count) in enumerate(zip(spec.layers, active, strict=True))
  ]


def _cost(config: config_lib.RunConfig, outcome: TrainingOutcome) -> dict[str, Any]:
  """Returns what a mean client paid, beside what dense FedAvg would cost it."""
  models = outcome.models
  spec, strategy = models.trained.spec, models.strategy
  active = spec.active_counts(np.asarray(outcome.sparse.state.mask))
  workload = cost_figures.mean_workload(config, outcome.data.references[:, 2])
  scored = [row for row in outcome.candidates if row["loss"] != ""]
  start = strategy.starting_counts(spec, active)
  plan = cost_figures.MaskPlan(
    active,
    strategy.plan_events(spec, start, config.pruning),
    len(scored),
    config.selection == "adaptive",
    start,
  )
  model = cost_figures.CostModel(models.trained, workload, models.full)
  return {
    **model.beside_dense(strategy, plan),
    "prunefl": cost_figures.prunefl(config, models.full, workload),
  }


def _hidden(config: config_lib.RunConfig, outcome: TrainingOutcome) -> dict[str, Any]:
  """Returns what reports were hidden by, and what that is worth and costs."""
  planned = privacy_plan.plan(
    config, len(outcome.data.references), outcome.models.strategy
  )
  secure = None
  if config.secure_aggregation != secure_config.NONE:
    secure = {
      "sums": config.secure_aggregation,
      "bits": config.secure_bits,
      "votes": config.secure_votes,
      "extra_upload_bytes": sum(r["secure_extra_bytes"] for r in outcome.sparse.rows),
    }
  return {"privacy": planned and planned.summary(), "secure_aggregation": secure}


def _nonzero(outcome: TrainingOutcome) -> int:
  weights = outcome.sparse.state.weights
  return int(np.count_nonzero(weights.prunable) + np.count_nonzero(weights.dense))


def _seconds(outcome: TrainingOutcome, measured: dict[str, float]) -> dict[str, float]:
  """Returns the stages' times; those of rounds include rounds of before."""
  found = {name: round(value, 3) for name, value in measured.items()}
  for phase in ("sparse", "dense"):
    result = getattr(outcome, phase)
    if result is not None:
      spent = sum(row["seconds"] for row in result.rows)
      found[f"{phase}_rounds"] = round(spent, 3)
  return found


def make_report(
  config: config_lib.RunConfig,
  run: RunDirectory,
  outcome: TrainingOutcome,
  seconds: dict[str, float],
) -> dict[str, Any]:
  """Builds the report of a finished training, without artifacts.

  The test split is touched here, for final figures only.
  """
  models, mask = outcome.models, np.asarray(outcome.sparse.state.mask)
  sparse_model, _ = model_files.load(run.model)
  task = models.trained.task
  sparse = measured_quality(sparse_model, outcome.data, task, run.confusion)
  dense: Optional[tasks.Quality] = None
  if not models.strategy.prunes:
    dense = sparse
  elif outcome.dense is not None:
    dense_model = finalize(models.full, outcome.dense.state)
    dense = measured_quality(dense_model, outcome.data, task)
  clients = None
  # What devices have, and how it is labelled, is theirs to know.
  simulates = not config.device_exchange
  if task.has_classes and simulates:
    clients = client_evaluation.evaluate_clients(
      sparse_model, outcome.data, config.seed
    )
  if clients is not None:
    files.write_text(run.clients, clients.to_csv())
  hidden = _hidden(config, outcome)
  if outcome.data.info.num_classes and simulates and not any(hidden.values()):
    files.write_text(run.client_labels, label_counts.client_labels(outcome.data))
  cost = _cost(config, outcome)
  return {
    "run": config.configuration(),
    "task": task.name,
    "dataset": outcome.data.summary(),
    "density": int(np.count_nonzero(mask)) / models.full.spec.size,
    "density_all_parameters": _nonzero(outcome) / cost["dense"]["parameters"],
    "layers": _layers(outcome),
    "accuracy": {"dense": dense and dense.accuracy, "sparse": sparse.accuracy},
    "client_accuracy": clients and clients.summary(),
    **hidden,
    "auc": sparse.auc,
    "auc_by_model": {"dense": dense and dense.auc, "sparse": sparse.auc},
    "selection": [without_blanks(row) for row in outcome.candidates],
    "events": outcome.sparse.events,
    "rounds": outcome.sparse.rounds,
    "artifacts": [],
    "calibration": {},
    "cost": cost,
    "seconds": _seconds(outcome, seconds),
    "versions": versions.versions(),
  }


def add_artifacts(
  report: dict[str, Any],
  targets: list[str],
  rows: list[dict[str, Any]],
  seconds: dict[str, float],
) -> dict[str, Any]:
  """Returns a report with the artifacts of some targets put in or replaced."""
  kept = [row for row in report["artifacts"] if row["target"] not in targets]
  artifacts = sorted([*kept, *rows], key=lambda row: row["path"])
  exports = {name: round(s, 3) for name, s in seconds.items() if "export" in name}
  return {
    **report,
    "artifacts": artifacts,
    "accuracy": _by_model(report["accuracy"], artifacts, "accuracy"),
    "auc_by_model": _by_model(report["auc_by_model"], artifacts, "auc"),
    "seconds": {**report["seconds"], **exports},
  }


def add_calibration(
  report: dict[str, Any], targets: list[str], facts: dict[str, Any]
) -> dict[str, Any]:
  """Returns a report that says how the integer files of its targets were calibrated."""
  made = {row["target"] for row in report["artifacts"]}
  before = report.get("calibration", {})
  entries = before | dict.fromkeys(targets, facts)
  kept = {target: entry for target, entry in entries.items() if target in made}
  return {**report, "calibration": dict(sorted(kept.items()))}


def _by_model(
  before: dict[str, Any], artifacts: list[dict[str, Any]], figure: str
) -> dict[str, Any]:
  """Returns a figure of the two models and of every artifact by its path."""
  models = {name: before[name] for name in ("dense", "sparse")}
  return models | {row["path"]: row[figure] for row in artifacts}


def write(run: RunDirectory, report: dict[str, Any]) -> None:
  """Writes `report.json`, and `report.html` which shows it."""
  # A page of the report before would not be missed, should this process be killed now.
  run.page.unlink(missing_ok=True)
  files.write_text(run.report, json.dumps(report, indent=2) + "\n")
  write_page(run, report)


def write_page(run: RunDirectory, report: Optional[dict[str, Any]] = None) -> None:
  """Writes `report.html`; of `report.json`, where no report is given.

  Raises:
    InputError: When that is of another form.
  """
  # Imported late: what makes pages is not needed to make a report.
  from pipelines.report_page import writing

  writing.write(run, report)


def print_summary(
  run: RunDirectory,
  report: dict[str, Any],
  console: rich.console.Console,
  targets: Optional[list[str]] = None,
) -> None:
  """Prints the closing table: quality, density, bytes, and where files are.

  Args:
    run: The run.
    report: Its report.
    console: Where to print.
    targets: What was exported now; None shows the files of all.
  """
  has_classes = tasks.TASKS[report["task"]].has_classes
  by_model = report["accuracy" if has_classes else "auc_by_model"]
  shown = artifact_table.percent if has_classes else artifact_table.decimal
  parameters = 4 * report["cost"]["dense"]["parameters"]
  artifact_table.show(
    f"{report['run']['strategy']} on {report['dataset']['name']}",
    [
      ("dense model", shown(by_model["dense"]), "100.00 %", f"{parameters:,}", ""),
      (
        "sparse model", shown(by_model["sparse"]), artifact_table.percent(report["density"]), "",
        "model/model.keras",
      ),
    ],
    report["artifacts"],
    has_classes,
    console,
    str(run.path),
    targets,
  )  # fmt: skip
  rounds = report.get("rounds", {})
  if rounds.get("stopped_early"):
    console.print(
      f"Stopped early after {rounds['run']} of {rounds['planned']} rounds; least "
      f"held-out loss after round {rounds['best_round']}",
      highlight=False,
      soft_wrap=True,
    )
  for block, moved in _moved_by_block(report).items():
    console.print(f"Block {block}: {moved}", highlight=False, soft_wrap=True)
  for line in _hidden_lines(report):
    console.print(line, highlight=False, soft_wrap=True)
  console.print(
    f"Files: {run.path}/  Report: {run.page}", highlight=False, soft_wrap=True
  )


def _hidden_lines(report: dict[str, Any]) -> list[str]:
  """Says what privacy and secure aggregation came to, if they were asked for."""
  lines = []
  # Reports of earlier versions have neither.
  private, secure = report.get("privacy"), report.get("secure_aggregation")
  if private:
    lines.append(
      f"Privacy: ε = {private['epsilon']:.2f} at δ = {private['delta']:.1e} for each of "
      f"{private['clients']:,} clients, noise multiplier "
      f"{private['noise_multiplier']:.3f}, {private['releases']} releases"
    )
  if secure:
    lines.append(
      f"Secure aggregation ({secure['sums']}, {secure['bits']} bits): "
      f"{secure['extra_upload_bytes']:+,} bytes of upload a client over all rounds"
    )
  return lines


def _moved_by_block(report: dict[str, Any]) -> dict[int, str]:
  """Says for each block how often it was adjusted and how many weights moved."""
  lines = {}
  for block in sorted({event["block"] for event in report["events"]}):
    events = [event for event in report["events"] if event["block"] == block]
    layers = [layer for event in events for layer in event["layers"]]
    names = list(dict.fromkeys(layer["name"] for layer in layers))
    dropped = sum(layer["dropped"] for layer in layers)
    grown = sum(layer["grown"] for layer in layers)
    lines[block] = (
      f"adjustments {len(events)}, weights dropped {dropped:,}, grown {grown:,} "
      f"({', '.join(names)})"
    )
  return lines
