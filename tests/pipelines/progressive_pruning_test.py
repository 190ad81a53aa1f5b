"""Progressive pruning must be seen to work: digits at 2 % density, test accuracy."""

import json
import statistics
import subprocess
import sys

import pytest

from tests.pipelines import support

_SEEDS = (0, 1, 2)
_LEAST_GAIN = 0.10


def _accuracy(folder, seed, until_round):
  subprocess.run(
    [
      sys.executable, "-m", "pipelines.train",
      "--flagfile=pipelines/presets/digits.flags", f"--output_dir={folder}",
      "--target_density=0.02", "--adjust_every_rounds=2", "--nodense_baseline",
      f"--adjust_until_round={until_round}", f"--seed={seed}",
    ],
    check=True, capture_output=True, cwd=support.ROOT,
  )  # fmt: skip
  report = json.loads((folder / "report.json").read_text())
  assert report["density"] == pytest.approx(0.02, abs=1e-3)
  return report["accuracy"]["sparse"]


@pytest.mark.slow
def test_adjusting_masks_gains_at_least_ten_points(tmp_path):
  # The same clients, candidates and rounds; only the masks stand still in one.
  gains = [
    _accuracy(tmp_path / f"moving{seed}", seed, 50)
    - _accuracy(tmp_path / f"static{seed}", seed, 0)
    for seed in _SEEDS
  ]
  print("gains by seed:", gains)
  assert statistics.mean(gains) >= _LEAST_GAIN
