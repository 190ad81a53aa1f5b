"""The device's process: light, killed at any moment, and as good over HTTP."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fedtiny_tff.devices import device_tasks
from fedtiny_tff.devices.device_tasks import TRAIN
from pipelines import device_client
from pipelines.devices import device_examples, gateway_rules
from tests.fedtiny_tff.federated.runtimes import workers
from tests.pipelines import device_gateway_test, support
from tests.pipelines.devices import device_server
from tests.pipelines.devices.device_server import CLIENT

# What a device has, beside the standard library.
PACKAGES = {
  "absl", "ai_edge_litert", "fedtiny_tff", "google", "numpy", "pipelines", "safetensors",
  "tflite_export",
}  # fmt: skip

# Runs a module as a program where nothing else than that can be imported.
_BARE = """
import builtins, importlib.abc, runpy, sys

# Python's own start: Debian's imports a sitecustomize.
before = set(sys.modules)

class Blocker(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    first = name.partition(".")[0]
    if first in sys.stdlib_module_names or first in {packages} or first[0] == "_":
      return None
    raise ModuleNotFoundError(f"a device has no {{name}}", name=name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, "")
try:
  runpy.run_module("pipelines.device_client", run_name="__main__", alter_sys=True)
finally:
  found = {{name.partition(".")[0] for name in set(sys.modules) - before}}
  print("loaded", *sorted(found - sys.stdlib_module_names))
"""


@pytest.fixture(name="data")
def fixture_data(tmp_path):
  path = tmp_path / device_examples.file_name(CLIENT)
  device_examples.write(path, device_server.own_examples())
  return path


def flags(folder, path, **more):
  given = {"exchange": folder, "client": CLIENT, "data": path, "poll_seconds": 0.05,
           "timeout_seconds": 60} | more  # fmt: skip
  return [f"--{name}={value}" for name, value in given.items()]


def finishing(server, kind, number):
  """Serves, in a thread, until there is an answer, and then the end."""

  def serve():
    assert workers.until(lambda: server.answer(kind, number) is not None)
    server.ask(device_tasks.FINISHED)

  thread = threading.Thread(target=serve)
  thread.start()
  return thread


def right_answer(made, number):
  sent = device_server.message(made.plan, TRAIN, number)
  return device_server.runtime(made).train(sent, number, None, lambda *steps: None)


def test_a_round_where_nothing_heavy_can_be_imported(tmp_path, data):
  server = device_server.Server(tmp_path / "exchange")
  server.offer()
  server.ask(TRAIN, 4)
  thread = finishing(server, "update", 4)
  ended = subprocess.run(
    [sys.executable, "-c", _BARE.format(packages=PACKAGES), *flags(server.folder, data)],
    cwd=support.ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  thread.join()
  assert ended.returncode == 0, ended.stderr
  finished, listed = ended.stdout.splitlines()
  loaded = {name for name in listed.split()[1:] if name[0] != "_"}
  assert {"ai_edge_litert", "numpy", "safetensors"} <= loaded
  assert loaded - PACKAGES <= {"cython_runtime"}
  assert finished.startswith("Finished: 1 rounds, 1 answers, ")
  assert finished.endswith(" MB of memory")
  assert server.answer("update", 4) == right_answer(server.bundle, 4)


def test_killed_in_mid_training_it_answers_the_same_when_started_again(tmp_path, data):
  made = device_server.bundle(3000)
  server = device_server.Server(tmp_path / "exchange", made)
  server.offer()
  server.ask(TRAIN, 4)
  app = support.App(tmp_path, "device_client", *flags(server.folder, data))
  assert workers.until(lambda: "step 1/12000" in app.stderr), app.stderr
  app.process.kill()
  assert app.wait() == -signal.SIGKILL
  assert server.answer("update", 4) is None
  thread = finishing(server, "update", 4)
  again = support.App(tmp_path, "device_client", *flags(server.folder, data))
  assert again.wait() == 0, again.stderr
  thread.join()
  assert server.answer("update", 4) == right_answer(made, 4)
  # Nothing half-written is left.
  assert [path.name for path in server.folder.rglob(".*")] == []


@pytest.mark.slow
def test_killed_at_any_moment_the_round_is_whole(tmp_path, data):
  made = device_server.bundle(600)
  server = device_server.Server(tmp_path / "exchange", made)
  server.offer()
  server.ask(TRAIN, 4)
  wanted = right_answer(made, 4)
  kills = 0
  for moment in itertools.count(1):
    app = support.App(tmp_path, "device_client", *flags(server.folder, data))
    time.sleep(moment * 0.01)
    app.process.kill()
    app.wait()
    kills += 1
    assert server.answer("update", 4) in (None, wanted)
    if server.answer("update", 4):
      break
  assert kills > 3


def test_terminated_it_says_how_to_go_on(tmp_path, data):
  server = device_server.Server(tmp_path / "exchange")
  server.offer()
  server.ask(device_tasks.HELLO)
  app = support.App(tmp_path, "device_client", *flags(server.folder, data))
  assert workers.until(lambda: "hello: answered" in app.stderr), app.stderr
  app.process.terminate()
  assert app.wait() == 143
  assert app.stderr.splitlines()[-1].startswith(
    "device_client: terminated; run the same"
  )


def test_over_http_with_a_secret_a_round_is_the_same(tmp_path, data):
  server = device_server.Server(tmp_path / "exchange")
  server.offer()
  server.ask(TRAIN, 4)
  tokens = gateway_rules.Tokens({CLIENT: "three-three-three"})
  secret = tmp_path / "token.txt"
  secret.write_text("three-three-three\n")
  with device_gateway_test.serving(server.folder, tokens) as port:
    thread = finishing(server, "update", 4)
    given = flags(f"http://127.0.0.1:{port}", data, token_file=secret)
    assert support.call("device_client", device_client.main, *given) == 0
    thread.join()
  assert server.answer("update", 4) == right_answer(server.bundle, 4)


@pytest.mark.slow
def test_a_gateway_that_is_away_gets_the_answer_when_it_is_back(tmp_path, data):
  made = device_server.bundle(3000)
  server = device_server.Server(tmp_path / "exchange", made)
  server.offer()
  server.ask(TRAIN, 4)
  with device_gateway_test.serving(server.folder) as port:
    address = f"http://127.0.0.1:{port}"
    app = support.App(tmp_path, "device_client", *flags(address, data))
    assert workers.until(lambda: "step 1/12000" in app.stderr), app.stderr
  assert workers.until(lambda: "is not reached" in app.stderr), app.stderr
  assert server.answer("update", 4) is None
  thread = finishing(server, "update", 4)
  with device_gateway_test.serving(server.folder, port=port):
    assert app.wait() == 0, app.stderr
  thread.join()
  assert server.answer("update", 4) == right_answer(made, 4)
  assert "is reached again" in app.stderr


def test_a_wrong_secret_ends_it(tmp_path, data, capsys):
  secret = tmp_path / "token.txt"
  secret.write_text("four-four-four-four\n")
  tokens = gateway_rules.Tokens({CLIENT: "three-three-three"})
  with device_gateway_test.serving(tmp_path, tokens) as port:
    given = flags(f"http://127.0.0.1:{port}", data, token_file=secret)
    assert support.call("device_client", device_client.main, *given) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "--token_file: the gateway does not admit this client" in line
  assert "four-four" not in line


@pytest.mark.parametrize(
  ("changes", "line"),
  [
    ({"client": -1}, "--client is -1"),
    ({"client": 2**31}, "--client is 2147483648"),
    ({"threads": 0}, "--threads must be at least 1"),
    ({"poll_seconds": 0}, "--poll_seconds must be more than 0"),
    ({"timeout_seconds": "inf"}, "--timeout_seconds must be more than 0"),
    ({"token_file": "/no/such"}, "--token_file=/no/such: holds no secret"),
    ({"token_file": "/"}, "--token_file=/: holds no secret"),
    ({"exchange": ""}, "--exchange is missing"),
    ({"data": ""}, "--data is missing"),
    ({"timeout_seconds": 0.1}, "--exchange: has nothing new for 0.1 s"),
  ],
)
def test_bad_input_is_one_line(tmp_path, data, capsys, changes, line):
  given = flags(tmp_path / "none", data, **changes)
  assert support.call("device_client", device_client.main, *given) == 2
  (said,) = capsys.readouterr().err.splitlines()
  assert said.startswith(f"device_client: {line}")


def test_data_in_use_are_refused(tmp_path, data, capsys):
  lock = device_client.folder_lock.FolderLock(data, "data")
  given = flags(tmp_path / "none", data)
  assert support.call("device_client", device_client.main, *given) == 2
  assert (
    f"--data={data}: process {os.getpid()} works with it" in capsys.readouterr().err
  )
  lock.release()
