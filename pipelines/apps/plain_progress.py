"""Progress as plain lines on stderr, with the standard library and absl alone."""

import logging
import sys
import time
from typing import Any, Optional

from pipelines.apps import interruption, logs
from pipelines.apps.redaction import printable


class PlainProgress:
  """Prints lines, in the form and from the level on that `logs` says."""

  def __init__(self) -> None:
    """Begins the clock."""
    self._start = time.monotonic()
    self._stages: list[str] = []

  def say(
    self, message: str, level: int = logging.INFO, more: Optional[dict[str, Any]] = None
  ) -> None:
    """Prints one line, unless the app is to stop.

    Args:
      message: The line.
      level: As in `logging`.
      more: Figures, for programs that read the log.
    """
    interruption.check()
    settings = logs.settings()
    if level < settings.level:
      return
    elapsed = time.monotonic() - self._start
    if settings.is_json:
      stage = self._stages[-1] if self._stages else None
      figures = {"elapsed_seconds": round(elapsed, 1), **(more or {})}
      line = logs.json_line(level, stage, message, figures)
    else:
      label = "warning: " if level == logging.WARNING else ""
      line = f"[{elapsed:6.1f} s] {label}{printable(message)}"
    self._print(line)

  def warn(self, message: str) -> None:
    """Prints one line that somebody should read, unless the app is to stop."""
    self.say(message, logging.WARNING)

  def _print(self, line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Steps:
  """Progress as plain lines, at most one every few seconds."""

  _INTERVAL_SECONDS = 5.0

  def __init__(self, progress: PlainProgress, description: str, total: int, done: int):
    """Starts counting; see `progress.Progress.steps`."""
    self._progress = progress
    self._description = description
    self._total = total
    self._done = done
    self._begun = done
    self._start = time.monotonic()
    self._said = -self._INTERVAL_SECONDS

  def advance(self, figures: str, more: Optional[dict[str, Any]] = None) -> None:
    """Counts one step and shows its key figures, unless the app is to stop.

    Args:
      figures: For people.
      more: For programs that read the log.
    """
    interruption.check()
    self._done += 1
    now = time.monotonic()
    if now - self._said < self._INTERVAL_SECONDS and self._done < self._total:
      return
    self._said = now
    per_step = (now - self._start) / (self._done - self._begun)
    left = per_step * (self._total - self._done)
    self._progress.say(
      f"{self._description} {self._done}/{self._total}, {left:.0f} s left: {figures}",
      more={"seconds_left": round(left, 1), **(more or {})},
    )
