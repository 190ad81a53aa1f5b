"""Runs `pipelines.export` in a process that kills itself between its steps, as -9 does.

`python -m tests.pipelines.exports.killed_export STEPS FLAGS` dies as soon as so many files
or folders of targets are in their places.
"""

import itertools
import os
import signal
import sys
from unittest import mock

from pipelines import export
from pipelines.apps import app, files


def _die_after(steps: int) -> None:
  sync, done = files._sync_folder, itertools.count(1)

  def sync_and_die(folder):
    sync(folder)
    if next(done) == steps:
      os.kill(os.getpid(), signal.SIGKILL)

  mock.patch.object(files, "_sync_folder", sync_and_die).start()


if __name__ == "__main__":
  _die_after(int(sys.argv[1]))
  arguments = ["pipelines/export.py", *sys.argv[2:]]
  app.leave(app.run_app(export.main, "", {}, arguments))
