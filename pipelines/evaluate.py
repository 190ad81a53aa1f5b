"""Evaluates a trained run's final model on the test split."""

import json
from typing import Any, Optional

from pipelines import app, run_dir_flag, run_flags
from pipelines.format_flag import FORMAT

_SUMMARY = """
Evaluates the final sparse model of a run on the test split.

  python -m pipelines.evaluate --run_dir=runs/digits --format=json
"""


def _figures(path: str) -> dict[str, Any]:
  import numpy as np

  from pipelines import config as config_lib
  from pipelines import data_stage, model_files
  from pipelines.run_directory import RunDirectory

  config = config_lib.from_flags()
  run = RunDirectory(path)
  model, masks = model_files.load(run.model)
  data = data_stage.write_data(data_stage.plan_data(config), run.data)
  inputs, labels = data_stage.read_all(data.test)
  logits = model.predict(inputs, batch_size=256, verbose=0).astype(np.float64)
  shifted = logits - logits.max(axis=1, keepdims=True)
  log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
  hits = np.argmax(logits, axis=1) == labels
  active = sum(int(mask.sum()) for mask in masks.values())
  return {
    "test_examples": len(labels),
    "accuracy": float(hits.mean()),
    "loss": float(-log_shares[np.arange(len(labels)), labels].mean()),
    "density": active / sum(mask.size for mask in masks.values()),
    "accuracy_by_class": {
      name: float(hits[labels == label].mean()) if (labels == label).any() else None
      for label, name in enumerate(data.info.class_names)
    },
  }


def main() -> Optional[int]:
  """Prints the figures."""
  figures = _figures(run_dir_flag.read())
  if FORMAT.value == "json":
    print(json.dumps(figures, indent=2))
    return None
  by_class = figures.pop("accuracy_by_class")
  for name, value in figures.items():
    print(f"{name:<14} {value:.4f}" if isinstance(value, float) else f"{name:<14} {value}")
  for name, value in by_class.items():
    print(f"  class {name:<10} {'-' if value is None else f'{value:.4f}'}")
  return None


if __name__ == "__main__":
  groups = {**run_dir_flag.GROUPS, "Output of figures": ["format"], **run_flags.GROUPS}
  app.leave(app.run_app(main, _SUMMARY, groups))
