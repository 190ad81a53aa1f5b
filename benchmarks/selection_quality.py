"""Test accuracy after adaptive selection, vanilla selection, and a random candidate.

The digits preset at 2 % density, five seeds; pool, clients and rounds are the same for
the three, only the choice differs. Without selection the first candidate is taken, which
is a random one. `first_round_accuracy` is that on the clients' held-out parts after one
round, where the choice matters most.
"""

import csv
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import results_file

_SEEDS = range(5)
_SELECTIONS = ("adaptive", "vanilla", "none")


def _train(folder: pathlib.Path, selection: str, seed: int) -> dict[str, float]:
  subprocess.run(
    [
      sys.executable, "-m", "pipelines.train",
      "--flagfile=pipelines/presets/digits.flags", f"--output_dir={folder}",
      "--target_density=0.02", "--adjust_every_rounds=2", "--adjust_until_round=50",
      "--nodense_baseline", "--eval_every_rounds=1", f"--selection={selection}",
      f"--seed={seed}",
    ],
    check=True,
    capture_output=True,
  )  # fmt: skip
  with (folder / "metrics.csv").open() as file:
    rows = list(csv.DictReader(file))
  return {
    "test": json.loads((folder / "report.json").read_text())["accuracy"]["sparse"],
    "first_round": float(rows[0]["eval_accuracy"]),
    "tenth_round": float(rows[9]["eval_accuracy"]),
  }


def _measure(selection: str) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as folder:
    found = [
      _train(pathlib.Path(folder) / str(seed), selection, seed) for seed in _SEEDS
    ]
  test = [figures["test"] for figures in found]
  return {
    "selection": "random candidate" if selection == "none" else selection,
    "seeds": len(found),
    "first_round_accuracy": statistics.mean(f["first_round"] for f in found),
    "tenth_round_accuracy": statistics.mean(f["tenth_round"] for f in found),
    "test_accuracy": statistics.mean(test),
    "test_accuracy_deviation": statistics.stdev(test),
  }


def main() -> None:
  """Trains every variant with every seed."""
  rows = [_measure(selection) for selection in _SELECTIONS]
  results_file.publish("selection_quality", rows)


if __name__ == "__main__":
  main()
