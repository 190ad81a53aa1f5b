"""Test accuracy under differential privacy and secure aggregation.

A made-up federation of 2,000 clients with 20 examples each, digits_cnn at 20 % density,
25 rounds of about 100 clients, seven adjustments; one seed. Whole runs,
one after another.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import results_file

_CASES: dict[str, list[str]] = {
  "neither": [],
  "secure, dense votes": ["--secure_aggregation=modular"],
  "secure, hashed votes": [
    "--secure_aggregation=modular", "--secure_votes=hashed",
    "--secure_vote_buckets=128",
  ],
  "ε = 8": ["--target_epsilon=8"],
  "ε = 8, secure": ["--target_epsilon=8", "--secure_aggregation=bitwidth"],
  "ε = 2": ["--target_epsilon=2"],
}  # fmt: skip


def _train(folder: pathlib.Path, extra: list[str]) -> dict[str, Any]:
  subprocess.run(
    [
      sys.executable, "-m", "pipelines.train", f"--output_dir={folder}",
      "--dataset=synthetic", "--synthetic_clients=2000", "--model=digits_cnn",
      "--num_clients=0", "--clients_per_round=100", "--public_samples_per_class=10",
      "--pretrain_epochs=20", "--target_density=0.2", "--pool_size=4", "--rounds=25",
      "--adjust_every_rounds=3", "--adjust_until_round=20", "--local_epochs=5",
      "--batch_size=10", "--client_learning_rate=0.1", "--eval_every_rounds=25",
      "--nodense_baseline", "--quantisation_aware=never", *extra,
    ],
    check=True,
    capture_output=True,
  )  # fmt: skip
  return json.loads((folder / "report.json").read_text())


def _measure(name: str, extra: list[str]) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as folder:
    report = _train(pathlib.Path(folder) / "run", extra)
    metrics = (pathlib.Path(folder) / "run" / "metrics.csv").read_text().splitlines()
  columns = metrics[0].split(",")
  sent = sum(
    int(row.split(",")[columns.index("bytes_up_per_client")]) for row in metrics[1:]
  )
  private = report["privacy"] or {}
  return {
    "reports": name,
    "epsilon": private.get("epsilon"),
    "noise_multiplier": private.get("noise_multiplier"),
    "test_accuracy": report["accuracy"]["sparse"],
    "upload_bytes_per_client": sent,
  }


def main() -> None:
  """Trains each case."""
  results_file.publish(
    "privacy", [_measure(name, extra) for name, extra in _CASES.items()]
  )


if __name__ == "__main__":
  main()
