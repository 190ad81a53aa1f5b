"""Tests of the local runtime: the worker must not outlive whoever started it."""

import logging
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated.runtimes import runtime, worker_process
from tests.fedtiny_tff.federated.runtimes import workers

REPOSITORY = pathlib.Path(__file__).parents[4]

HOLDER = """
import time
from fedtiny_tff.federated.runtimes import runtime, worker_process
with runtime.LocalRuntime() as running:
  print("worker", *running.worker_pids, flush=True)
  time.sleep(600)
"""


def test_the_former_context_is_back_afterwards():
  stack = tff.framework.get_context_stack()
  before = stack.current
  with runtime.LocalRuntime():
    assert stack.current is not before
  assert stack.current is before


class TestLocalRuntime:
  def test_runs_computations_in_a_worker_of_its_own(self):
    with runtime.LocalRuntime() as running:
      (pid,) = running.worker_pids
      assert pid != os.getpid()
      assert pathlib.Path(f"/proc/{pid}/exe").resolve().name == "worker_binary"
      assert workers.double(21) == 42
      assert workers.doubled_sum([1, 2, 3]) == 12

  def test_no_worker_before_and_after(self):
    local = runtime.LocalRuntime()
    assert local.worker_pids == ()
    with local:
      (pid,) = local.worker_pids
      assert workers.is_running(pid)
    assert local.worker_pids == ()
    assert not workers.is_running(pid)

  def test_an_exception_inside_ends_the_worker_and_passes(self):
    with (
      pytest.raises(KeyError, match="from inside"),
      runtime.LocalRuntime() as running,
    ):
      (pid,) = running.worker_pids
      raise KeyError("from inside")
    assert not workers.is_running(pid)

  def test_a_failing_computation_leaves_a_worker_that_ends(self):
    @tff.tensorflow.computation(np.int32)
    def fail(x):
      with tf.control_dependencies([tf.debugging.assert_less(x, 0)]):
        return tf.identity(x)

    with runtime.LocalRuntime() as running:
      (pid,) = running.worker_pids
      with pytest.raises(Exception, match="assert"):
        fail(1)
      assert workers.double(2) == 4
    assert not workers.is_running(pid)

  def test_two_runtimes_one_after_the_other(self):
    pids: list[int] = []
    for number in range(2):
      with runtime.LocalRuntime(max_concurrent_clients=1) as running:
        pids += running.worker_pids
        assert workers.doubled_sum([number, number]) == 4 * number
    assert len(set(pids)) == 2
    assert not any(workers.is_running(pid) for pid in pids)

  def test_the_same_runtime_twice(self):
    local = runtime.LocalRuntime()
    for _ in range(2):
      with local:
        assert workers.double(3) == 6

  def test_warns_where_the_kernel_admits_no_isolation(self, monkeypatch, caplog):
    start = worker_process.WorkerProcess

    def refusing(clients, is_isolated=True):
      if is_isolated:
        raise worker_process.IsolationRefused("Operation not permitted")
      return start(clients, is_isolated=False)

    monkeypatch.setattr(worker_process, "WorkerProcess", refusing)
    with caplog.at_level(logging.WARNING), runtime.LocalRuntime():
      assert workers.double(21) == 42
    (record,) = caplog.records
    message = record.getMessage()
    assert "(Operation not permitted)" in message
    assert "--dport 24600:24999 -j DROP" in message
    assert "\n" not in message

  def test_worker_ends_when_python_alone_is_killed(self):
    with subprocess.Popen(
      [sys.executable, "-c", HOLDER],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
      cwd=REPOSITORY,
    ) as holder:
      assert holder.stdout is not None
      try:
        lines = iter(holder.stdout.readline, "")
        word, pid = next(line for line in lines if line.startswith("worker")).split()
        assert word == "worker"
        assert workers.is_running(int(pid))
      finally:
        os.kill(holder.pid, signal.SIGKILL)
      holder.wait()
    assert workers.until(lambda: not workers.is_running(int(pid)))


class TestFailingWorker:
  @pytest.mark.parametrize(
    ("binary", "code"), [("/bin/false", 1), ("/bin/true", 0), ("/no/such/worker", 1)]
  )
  def test_raises_with_the_way_out(self, monkeypatch, binary, code):
    monkeypatch.setattr(
      worker_process, "worker_binary_path", lambda: pathlib.Path(binary)
    )
    local = runtime.LocalRuntime()
    with (
      pytest.raises(
        RuntimeError,
        match=rf"worker did not start \(exit code {code}\).*pipelines\.doctor",
      ),
      local,
    ):
      pytest.fail("entered without a worker")
    assert local.worker_pids == ()

  def test_a_worker_that_neither_listens_nor_obeys_is_ended(
    self, monkeypatch, tmp_path
  ):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 600\n", encoding="utf-8")
    silent.chmod(0o755)
    started: list[int] = []

    class RecordedPopen(subprocess.Popen):
      def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", RecordedPopen)
    monkeypatch.setattr(worker_process, "worker_binary_path", lambda: silent)
    monkeypatch.setattr(worker_process, "_START_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(worker_process, "_STOP_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(RuntimeError, match="did not start"), runtime.LocalRuntime():
      pytest.fail("entered without a worker")
    # Two where the kernel admits no isolation: the second worker is an open one.
    assert started
    assert not any(map(workers.is_running, started))


class TestWorkerBinaryPath:
  def test_is_an_executable_of_the_wheel(self):
    path = worker_process.worker_binary_path()
    assert path.is_file()
    assert os.access(path, os.X_OK)
