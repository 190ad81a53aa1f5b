"""Resident memory of this process and its workers."""

import psutil

_BYTES_PER_MB = 1e6


def rss_mb() -> float:
  """Returns the resident memory of this process and all its children, in 10^6 bytes."""
  total = 0
  process = psutil.Process()
  for member in [process, *process.children(recursive=True)]:
    try:
      total += member.memory_info().rss
    except psutil.NoSuchProcess:
      continue
  return total / _BYTES_PER_MB
