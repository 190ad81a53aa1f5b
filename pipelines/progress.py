"""What a person sees while a run works: stages, rounds, time left."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Optional

import rich.console
import rich.progress

from pipelines import interruption, logs


class Progress:
  """Prints stages and progress: live on a terminal, plain lines elsewhere.

  In the form and from the level on that `logs` says.
  """

  def __init__(self, console: Optional[rich.console.Console] = None):
    """Begins the clock.

    Args:
      console: Where to print; stderr by default, so that stdout stays clean.
    """
    self.console = console or rich.console.Console(
      file=sys.stderr, highlight=False, soft_wrap=True
    )
    self._start = time.monotonic()
    self._stages: list[str] = []
    self.seconds: dict[str, float] = {}

  @property
  def is_live(self) -> bool:
    """Whether somebody watches who may see bars."""
    settings = logs.settings()
    wanted = settings.level <= logging.INFO and not settings.is_json
    return wanted and self.console.is_terminal

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
      line = f"[{elapsed:6.1f} s] {label}{message}"
    self.console.print(line, markup=False, emoji=False, highlight=False)

  def warn(self, message: str) -> None:
    """Prints one line that somebody should read, unless the app is to stop."""
    self.say(message, logging.WARNING)

  @contextlib.contextmanager
  def waiting(self, description: str) -> Iterator[None]:
    """Shows a line that goes away again; elsewhere than on a terminal, nothing.

    For what comes before the input is checked: an error stays the only line.
    """
    if not self.is_live:
      yield
      return
    with self.console.status(description):
      yield

  @contextlib.contextmanager
  def stage(self, name: str, description: str) -> Iterator[None]:
    """Announces a stage and records the seconds it takes under `name`."""
    self._stages.append(name)
    self.say(description)
    start = time.monotonic()
    try:
      yield
    finally:
      self._stages.pop()
      spent = time.monotonic() - start
      self.seconds[name] = self.seconds.get(name, 0.0) + spent

  @contextlib.contextmanager
  def counting(self, description: str) -> Iterator["Counter"]:
    """Follows something whose end is not known.

    Args:
      description: What is counted.
    """
    if not self.is_live:
      yield Counter(lambda count: self.say(f"{description}: {count:,}"))
      return
    with self.console.status(description) as status:
      yield Counter(lambda count: status.update(f"{description}: {count:,}"), 0.2)

  @contextlib.contextmanager
  def steps(self, description: str, total: int, done: int) -> Iterator["Steps"]:
    """Follows a number of steps.

    Args:
      description: What is counted.
      total: Steps in all.
      done: Steps finished before.
    """
    if not self.is_live:
      yield Steps(self, description, total, done)
      return
    columns = (
      rich.progress.TextColumn("{task.description}"),
      rich.progress.BarColumn(),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeRemainingColumn(),
      rich.progress.TextColumn("{task.fields[figures]}"),
    )
    with rich.progress.Progress(*columns, console=self.console) as live:
      task = live.add_task(description, total=total, completed=done, figures="")
      yield LiveSteps(live, task)


class Counter:
  """A count that is shown from time to time, if it takes long."""

  def __init__(self, show: Callable[[int], None], interval_seconds: float = 5.0):
    """Takes how to show a count, and how often."""
    self._show = show
    self._interval_seconds = interval_seconds
    self._shown = time.monotonic()

  def advance_to(self, count: int) -> None:
    """Notes a count, unless the app is to stop."""
    interruption.check()
    now = time.monotonic()
    if now - self._shown >= self._interval_seconds:
      self._shown = now
      self._show(count)


class Steps:
  """Progress as plain lines, at most one every few seconds."""

  _INTERVAL_SECONDS = 5.0

  def __init__(self, progress: Progress, description: str, total: int, done: int):
    """Starts counting; see `Progress.steps`."""
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


class LiveSteps(Steps):
  """Progress as a bar on a terminal."""

  def __init__(self, live: rich.progress.Progress, task: rich.progress.TaskID):
    """Wraps a running bar."""
    self._live = live
    self._task = task

  def advance(self, figures: str, more: Optional[dict[str, Any]] = None) -> None:
    """Counts one step and shows its key figures, unless the app is to stop."""
    interruption.check()
    self._live.update(self._task, advance=1, figures=figures)
