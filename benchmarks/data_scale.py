"""Start-up, memory and round time of a whole run, by how many clients there are.

The commands of a user: `pipelines.make_dataset` writes a synthetic federation once,
`pipelines.run` opens it in place. 10 clients take part in every round, whatever the
population. The data are open after `open_seconds`, imports included; the first round begins
after `first_round_seconds`, which includes pre-training and selection.
"""

import csv
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import results_file

_POPULATIONS = (10, 1_000, 100_000)
_ROUNDS = 25
_WARM_UP_ROUNDS = 5
_STAGE = re.compile(r"^\[ *([0-9.]+) s\] (.*)$", re.MULTILINE)


def _called(*arguments: str) -> tuple[str, float]:
  """Runs a module; returns what it said on stderr, and the seconds it took."""
  start = time.monotonic()
  done = subprocess.run(
    [sys.executable, "-m", *arguments], check=True, stderr=subprocess.PIPE,
    stdout=subprocess.DEVNULL, text=True, env=os.environ | {"COLUMNS": "200"},
  )  # fmt: skip
  return done.stderr, time.monotonic() - start


def _measure(folder: pathlib.Path, population: int) -> dict[str, Any]:
  data, run = folder / f"data{population}", folder / f"run{population}"
  _, written_seconds = _called(
    "pipelines.make_dataset", "--dataset=synthetic", "--num_clients=0",
    f"--synthetic_clients={population}", "--synthetic_examples_per_client=10",
    f"--output_dir={data}",
  )  # fmt: skip
  said, _ = _called(
    "pipelines.run", "--dataset=prepared", f"--data_dir={data}", "--num_clients=0",
    "--clients_per_round=10", f"--rounds={_ROUNDS}", "--adjust_every_rounds=1000",
    "--target_density=0.1", "--nodense_baseline", "--targets=", "--local_epochs=1",
    "--batch_size=8", "--eval_every_rounds=1000", f"--output_dir={run}",
  )  # fmt: skip
  stages = [(float(seconds), text) for seconds, text in _STAGE.findall(said)]
  began = next(seconds for seconds, text in stages if " rounds, fedtiny" in text)
  opened = next(seconds for seconds, text in stages if text.startswith("data:"))
  with (run / "metrics.csv").open() as file:
    rows = list(csv.DictReader(file))[_WARM_UP_ROUNDS:]
  return {
    "clients": population,
    "data_mb": sum(each.stat().st_size for each in data.iterdir()) / 1e6,
    "write_seconds": written_seconds,
    "open_seconds": opened,
    "first_round_seconds": began,
    "seconds_per_round": float(np.median([float(row["seconds"]) for row in rows])),
    "rss_mb": max(float(row["rss_mb"]) for row in rows),
  }


def main() -> None:
  """Measures every population."""
  with tempfile.TemporaryDirectory() as folder:
    rows = [_measure(pathlib.Path(folder), population) for population in _POPULATIONS]
  results_file.publish("data_scale", rows)


if __name__ == "__main__":
  main()
