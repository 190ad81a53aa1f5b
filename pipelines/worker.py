"""Runs TFF's worker for runs on other machines, watched and ended properly."""

import contextlib
import ipaddress
import os
import pathlib
import sys
from typing import Optional

from absl import flags

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import worker_channel, worker_process
from pipelines.apps import app, listening, worker_health
from pipelines.apps.errors import ExitCode

_SUMMARY = """
Runs TFF's own worker, which computes clients' work for runs on other machines.

  python -m pipelines.worker --port=8000 --health_port=8001 --shared_dir=/shared/runs

It works until Ctrl-C or SIGTERM, which end it with exit code 0. The worker has no
authentication: whoever reaches its port can run any computation and read any file that
it can. It therefore listens on this machine alone unless --address says otherwise;
docs/several_machines.md shows a TLS proxy before it. A run's directory must be at the
same path on this machine as where the run was started.
"""

_CLIENTS = flags.DEFINE_integer(
  "max_concurrent_clients", 2, "Clients whose work is computed at the same time."
)
_SHARED_DIR = flags.DEFINE_string(
  "shared_dir",
  "",
  "Folder that must be readable for the worker to be ready, such as that of the runs' "
  "directories; empty = none.",
)
_HEALTH_PORT = flags.DEFINE_integer(
  "health_port",
  0,
  "Port of an HTTP server for probes: /healthz answers 200 while the worker lives, "
  "/readyz while it can take work, else 503; 0 = none.",
)
_HEALTH_ADDRESS = flags.DEFINE_string(
  "health_address", "", "Address to listen on for probes; empty = as --address."
)

_GROUPS = {
  "Worker": ["port", "address", "max_concurrent_clients", "shared_dir"],
  "Health": ["health_port", "health_address"],
}

_ANSWER_SECONDS = 2.0
_WILDCARDS = ("0.0.0.0", "::")


def main() -> Optional[int]:
  """Runs the worker until it ends or is told to."""
  port = listening.checked_port("port", listening.PORT.value)
  address = listening.checked_address("address", listening.ADDRESS.value)
  if _HEALTH_PORT.value:
    listening.checked_port("health_port", _HEALTH_PORT.value)
  if _CLIENTS.value < 1:
    raise InputError(
      f"--max_concurrent_clients must be at least 1, got {_CLIENTS.value}"
    )
  if problem := folder_problem(_SHARED_DIR.value):
    raise InputError(f"--shared_dir={problem}")
  with contextlib.ExitStack() as stack:
    listen = listening.endpoint(address, port)
    worker = _start(stack, listen)
    if not ipaddress.ip_address(address).is_loopback:
      _warn(f"whoever reaches {listen} can run any computation; guard the port")
    health = _HEALTH_PORT.value and _serve_health(stack, worker, address)
    where = f", health at port {health}" if health else ""
    print(
      f"TFF's worker is ready at {listen} (process {worker.pid}){where}", flush=True
    )
    try:
      code = worker.wait()
    except KeyboardInterrupt:
      # SIGTERM as well. There is no other end that is not a failure.
      _warn("told to stop")
      return ExitCode.DONE
  _warn(f"TFF's worker ended by itself (exit code {code}); look for want of memory")
  return 1


def _warn(message: str) -> None:
  print(f"worker: {message}", file=sys.stderr, flush=True)


def folder_problem(folder: str) -> str:
  """Returns what is wrong with a folder to be read, or nothing; "" is no folder."""
  if not folder:
    return ""
  if not pathlib.Path(folder).is_dir():
    return f"{folder}: is no folder on this machine; mount it where the run has it"
  if not os.access(folder, os.R_OK | os.X_OK):
    return f"{folder}: cannot be read by this user; change its permissions"
  return ""


def _start(stack: contextlib.ExitStack, listen: str) -> worker_process.WorkerProcess:
  """Starts a worker that only its address leads to; an open one if that is asked for."""
  try:
    try:
      return stack.enter_context(worker_process.WorkerProcess(_CLIENTS.value, listen))
    except worker_process.IsolationRefused as refused:
      if listening.ADDRESS.value not in _WILDCARDS:
        raise InputError(
          f"--address={listening.ADDRESS.value}: TFF's worker listens on all interfaces, and the "
          f"kernel admits no network namespace to prevent it ({refused}); admit user "
          "namespaces, or give --address=0.0.0.0 and guard the port"
        ) from refused
      return stack.enter_context(
        worker_process.WorkerProcess(_CLIENTS.value, listen, is_isolated=False)
      )
  except worker_process.AddressUnusable as error:
    raise InputError(
      f"--port: cannot listen at {listen}: {error}; choose another"
    ) from error


def _serve_health(
  stack: contextlib.ExitStack, worker: worker_process.WorkerProcess, address: str
) -> int:
  """Begins to answer probes; returns the port."""
  port = _HEALTH_PORT.value
  if _HEALTH_ADDRESS.value:
    address = listening.checked_address("health_address", _HEALTH_ADDRESS.value)
  channel = stack.enter_context(worker_channel.open_channel(worker.target))

  def lives() -> str:
    return "" if worker.poll() is None else "TFF's worker has ended"

  def is_ready() -> str:
    if not worker_channel.answers(channel, _ANSWER_SECONDS):
      return "TFF's worker does not answer"
    return folder_problem(_SHARED_DIR.value)

  checks = {"/healthz": lives, "/readyz": is_ready}
  try:
    server = worker_health.HealthServer(address, port, checks)
  except OSError as error:
    reason = os.strerror(error.errno) if error.errno else str(error)
    raise InputError(f"--health_port={port}: {reason}; choose another port") from error
  return stack.enter_context(server).port


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS, goes_on=False))
