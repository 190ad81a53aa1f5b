"""A device that falls silent in the middle of a run is left out, round by round."""

import csv
import subprocess
import sys
import time

import pytest

from pipelines.datasets import data_stage
from pipelines.training import experiments
from tests.pipelines import support
from tests.pipelines.devices import device_threads

pytestmark = pytest.mark.slow

CLIENTS, TIMEOUT_SECONDS = 3, 8
FLAGS = {
  "dataset": "digits", "model": "digits_cnn", "public_samples_per_class": 5,
  "pretrain_epochs": 1, "target_density": 0.1, "pool_size": 2, "num_clients": CLIENTS,
  "clients_per_round": CLIENTS, "rounds": 4, "local_epochs": 1, "batch_size": 32,
  "adjust_every_rounds": 1, "adjust_until_round": 3, "dense_baseline": False,
  "quantisation_aware": "never", "targets": [],
}  # fmt: skip


def _rows(path):
  if not path.exists():
    return []
  with path.open() as file:
    return list(csv.DictReader(file))


def test_a_run_ends_without_the_silent_device(tmp_path):
  config = support.make_config(**FLAGS, output_dir=str(tmp_path / "unused"))
  experiment = experiments.plan_experiment(config)
  data = data_stage.write_data(experiment.data, tmp_path / "data")
  devices = [
    device_threads.Device(tmp_path / "exchange", client, data)
    for client in range(CLIENTS)
  ]
  values = {
    **FLAGS, "targets": "", "output_dir": tmp_path / "run",
    "device_exchange": tmp_path / "exchange",
    "device_timeout_seconds": TIMEOUT_SECONDS,
  }  # fmt: skip
  flagfile = support.write_flagfile(tmp_path / "run.flags", values)
  command = [sys.executable, "-m", "pipelines.train", f"--flagfile={flagfile}"]
  metrics = tmp_path / "run" / "metrics.csv"
  with device_threads.working(devices), (tmp_path / "said").open("w") as said:
    server = subprocess.Popen(command, stderr=said, stdout=subprocess.DEVNULL)
    try:
      while not _rows(metrics) and server.poll() is None:
        time.sleep(0.05)
      devices[-1].ends.set()
      assert server.wait(300) == 0, (tmp_path / "said").read_text()
    finally:
      server.kill()
      server.wait()
  reports = [int(row["reports"]) for row in _rows(metrics)]
  assert reports[0] == CLIENTS
  # It may have begun the round in which it is told to stop.
  assert reports[2:] == [CLIENTS - 1] * 2
  text = (tmp_path / "said").read_text()
  assert "train: going on without client 2 after" in text
  assert f"after {TIMEOUT_SECONDS} s (--device_timeout_seconds)" in text
  assert "Traceback" not in text
