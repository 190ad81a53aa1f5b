"""Evaluates a trained run's final model on the test split."""

import json
from typing import Any, Optional

from pipelines.apps import app, redaction
from pipelines.settings import run_dir_flag
from pipelines.settings.format_flag import FORMAT

_SUMMARY = """
Evaluates the final sparse model of a run on the test split.

  python -m pipelines.evaluate --run_dir=runs/digits --format=json

Other flags of a run are its own, read from its folder.
"""


def _figures(path: str) -> dict[str, Any]:
  from fedtiny_tff import tasks
  from pipelines.datasets import data_folder, data_stage
  from pipelines.runs import model_files
  from pipelines.runs.run_directory import RunDirectory
  from pipelines.settings import config as config_lib

  config = config_lib.from_flags()
  run = RunDirectory(path)
  model, masks = model_files.load(run.model)
  task = model_files.read_task(run.model)
  data = data_stage.reopen(config, run.data, task)
  inputs, labels = data_folder.read_test(data, task)
  outputs = model.predict(inputs, batch_size=256, verbose=0)
  active = sum(int(mask.sum()) for mask in masks.values())
  by_class: dict[str, Optional[float]] = {}
  if task.has_classes:
    names = data.info.class_names
    shares = tasks.class_accuracy(outputs.argmax(axis=1), labels, len(names))
    by_class = dict(zip(names, shares, strict=True))
  return {
    "test_examples": len(labels),
    **task.quality(inputs, outputs, labels)._asdict(),
    "density": active / sum(mask.size for mask in masks.values()),
    "accuracy_by_class": by_class,
  }


def _shown(value: Optional[float]) -> str:
  if value is None:
    return "-"
  return f"{value:.4f}" if isinstance(value, float) else str(value)


def main() -> Optional[int]:
  """Prints the figures."""
  from pipelines.apps.progress import Progress

  path = run_dir_flag.read()
  with Progress().waiting(f"evaluating {path}"):
    figures = _figures(path)
  if FORMAT.value == "json":
    print(json.dumps(figures, indent=2))
    return None
  by_class = figures.pop("accuracy_by_class")
  for name, value in figures.items():
    print(f"{name:<14} {_shown(value)}")
  for name, value in by_class.items():
    print(f"  class {redaction.printable(name):<10} {_shown(value)}")
  return None


if __name__ == "__main__":
  groups = {"Run": ["run_dir", "data_dir"], "Output of figures": ["format"]}
  app.leave(app.run_app(main, _SUMMARY, groups))
