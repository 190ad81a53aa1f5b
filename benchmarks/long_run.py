"""Memory and time over a run of 300 rounds of the whole pipeline, events included.

The run is a process of its own, as a user starts it; its `metrics.csv` tells the memory
of the process and its worker after every round, and the round's seconds. CPU seconds
tell a round that became longer from a machine that became busier. Growth is between the median of rounds
50 to 99, when every kind of round has been seen, and that of the last 50.
"""

import csv
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import results_file

_ROUNDS = 300


def main() -> None:
  """Runs the digits preset for 300 rounds and reads its metrics."""
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run(
      [
        sys.executable, "-m", "pipelines.train",
        "--flagfile=pipelines/presets/digits.flags", f"--rounds={_ROUNDS}",
        "--local_epochs=1", "--nodense_baseline", f"--output_dir={folder}/run",
      ],
      check=True,
      stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with (pathlib.Path(folder) / "run" / "metrics.csv").open() as file:
      rows = list(csv.DictReader(file))
  rss_mb = np.array([float(row["rss_mb"]) for row in rows])
  seconds = np.array([float(row["seconds"]) for row in rows])
  cpu_seconds = np.array([float(row["cpu_seconds"]) for row in rows])
  early, late = np.median(rss_mb[50:100]), np.median(rss_mb[-50:])
  results_file.publish(
    "long_run",
    [
      {
        "rounds": _ROUNDS,
        "early_rss_mb": float(early),
        "late_rss_mb": float(late),
        "growth": float(late / early - 1.0),
        "early_seconds_per_round": float(np.median(seconds[50:100])),
        "late_seconds_per_round": float(np.median(seconds[-50:])),
        "early_cpu_seconds_per_round": float(np.median(cpu_seconds[50:100])),
        "late_cpu_seconds_per_round": float(np.median(cpu_seconds[-50:])),
      }
    ],
  )


if __name__ == "__main__":
  main()
