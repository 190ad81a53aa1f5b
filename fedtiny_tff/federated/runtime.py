"""TFF's local runtime, with a worker process that cannot outlive us.

TFF's own default starts the worker and leaves it behind when the interpreter
dies. Here the kernel ends it with its parent, and `LocalRuntime` ends it on exit.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Optional

import grpc
import portpicker
import tensorflow_federated as tff

_MAX_MESSAGE_BYTES = 2_000_000_000
_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 3.0

# Runs between fork and exec: asks Linux to kill this process with its parent
# (PR_SET_PDEATHSIG = 1), and leaves at once if the parent is gone already.
_LAUNCHER = (
  "import ctypes, os, signal, sys; "
  "ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
  "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
  "os.execv(sys.argv[2], sys.argv[2:])"
)


def worker_binary_path() -> pathlib.Path:
  """Returns where TFF's wheel keeps its C++ worker."""
  return pathlib.Path(tff.__file__).parent / "data" / "worker_binary"


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


class LocalRuntime(contextlib.AbstractContextManager):
  """Runs TFF computations in one local worker process.

  Use as a context manager; inside it, calling a TFF computation runs it there.
  """

  def __init__(
    self,
    max_concurrent_clients: int = 2,
    interceptors: Sequence[grpc.UnaryUnaryClientInterceptor] = (),
  ):
    """Prepares the runtime; the worker starts on entry.

    Args:
      max_concurrent_clients: Client computations that run at the same time.
      interceptors: What observes calls to the worker.
    """
    self._interceptors = tuple(interceptors)
    self._max_concurrent_clients = max_concurrent_clients
    self._process: Optional[subprocess.Popen] = None
    self._context = contextlib.ExitStack()

  @property
  def worker_pids(self) -> tuple[int, ...]:
    """Process ids of the running workers."""
    return (self._process.pid,) if self._process else ()

  def __enter__(self) -> "LocalRuntime":
    """Starts the worker and installs it as TFF's context.

    Raises:
      RuntimeError: When the worker does not come up.
    """
    port = portpicker.pick_unused_port()
    self._process = subprocess.Popen(
      [
        sys.executable, "-S", "-c", _LAUNCHER, str(os.getpid()),
        str(worker_binary_path()), f"--port={port}",
        f"--max_concurrent_computation_calls={self._max_concurrent_clients}",
      ],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      # Ctrl-C goes to us alone; the worker goes when the round has been left.
      start_new_session=True,
      env=_worker_environment(),
    )  # fmt: skip
    try:
      stub = self._connect(port)
    except BaseException:
      self._stop()
      raise
    executors = tff.framework.ResourceManagingExecutorFactory(
      lambda cardinalities: _remote_executor(stub, cardinalities)
    )
    context = tff.framework.SyncExecutionContext(
      executor_fn=executors,
      compiler_fn=tff.backends.native.desugar_and_transform_to_native,
      transform_args=tff.tensorflow.transform_args,
      transform_result=tff.tensorflow.transform_result,
    )
    self._context.enter_context(tff.framework.get_context_stack().install(context))
    return self

  def _connect(self, port: int) -> tff.framework.RemoteExecutorGrpcStub:
    options = [
      (f"grpc.max_{direction}message_length", _MAX_MESSAGE_BYTES)
      for direction in ("", "receive_", "send_")
    ]
    channel = grpc.insecure_channel(f"localhost:{port}", options)
    if self._interceptors:
      channel = grpc.intercept_channel(channel, *self._interceptors)
    stub = tff.framework.RemoteExecutorGrpcStub(channel)
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while not stub.is_ready:
      assert self._process is not None
      if self._process.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError(
          f"TFF's worker did not start (exit code {self._process.poll()}); "
          "`python -m pipelines.doctor` checks the installation"
        )
      time.sleep(0.05)
    return stub

  def _stop(self) -> None:
    process, self._process = self._process, None
    if process is None:
      return
    process.send_signal(signal.SIGTERM)
    try:
      process.wait(_STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()

  def __exit__(self, *exception: object) -> None:
    """Ends the worker and gives TFF its former context back."""
    self._context.close()
    self._stop()


def _remote_executor(
  stub: tff.framework.RemoteExecutorGrpcStub, cardinalities: dict
) -> tff.framework.RemoteExecutor:
  cardinalities.setdefault(tff.CLIENTS, 0)
  executor = tff.framework.RemoteExecutor(stub)
  executor.set_cardinalities(cardinalities)
  return executor
