"""A server that is killed goes on with its devices, and ends as if nothing had been.

A device that falls silent is left out instead, round by round.
"""

import csv
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipelines.datasets import data_stage
from pipelines.training import experiments
from tests.pipelines import equal_runs, support
from tests.pipelines.devices import device_threads

pytestmark = pytest.mark.slow

CLIENTS, KILLS = 3, 4
SILENCE_SECONDS = 8
FLAGS = {
  "dataset": "digits", "model": "digits_cnn", "public_samples_per_class": 5,
  "pretrain_epochs": 3, "target_density": 0.1, "pool_size": 2, "num_clients": CLIENTS,
  "clients_per_round": CLIENTS, "rounds": 8, "local_epochs": 1, "batch_size": 32,
  "adjust_every_rounds": 2, "adjust_until_round": 6, "eval_every_rounds": 2,
  "dense_baseline": False, "quantisation_aware": "never", "targets": [],
}  # fmt: skip


def _command(folder: pathlib.Path, name: str, **changes: int) -> list[str]:
  values = {
    **FLAGS, "targets": "", "output_dir": folder / name,
    "device_exchange": folder / "exchange", "device_timeout_seconds": 300, **changes,
  }  # fmt: skip
  flagfile = support.write_flagfile(folder / f"{name}.flags", values)
  return [sys.executable, "-m", "pipelines.train", f"--flagfile={flagfile}"]


def _run(command: list[str], until_seconds: float) -> bool:
  """Runs the server, at most so long; returns whether it finished."""
  server = subprocess.Popen(
    command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
  )
  try:
    return server.wait(until_seconds) == 0
  except subprocess.TimeoutExpired:
    server.send_signal(signal.SIGKILL)
    server.wait()
    return False


def _devices(folder: pathlib.Path) -> list[device_threads.Device]:
  config = support.make_config(**FLAGS, output_dir=str(folder / "unused"))
  experiment = experiments.plan_experiment(config)
  data = data_stage.write_data(experiment.data, folder / "data")
  return [
    device_threads.Device(folder / "exchange", client, data)
    for client in range(CLIENTS)
  ]


def test_a_killed_server_goes_on(tmp_path):
  with device_threads.working(_devices(tmp_path)):
    begun = time.monotonic()
    assert _run(_command(tmp_path, "undisturbed"), 400)
    whole_seconds = time.monotonic() - begun
  shutil.rmtree(tmp_path / "exchange")
  generator = random.Random(0)
  with device_threads.working(_devices(tmp_path)):
    command = _command(tmp_path, "killed")
    ends = [
      _run(command, generator.uniform(0.4, 1.0) * whole_seconds) for _ in range(KILLS)
    ]
    assert any(ends) or _run(command, 400)
  assert not all(ends)
  wanted = equal_runs.results(tmp_path / "undisturbed")
  found = equal_runs.results(tmp_path / "killed")
  assert found.keys() == wanted.keys()
  assert [name for name in wanted if wanted[name] != found[name]] == []


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
  if not path.exists():
    return []
  with path.open() as file:
    return list(csv.DictReader(file))


def test_a_run_ends_without_a_device_that_falls_silent(tmp_path):
  command = _command(
    tmp_path, "run", rounds=4, adjust_every_rounds=1, adjust_until_round=3,
    device_timeout_seconds=SILENCE_SECONDS,
  )  # fmt: skip
  metrics = tmp_path / "run" / "metrics.csv"
  devices = _devices(tmp_path)
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
  assert f"after {SILENCE_SECONDS} s (--device_timeout_seconds)" in text
  assert "Traceback" not in text
