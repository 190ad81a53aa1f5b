"""`report.json`: what a run did and what came of it; and its closing table."""

import dataclasses
import json
from typing import Any, Optional

import numpy as np
import rich.console
import rich.table
import tensorflow as tf

from fedtiny_tff import cost
from pipelines import config as config_lib
from pipelines import data_stage, files, model_files
from pipelines.run_directory import RunDirectory
from pipelines.training_pipeline import TrainingOutcome, finalize


def accuracy(model: tf.keras.Model, data: data_stage.RunData) -> float:
  """Returns the share of the test split that a model gets right."""
  inputs, labels = data_stage.read_all(data.test)
  logits = model.predict(inputs, batch_size=256, verbose=0)
  return float(np.mean(np.argmax(logits, axis=1) == labels))


def _layers(outcome: TrainingOutcome) -> list[dict[str, Any]]:
  spec = outcome.definition.spec
  active = spec.active_counts(np.asarray(outcome.sparse.state.mask))
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
  spec = outcome.definition.spec
  active = spec.active_counts(np.asarray(outcome.sparse.state.mask))
  references = outcome.data.references
  workload = cost.Workload(
    int(references[:, 2].sum()) // len(references),
    config.local_epochs,
    config.batch_size,
  )
  profile = cost.profile_model(outcome.definition)
  own = outcome.strategy.round_cost(profile, workload, spec, active)
  rows = outcome.sparse.rows
  ordinary = [r["bytes_up_per_client"] for r in rows if r["adjusted_block"] == ""]
  adjusting = [r["bytes_up_per_client"] for r in rows if r["adjusted_block"] != ""]
  dense_bytes = _dense_bytes(outcome)
  return {
    **dataclasses.asdict(own),
    "upload_bytes": max(ordinary, default=0),
    "adjust_upload_bytes": max(adjusting, default=0),
    "download_bytes": max(r["bytes_down_per_client"] for r in rows),
    "dense": {
      **dataclasses.asdict(cost.dense_cost(profile, workload)),
      "upload_bytes": dense_bytes,
      "adjust_upload_bytes": 0,
      "download_bytes": dense_bytes,
    },
  }


def _dense_bytes(outcome: TrainingOutcome) -> int:
  weights = outcome.sparse.state.weights
  return 4 * sum(int(np.size(vector)) for vector in weights)


def _density_all(outcome: TrainingOutcome) -> float:
  weights = outcome.sparse.state.weights
  nonzero = np.count_nonzero(weights.prunable) + np.count_nonzero(weights.dense)
  return nonzero / (np.size(weights.prunable) + np.size(weights.dense))


def make_report(
  config: config_lib.RunConfig,
  run: RunDirectory,
  outcome: TrainingOutcome,
  seconds: dict[str, float],
) -> dict[str, Any]:
  """Builds the report of a finished training, without artifacts.

  The test split is touched here, for final figures only.
  """
  mask = np.asarray(outcome.sparse.state.mask)
  sparse_model, _ = model_files.load(run.model)
  sparse = accuracy(sparse_model, outcome.data)
  dense: Optional[float] = None
  if not outcome.strategy.is_sparse:
    dense = sparse
  elif outcome.dense is not None:
    dense = accuracy(finalize(outcome.definition, outcome.dense.state), outcome.data)
  stage_seconds = {name: round(value, 3) for name, value in seconds.items()}
  for phase in ("sparse", "dense"):
    result = getattr(outcome, phase)
    if result is not None:
      spent = sum(row["seconds"] for row in result.rows)
      stage_seconds[f"{phase}_rounds"] = round(spent, 3)
  return {
    "run": config.configuration(),
    "dataset": outcome.data.summary(),
    "density": int(np.count_nonzero(mask)) / mask.size,
    "density_all_parameters": _density_all(outcome),
    "layers": _layers(outcome),
    "accuracy": {"dense": dense, "sparse": sparse},
    "selection": outcome.candidates,
    "events": outcome.sparse.events,
    "artifacts": [],
    "cost": _cost(config, outcome),
    "seconds": stage_seconds,
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
  hits = {name: report["accuracy"][name] for name in ("dense", "sparse")}
  exports = {name: round(s, 3) for name, s in seconds.items() if "export" in name}
  return {
    **report,
    "artifacts": artifacts,
    "accuracy": hits | {row["path"]: row["accuracy"] for row in artifacts},
    "seconds": {**report["seconds"], **exports},
  }


def write(run: RunDirectory, report: dict[str, Any]) -> None:
  """Writes `report.json`."""
  files.write_text(run.report, json.dumps(report, indent=2) + "\n")


def _percent(value: Optional[float]) -> str:
  return "-" if value is None else f"{100 * value:.2f} %"


def print_summary(
  run: RunDirectory, report: dict[str, Any], console: rich.console.Console
) -> None:
  """Prints the closing table: accuracy, density, bytes, and where files are."""
  table = rich.table.Table(title=f"{report['run']['strategy']} on {report['dataset']['name']}")
  for heading in ("what", "accuracy", "density", "bytes", "dense bytes", "arena", "file"):
    is_text = heading in ("what", "file")
    table.add_column(heading, justify="left" if is_text else "right", overflow="fold")
  hits = report["accuracy"]
  parameters = 4 * report["cost"]["parameters"]
  table.add_row("dense model", _percent(hits["dense"]), "100.00 %", f"{parameters:,}", "", "", "")
  table.add_row(
    "sparse model", _percent(hits["sparse"]), _percent(report["density"]), "", "", "",
    "model/model.keras",
  )  # fmt: skip
  for row in report["artifacts"]:
    arena = row["arena_bytes"]
    table.add_row(
      row["format"],
      _percent(row["accuracy"]),
      _percent(row["density"]),
      f"{row['bytes']:,}",
      f"{row['dense_bytes']:,}",
      "" if arena is None else f"{arena:,}",
      row["path"],
    )
  console.print(table)
  for block, moved in _moved_by_block(report).items():
    console.print(f"Block {block}: {moved}", highlight=False, soft_wrap=True)
  console.print(
    f"Files: {run.path}/  Report: {run.report}", highlight=False, soft_wrap=True
  )


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
