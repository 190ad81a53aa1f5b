"""Tests of the worker app in processes of its own: probes, its end, bad input."""

import os
import signal
import socket

import psutil
import pytest

from fedtiny_tff.federated.runtimes import worker_channel
from pipelines import worker
from tests.fedtiny_tff.federated.runtimes import workers
from tests.pipelines import support
from tests.pipelines.apps.worker_health_test import ask

LOCAL = "127.0.0.1"


class Running:
  """The app, and where it is found."""

  def __init__(self, folder, *arguments):
    self.port, self.health_port = workers.free_ports(2)
    self.app = support.App(
      folder, "worker", f"--port={self.port}", f"--health_port={self.health_port}",
      *arguments,
    )  # fmt: skip
    assert workers.until(lambda: "is ready" in self.app.stdout), self.app.stderr
    word = self.app.stdout.partition("(process ")[2].partition(")")[0]
    self.pid = int(word)

  def probe(self, path):
    return ask(LOCAL, self.health_port, path)

  def answers(self):
    with worker_channel.open_channel(f"{LOCAL}:{self.port}") as channel:
      return worker_channel.answers(channel, 5.0, waits=True)


@pytest.fixture(name="isolation", scope="module")
def fixture_isolation():
  workers.require_isolation()


@pytest.fixture(name="running")
def fixture_running(tmp_path, isolation):
  shared = tmp_path / "shared"
  shared.mkdir()
  running = Running(tmp_path, f"--shared_dir={shared}")
  yield running
  if running.app.process.poll() is None:
    running.app.process.terminate()
  running.app.wait()


def test_serves_and_tells_how_it_is_until_it_is_terminated(running, tmp_path):
  assert running.answers()
  assert running.probe("/healthz") == (200, "ok\n")
  assert running.probe("/readyz") == (200, "ok\n")
  (tmp_path / "shared").rmdir()
  status, problem = running.probe("/readyz")
  assert (status, "shared: is no folder on this machine" in problem) == (503, True)
  assert running.probe("/healthz")[0] == 200
  psutil.Process(running.pid).suspend()
  assert running.probe("/readyz") == (503, "TFF's worker does not answer\n")
  psutil.Process(running.pid).resume()
  running.app.process.send_signal(signal.SIGTERM)
  assert running.app.wait() == 0
  assert running.app.stderr == "worker: told to stop\n"
  assert running.app.survivors() == []
  for port in (running.port, running.health_port):
    with pytest.raises(ConnectionRefusedError):
      socket.create_connection((LOCAL, port))


def test_ctrl_c_is_as_good(running):
  running.app.process.send_signal(signal.SIGINT)
  assert running.app.wait() == 0
  assert running.app.survivors() == []


def test_a_worker_that_ends_by_itself_is_a_failure(running):
  os.kill(running.pid, signal.SIGKILL)
  assert running.app.wait() == 1
  assert "ended by itself (exit code" in running.app.stderr
  assert running.app.survivors() == []


@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    ([], "--port is missing: name a port of 1 to 65535"),
    (["--port=0"], "--port must be from 1 to 65535, got 0"),
    (["--port=1", "--address=here"], "--address=here: is no IP address"),
    (["--port=1", "--max_concurrent_clients=0"], "--max_concurrent_clients must be at"),
    (["--port=1", "--shared_dir=/no/such"], "--shared_dir=/no/such: is no folder"),
    (["--port=7", "--address=192.0.2.1"], "--port: cannot listen at 192.0.2.1:7"),
    (["--port=7", "--health_port=70000"], "--health_port must be from 1 to 65535"),
  ],
)
def test_bad_input_is_one_line(arguments, line, capsys):
  assert support.call("worker", worker.main, *arguments) == 2
  (said,) = capsys.readouterr().err.splitlines()
  assert said.startswith(f"worker: {line}")


@pytest.mark.usefixtures("isolation")
@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    (
      ["--port={free}", "--health_port={taken}"],
      "--health_port={taken}: Address already",
    ),
    (["--port={taken}"], "--port: cannot listen at 127.0.0.1:{taken}: Address already"),
  ],
)
def test_a_port_that_is_taken_is_one_line_and_leaves_nothing(arguments, line, capsys):
  before = {each.pid for each in psutil.Process().children(recursive=True)}
  (free,) = workers.free_ports(1)
  with socket.socket() as taken:
    taken.bind((LOCAL, 0))
    taken.listen()
    ports = {"free": free, "taken": taken.getsockname()[1]}
    given = [argument.format(**ports) for argument in arguments]
    assert support.call("worker", worker.main, *given) == 2
  (said,) = capsys.readouterr().err.splitlines()
  assert said.startswith(f"worker: {line.format(**ports)}")
  assert {each.pid for each in psutil.Process().children(recursive=True)} == before


def test_warns_where_others_may_reach_it(tmp_path):
  running = Running(tmp_path, "--address=0.0.0.0", "--health_address=127.0.0.1")
  running.app.process.terminate()
  assert running.app.wait() == 0
  assert "whoever reaches 0.0.0.0" in running.app.stderr
