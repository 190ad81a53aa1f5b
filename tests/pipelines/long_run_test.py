"""300 rounds with adjustments to the end: no memory, file handle or process is lost."""

import csv
import io
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


class _Seen(NamedTuple):
  """What belonged to a run at a time.

  Attributes:
    rounds: Rounds finished.
    handles: Open files and sockets of all its processes.
    processes: Its processes.
    threads: Their threads.
  """

  rounds: int
  handles: int
  processes: int
  threads: int


def _look(process, metrics):
  members = [process, *process.children(recursive=True)]
  return _Seen(
    metrics.read_text().count("\n"),
    sum(member.num_fds() for member in members),
    len(members),
    sum(member.num_threads() for member in members),
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
      except psutil.Error:
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
  for figure in ("handles", "processes", "threads"):
    # The least: a state that is just written is a file more.
    before, after = (
      min(getattr(each, figure) for each in part) for part in (first, last)
    )
    print(f"{figure}: {before}, later {after}")
    assert after <= before, figure
