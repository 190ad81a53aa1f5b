"""Runs `pipelines.run` in a process that kills itself at a named point, as -9 does.

`python -m tests.pipelines.killed_run POINT FLAGS`
"""

import os
import signal
import sys
from collections.abc import Callable
from unittest import mock

from pipelines import run
from pipelines.apps import app
from pipelines.settings import run_flags


def _die() -> None:
  os.kill(os.getpid(), signal.SIGKILL)


def _in_a_state_write() -> None:
  """Half of the state after round 1 is in its temporary file."""
  from pipelines.apps import files
  from pipelines.runs import state_store

  write = files.write_bytes

  def write_half(path, content):
    if (path.parent.name, path.name) == ("sparse", "round_000002.state"):
      with files.replacing(path) as file:
        file.write(content[: len(content) // 2])
        file.flush()
        _die()
    write(path, content)

  mock.patch.object(state_store.files, "write_bytes", write_half).start()


def _between_rounds() -> None:
  """Round 2 is stored, its line in the metrics is not; nothing of round 3 is done."""
  from pipelines.runs import metrics_log

  write = metrics_log.MetricsLog.write

  def write_if_others(self, rows, events):
    if len(rows) == 3:
      _die()
    write(self, rows, events)

  mock.patch.object(metrics_log.MetricsLog, "write", write_if_others).start()


def _during_export() -> None:
  """The first target's files are made, their folder is not in its place yet."""
  from pipelines.apps import files

  replace = os.replace

  def replace_others(source, target):
    if os.path.basename(target) == "android":
      _die()
    replace(source, target)

  mock.patch.object(files.os, "replace", replace_others).start()


POINTS: dict[str, Callable[[], None]] = {
  "in a state write": _in_a_state_write,
  "between rounds": _between_rounds,
  "during export": _during_export,
}

if __name__ == "__main__":
  POINTS[sys.argv[1]]()
  arguments = ["pipelines/run.py", *sys.argv[2:]]
  app.leave(app.run_app(run.main, "", run_flags.GROUPS, arguments))
