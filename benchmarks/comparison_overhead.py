"""What a comparison costs beside the runs that it consists of.

`python -m benchmarks.comparison_overhead`. The same runs of handwritten digits, one after
the other with `pipelines.train`, and as the cells of one `pipelines.compare`, in turn
twice. CPU seconds are those of all processes, workers among them, since a shared
machine's clock tells more of its other users; shares are of the medians.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks import results_file

_METHODS = ("fedtiny", "snip")
_ROUNDS = 40
_TIMES = 2
_COMMON = (
  "--flagfile=pipelines/presets/digits.flags",
  f"--rounds={_ROUNDS}",
  "--nodense_baseline",
  "--quantisation_aware=never",
)
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _cost(commands: Sequence[Sequence[str]]) -> tuple[float, float]:
  """Runs commands one after the other; returns CPU seconds and seconds."""
  began, before = time.perf_counter(), os.times()
  for command in commands:
    # What a process has waited for, its workers, counts as its own.
    subprocess.run(
      [sys.executable, "-m", *command], cwd=_ROOT, check=True, stderr=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
    )  # fmt: skip
  after = os.times()
  used = after.children_user + after.children_system
  used -= before.children_user + before.children_system
  return used, time.perf_counter() - began


def _alone(folder: pathlib.Path) -> list[list[str]]:
  """Returns the runs as commands of their own."""
  return [
    [
      "pipelines.train",
      *_COMMON,
      f"--strategy={method}",
      f"--output_dir={folder / method}",
    ]
    for method in _METHODS
  ]


def _together(folder: pathlib.Path) -> list[list[str]]:
  """Returns the comparison of the same runs."""
  methods = ",".join(_METHODS)
  return [
    ["pipelines.compare", *_COMMON, f"--methods={methods}", "--densities=0.1", "--seeds=0",
     f"--output_dir={folder}"]
  ]  # fmt: skip


def main() -> None:
  """Measures and publishes."""
  found: dict[str, list[tuple[float, float]]] = {"train": [], "compare": []}
  with tempfile.TemporaryDirectory() as scratch:
    for turn in range(_TIMES):
      for name, commands in (("train", _alone), ("compare", _together)):
        found[name].append(_cost(commands(pathlib.Path(scratch) / f"{name}{turn}")))
        print(
          f"{name} {turn + 1}/{_TIMES}: {found[name][-1][0]:.1f} CPU seconds",
          flush=True,
        )
  alone, together = (
    [statistics.median(values) for values in zip(*found[name], strict=True)]
    for name in ("train", "compare")
  )
  results_file.publish(
    "comparison_overhead",
    [
      {
        "cells": len(_METHODS),
        "rounds": _ROUNDS,
        "train_cpu_seconds": alone[0],
        "compare_cpu_seconds": together[0],
        "overhead_cpu_percent": 100 * (together[0] / alone[0] - 1),
        "train_seconds": alone[1],
        "compare_seconds": together[1],
        "overhead_percent": 100 * (together[1] / alone[1] - 1),
      }
    ],
  )


if __name__ == "__main__":
  main()
