"""Twenty rounds of real images: accuracy rises, density is exact, bfloat16 keeps up."""

import csv
import json
import pathlib
import statistics
import subprocess
import sys

import pytest

from fedtiny_tff.masked_models import compute_dtypes
from tests.pipelines import support

_DATA = support.ROOT.parent / "shared" / "data" / "cifar10"
_DENSITY = 0.2
_ROUNDS = 20

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not (_DATA / "train.tfrecord").is_file(), reason=f"CIFAR-10 is not in {_DATA}"
  ),
]


def _train(folder: pathlib.Path, compute_dtype: str) -> pathlib.Path:
  subprocess.run(
    [
      sys.executable, "-m", "pipelines.train", "--dataset=cifar10",
      f"--data_dir={_DATA}", "--model=resnet8", f"--target_density={_DENSITY}",
      "--partitioner=iid", "--num_clients=25", "--clients_per_round=5", f"--rounds={_ROUNDS}",
      "--local_epochs=1", "--batch_size=32", "--client_learning_rate=0.05",
      "--public_samples_per_class=10", "--augmentations=crop,flip",
      "--adjust_every_rounds=3", "--adjust_until_round=15",
      "--pool_size=4", "--nodense_baseline", f"--compute_dtype={compute_dtype}",
      f"--output_dir={folder}",
    ],
    check=True, capture_output=True, cwd=support.ROOT,
  )  # fmt: skip
  return folder


def _rows(run: pathlib.Path) -> list[dict[str, str]]:
  with (run / "metrics.csv").open() as file:
    return list(csv.DictReader(file))


def _test_accuracy(run: pathlib.Path) -> float:
  return json.loads((run / "report.json").read_text())["accuracy"]["sparse"]


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory):
  return _train(tmp_path_factory.mktemp("cifar10") / "float32", "float32")


def test_accuracy_rises_and_density_stays_exact(run):
  rows = _rows(run)
  assert len(rows) == _ROUNDS
  accuracy = [float(row["eval_accuracy"]) for row in rows]
  print("held out:", accuracy, "test:", _test_accuracy(run))
  assert statistics.mean(accuracy[-5:]) > statistics.mean(accuracy[:5]) + 0.1
  # A guess hits one in ten.
  assert _test_accuracy(run) > 0.4
  # ⌊0.2 · 76,928⌋ of resnet8's prunable weights, in every round.
  assert {float(row["density"]) for row in rows} == {15385 / 76928}
  events = json.loads((run / "report.json").read_text())["events"]
  assert [event["round"] for event in events] == [3, 6, 9, 12]
  for event in events:
    for layer in event["layers"]:
      assert layer["dropped"] == layer["grown"] > 0


@pytest.mark.skipif(
  not compute_dtypes.cpu_has_bfloat16(), reason="this CPU has no bfloat16"
)
def test_bfloat16_loses_less_than_a_point(run, tmp_path):
  exact = _test_accuracy(run)
  rounded = _test_accuracy(_train(tmp_path / "bfloat16", "bfloat16"))
  print("float32:", exact, "bfloat16:", rounded)
  assert rounded > exact - 0.01
