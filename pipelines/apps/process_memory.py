"""Resident memory and CPU time of this process and its workers."""

import contextlib
from collections.abc import Callable

import psutil

_BYTES_PER_MB = 1e6


def rss_mb() -> float:
  """Returns the resident memory of this process and all its children, in 10^6 bytes."""
  return sum(_of_all(lambda process: process.memory_info().rss)) / _BYTES_PER_MB


def cpu_seconds() -> float:
  """Returns the CPU time that this process and its living children have used."""
  return sum(_of_all(_own_cpu_seconds))


def _own_cpu_seconds(process: psutil.Process) -> float:
  times = process.cpu_times()
  return times.user + times.system


def _of_all(figure: Callable[[psutil.Process], float]) -> list[float]:
  """Returns a figure of this process and of every child that does not end meanwhile."""
  found = []
  process = psutil.Process()
  for member in [process, *process.children(recursive=True)]:
    with contextlib.suppress(psutil.NoSuchProcess):
      found.append(figure(member))
  return found
