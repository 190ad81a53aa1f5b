"""Resident memory and CPU time of this process and its workers."""

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psutil

_BYTES_PER_MB = 1e6


class Usage(NamedTuple):
  """What a process and all its living children take.

  Attributes:
    rss_mb: Resident memory, in 10^6 bytes.
    cpu_seconds: CPU time that they have used.
  """

  rss_mb: float
  cpu_seconds: float


class ProcessFamily:
  """This process and its children.

  To find them, all processes of the machine must be looked at, which takes milliseconds
  for each hundred. So it is done once for each look, and rounds make do with one.
  """

  def __init__(self) -> None:
    """Finds them."""
    self._members = _found()

  def cpu_seconds(self) -> float:
    """Returns the CPU time of those that the last look found."""
    return sum(_of_living(self._members, _own_cpu_seconds))

  def look(self) -> Usage:
    """Finds them anew, and returns what they take."""
    self._members = _found()
    rss_bytes = sum(_of_living(self._members, lambda each: each.memory_info().rss))
    return Usage(rss_bytes / _BYTES_PER_MB, self.cpu_seconds())


def _found() -> list[psutil.Process]:
  own = psutil.Process()
  return [own, *own.children(recursive=True)]


def _own_cpu_seconds(process: psutil.Process) -> float:
  times = process.cpu_times()
  return times.user + times.system


def _of_living(
  members: Sequence[psutil.Process], figure: Callable[[psutil.Process], float]
) -> list[float]:
  """Returns a figure of every process that has not ended meanwhile."""
  found = []
  for member in members:
    with contextlib.suppress(psutil.NoSuchProcess):
      found.append(figure(member))
  return found
