"""TFF's worker as a child process that cannot outlive us.

TFF's own default starts the worker and leaves it behind when the interpreter dies.
Here the kernel ends it with its parent. See `worker_launcher` for who can reach it.
Nothing here loads TensorFlow Federated, which takes seconds.
"""

import contextlib
import errno
import importlib.metadata
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Optional

from fedtiny_tff.federated.runtimes import worker_channel, worker_launcher

# Ports of workers that could not be isolated; none that Linux gives to others.
OPEN_PORTS = range(24600, 25000)

_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 3.0
_PROBE_SECONDS = 0.5
_POLL_SECONDS = 0.02
# The longest path of a Unix socket that Linux takes, less the last zero.
_LONGEST_SOCKET_PATH = 107


class IsolationRefused(RuntimeError):
  """The kernel admits no network namespace; the message says why."""


class AddressUnusable(RuntimeError):
  """A worker cannot listen where it should; the message says why."""


def worker_binary_path() -> pathlib.Path:
  """Returns where TFF's wheel keeps its C++ worker."""
  package = importlib.metadata.distribution("tensorflow-federated")
  return pathlib.Path(
    str(package.locate_file("tensorflow_federated/data/worker_binary"))
  )


def _worker_environment() -> dict[str, str]:
  """Returns the worker's environment variables: ours, quiet, and with large pages.

  Tensors of megabytes are allocated anew at every operation; mapping them in pages of
  4 kB was measured as a fifth of what a ResNet18 round costs beside its training.
  glibc before 2.35 ignores the setting. As many arenas as cores are enough; with glibc's
  eight a core the worker grew by a quarter over 300 rounds, from fragmentation.
  """
  given = os.environ.get("GLIBC_TUNABLES", "")
  arenas = f"glibc.malloc.arena_max={os.cpu_count() or 1}"
  tunables = ":".join(filter(None, ["glibc.malloc.hugetlb=1", arenas, given]))
  return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "GLIBC_TUNABLES": tunables}


def free_port() -> int:
  """Returns a port of `OPEN_PORTS` that nobody listens at.

  Raises:
    AddressUnusable: When there is none.
  """
  # Runs that start at the same time should not try the same ports in the same order.
  start = os.getpid() % len(OPEN_PORTS)
  ports: tuple[int, ...] = (*OPEN_PORTS[start:], *OPEN_PORTS[:start])
  for port in ports:
    try:
      check_port(port)
    except AddressUnusable:
      continue
    return port
  raise AddressUnusable(f"no port of {OPEN_PORTS[0]} to {OPEN_PORTS[-1]} is free")


def check_port(port: int) -> None:
  """Checks that a worker could listen at a port.

  TFF's worker would share it with another one that does.

  Raises:
    AddressUnusable: When it is taken.
  """
  try:
    worker_launcher.listen(f"tcp:0.0.0.0:{port}").close()
  except OSError as error:
    raise AddressUnusable(os.strerror(error.errno or errno.EADDRINUSE)) from error


class WorkerProcess(contextlib.AbstractContextManager["WorkerProcess"]):
  """One running worker; use as a context manager.

  Attributes:
    target: Where gRPC finds it; empty unless it runs.
    pid: Its process id; 0 unless it runs.
  """

  def __init__(
    self, max_concurrent_clients: int, address: str = "", *, is_isolated: bool = True
  ):
    """Prepares the worker; it starts on entry.

    Args:
      max_concurrent_clients: Client computations that run at the same time.
      address: `host:port` to listen at; empty for a socket that only this user can
        open or, for a worker that is not isolated, any free port.
      is_isolated: Whether only its address leads to the worker. Otherwise it listens
        on all interfaces, whatever the host of the address.
    """
    self._max_concurrent_clients = max_concurrent_clients
    self._address = address
    self._is_isolated = is_isolated
    self._process: Optional[subprocess.Popen[str]] = None
    self._cleanup = contextlib.ExitStack()
    self.target = ""
    self.pid = 0

  def __enter__(self) -> "WorkerProcess":
    """Starts the worker and waits until it answers.

    Raises:
      IsolationRefused: When the kernel does not admit it.
      AddressUnusable: When the worker cannot listen at its address.
      RuntimeError: When it does not come up.
    """
    try:
      self._start()
      self._wait()
    except BaseException:
      self.stop()
      raise
    return self

  def _start(self) -> None:
    port = worker_launcher.INNER_PORT
    if self._is_isolated:
      listen = self._listen_inside()
    else:
      port = int(self._address.rpartition(":")[2] or free_port())
      check_port(port)
      listen, self.target = "open", f"localhost:{port}"
    self._process = subprocess.Popen(
      [
        sys.executable, "-I", "-S", worker_launcher.__file__, str(os.getpid()), listen,
        str(worker_binary_path()), f"--port={port}",
        f"--max_concurrent_computation_calls={self._max_concurrent_clients}",
      ],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
      # Ctrl-C goes to us alone; the worker goes when the round has been left.
      start_new_session=True,
      env=_worker_environment(),
    )  # fmt: skip
    assert self._process.stdout is not None
    with self._process.stdout as said:
      word, _, rest = said.readline().strip().partition(" ")
    if word == "refused":
      raise IsolationRefused(rest)
    if word == "unusable":
      raise AddressUnusable(rest)
    if word == "worker":
      self.pid = int(rest)

  def _listen_inside(self) -> str:
    """Returns where the launcher listens for the worker; sets the target."""
    if self._address:
      # A wildcard address leads to the loopback as well.
      host, _, port = self._address.rpartition(":")
      wildcards = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
      self.target = f"{wildcards.get(host, host)}:{port}"
      return f"tcp:{host.strip('[]')}:{port}"
    folder = _private_folder()
    self._cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    self.target = f"unix:{folder / 'worker'}"
    return self.target

  def _wait(self) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    with worker_channel.open_channel(self.target) as channel:
      while not worker_channel.answers(channel, _PROBE_SECONDS, waits=True):
        code = self.poll()
        if code is not None or time.monotonic() > deadline:
          raise RuntimeError(
            f"TFF's worker did not start (exit code {code}); "
            "`python -m pipelines.doctor` checks the installation"
          )
        time.sleep(_POLL_SECONDS)

  def poll(self) -> Optional[int]:
    """Returns the exit code of a worker that has ended, or None."""
    return self._process.poll() if self._process else None

  def wait(self) -> int:
    """Waits for the end of a running worker and returns its exit code."""
    assert self._process is not None
    return self._process.wait()

  def stop(self) -> None:
    """Ends the worker, and waits until it has."""
    process, self._process = self._process, None
    pid, self.pid, self.target = self.pid, 0, ""
    self._cleanup.close()
    if process is None:
      return
    process.send_signal(signal.SIGTERM)
    try:
      process.wait(_STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
      if pid:
        # Its launcher has not waited for it yet, so the number is still its own.
        with contextlib.suppress(ProcessLookupError):
          os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
          process.wait(_STOP_TIMEOUT_SECONDS)
      process.kill()
      process.wait()

  def __exit__(self, *exception: object) -> None:
    """Ends the worker."""
    self.stop()


def _private_folder() -> pathlib.Path:
  """Makes a folder that only this user can look into, for a socket."""
  folder = tempfile.mkdtemp(prefix="fedtiny-")
  if len(folder) + len("/worker") > _LONGEST_SOCKET_PATH:
    os.rmdir(folder)
    folder = tempfile.mkdtemp(prefix="fedtiny-", dir="/tmp")
  return pathlib.Path(folder)
