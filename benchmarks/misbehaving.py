"""Test accuracy with one bad client of ten, by what it does and how reports are aggregated.

The digits preset at 10 % density, 30 rounds, all ten clients in every round; one seed.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import results_file
from fedtiny_tff.protection.aggregation_config import AGGREGATIONS
from fedtiny_tff.protection.poisoning import ATTACKS


def _train(folder: pathlib.Path, attack: str, aggregation: str) -> float:
  subprocess.run(
    [
      sys.executable, "-m", "pipelines.train",
      "--flagfile=pipelines/presets/digits.flags", f"--output_dir={folder}",
      "--rounds=30", "--adjust_every_rounds=3", "--adjust_until_round=25",
      "--num_clients=10", "--clients_per_round=0", "--nodense_baseline",
      "--eval_every_rounds=30", "--byzantine_fraction=0.1",
      f"--byzantine_attack={attack}", f"--aggregation={aggregation}",
    ],
    check=True,
    capture_output=True,
  )  # fmt: skip
  return json.loads((folder / "report.json").read_text())["accuracy"]["sparse"]


def _measure(attack: str) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as folder:
    return {
      "one_of_ten_clients": attack,
      **{
        name: _train(pathlib.Path(folder) / name, attack, name) for name in AGGREGATIONS
      },
    }


def main() -> None:
  """Trains with every attack and every aggregation."""
  results_file.publish("misbehaving", [_measure(attack) for attack in ATTACKS])


if __name__ == "__main__":
  main()
