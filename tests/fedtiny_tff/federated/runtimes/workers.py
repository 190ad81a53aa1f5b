"""Workers on this machine, for tests of the runtimes."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import psutil
import pytest
import tensorflow_federated as tff

from fedtiny_tff.federated.runtimes import worker_process

_POLL_SECONDS = 0.05
# A generous limit for waits that normally take milliseconds.
_POLLS = 200


@tff.tensorflow.computation(np.int32)
def double(number):
  return 2 * number


@tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
def doubled_sum(numbers):
  """Needs a runtime's clients and its server."""
  return tff.federated_sum(tff.federated_map(double, numbers))


def until(condition) -> bool:
  """Waits, within bounds, for a condition."""
  for _ in range(_POLLS):
    if condition():
      return True
    time.sleep(_POLL_SECONDS)
  return False


def is_running(pid: int) -> bool:
  """Whether a process exists and is not a zombie that nobody has reaped."""
  try:
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
  except (FileNotFoundError, ProcessLookupError):
    return False
  return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def skip_unisolated(refused: worker_process.IsolationRefused) -> NoReturn:
  """Skips a test that needs a worker only its address leads to."""
  pytest.skip(f"the kernel admits no network namespace: {refused}")


def require_isolation() -> None:
  """Skips a test where there are no isolated workers."""
  try:
    with worker_process.WorkerProcess(1):
      pass
  except worker_process.IsolationRefused as refused:
    skip_unisolated(refused)


def thread_states(pid: int) -> list[str]:
  """Returns the state of each thread of a process, such as T for stopped."""
  return [
    (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
  ]


def free_ports(count: int) -> list[int]:
  """Finds ports that nobody listens at now."""
  with contextlib.ExitStack() as stack:
    found = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in found:
      each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in found]
  return ports


# The kernel ends a worker with the thread that started it.
_STARTER = concurrent.futures.ThreadPoolExecutor(1)


def later(seconds: float, *actions: Callable[[], Any]) -> None:
  """Has something done after a while, by a thread of its own."""

  def act():
    for action in actions:
      action()

  threading.Timer(seconds, act).start()


class Workers:
  """Workers on this machine that can be hurt and mended, from any thread."""

  def __init__(self, count: int):
    self.addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    self._running: dict[int, worker_process.WorkerProcess] = {}

  @property
  def pids(self) -> set[int]:
    return {worker.pid for worker in self._running.values()}

  def start(self, number: int) -> None:
    worker = worker_process.WorkerProcess(1, self.addresses[number])
    self._running[number] = _STARTER.submit(worker.__enter__).result()

  def kill(self, number: int) -> None:
    """Ends one with SIGKILL, and its launcher."""
    worker = self._running.pop(number)
    launcher = psutil.Process(worker.pid).parent()
    assert launcher is not None
    launcher.kill()
    worker.stop()

  def silence(self, number: int) -> None:
    """Has one answer no more, as if it were cut off."""
    pid = self._running[number].pid
    os.kill(pid, signal.SIGSTOP)
    assert until(lambda: all(state == "T" for state in thread_states(pid)))

  def wake(self, number: int) -> None:
    os.kill(self._running[number].pid, signal.SIGCONT)

  def stop(self) -> None:
    for number, worker in self._running.items():
      self.wake(number)
      worker.stop()
    self._running.clear()


@contextlib.contextmanager
def running_workers(count: int) -> Iterator[Workers]:
  """Starts workers, and ends what is left of them."""
  workers = Workers(count)
  try:
    try:
      for number in range(count):
        workers.start(number)
    except worker_process.IsolationRefused as refused:
      skip_unisolated(refused)
    yield workers
  finally:
    workers.stop()
