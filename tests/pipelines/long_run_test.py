"""300 rounds with adjustments to the end: no memory, file handle or process is lost."""

import contextlib
import csv
import io
import pathlib
import statistics
import time
from typing import NamedTuple

import psutil
import pytest

from tests.pipelines import support

_ROUNDS = 300
# Every block has been adjusted once, so every kind of round was built.
_SETTLED = 20
_MOST_GROWTH = 0.05
# A state's file, twice open, and an event loop with its pair of sockets.
_WRITING_HANDLES = 5


class _Seen(NamedTuple):
  """What belonged to a run at a time.

  Attributes:
    rounds: Rounds finished.
    handles: Open files and sockets of all its processes.
    processes: Its processes.
    threads: Their threads, but those that serve the worker's calls: as many as are under
      way, by gRPC's choice.
    calls: Those.
  """

  rounds: int
  handles: int
  processes: int
  threads: int
  calls: int


def _threads(process):
  """Lists the names of a process's threads."""
  names = []
  for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
    # One may end meanwhile.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
      names.append((task / "comm").read_text().strip())
  return names


def _look(process, metrics):
  members = [process, *process.children(recursive=True)]
  threads = [name for member in members for name in _threads(member)]
  calls = sum(name.startswith("grpcpp_sync_ser") for name in threads)
  return _Seen(
    metrics.read_text().count("\n"),
    sum(member.num_fds() for member in members),
    len(members),
    len(threads) - calls,
    calls,
  )


@pytest.mark.slow
def test_nothing_grows(tmp_path):
  values = {
    **support.TINY, "rounds": _ROUNDS, "adjust_every_rounds": 5,
    "adjust_until_round": _ROUNDS, "dense_baseline": "false",
  }  # fmt: skip
  flags = support.write_flagfile(tmp_path / "long.flags", values)
  path = tmp_path / "run"
  app = support.App(tmp_path, "train", f"--flagfile={flags}", f"--output_dir={path}")
  process, metrics, seen = psutil.Process(app.process.pid), path / "metrics.jsonl", []
  while app.process.poll() is None:
    if metrics.exists():
      try:
        seen.append(_look(process, metrics))
      except (psutil.Error, OSError):
        # It ends.
        break
    time.sleep(0.2)
  assert app.wait() == 0, app.stderr
  assert app.survivors() == []
  rows = list(csv.DictReader(io.StringIO((path / "metrics.csv").read_text())))
  rss_mb = [float(row["rss_mb"]) for row in rows]
  assert len(rss_mb) == _ROUNDS
  early = statistics.median(rss_mb[_SETTLED : 2 * _SETTLED])
  late = statistics.median(rss_mb[-_SETTLED:])
  print(f"{early:.0f} MB after {_SETTLED} rounds, {late:.0f} MB after {_ROUNDS}")
  assert late / early < 1.0 + _MOST_GROWTH
  first = [each for each in seen if _SETTLED < each.rounds <= 100]
  last = [each for each in seen if 200 < each.rounds < _ROUNDS - 1]
  for figure in ("handles", "calls"):
    least, at_least = (
      min(getattr(each, figure) for each in part) for part in (first, last)
    )
    print(f"{figure}: at least {least}, later {at_least}")
    assert at_least <= least, figure
  # How many are open for a moment is a matter of when one looks, but bounded.
  least, most = min(each.handles for each in first), max(each.handles for each in last)
  print(f"handles: at most {most} later")
  assert most <= least + _WRITING_HANDLES
  for figure in ("processes", "threads"):
    before, after = (
      max(getattr(each, figure) for each in part) for part in (first, last)
    )
    print(f"{figure}: {before}, later {after}")
    assert after <= before, figure
