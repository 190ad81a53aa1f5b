"""What a person sees while a run works: stages, rounds, time left."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Optional

import rich.console
import rich.text

from pipelines.apps import interruption, logs
from pipelines.apps.plain_progress import PlainProgress, Steps
from pipelines.apps.screen import Activity, Bar, Screen, duration


def _is_watched() -> bool:
  """Whether stderr is a terminal that can draw over its lines.

  Not what FORCE_COLOR says, which systems set that only keep a log.
  """
  return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in (
    "dumb",
    "unknown",
  )


class Progress(PlainProgress):
  """Prints stages and progress: live on a terminal, plain lines elsewhere.

  In the form and from the level on that `logs` says.
  """

  def __init__(self, console: Optional[rich.console.Console] = None):
    """Begins the clock.

    Args:
      console: Where to print; stderr by default, so that stdout stays clean.
    """
    super().__init__()
    self.console = console or rich.console.Console(
      file=sys.stderr,
      highlight=False,
      soft_wrap=True,
      force_interactive=_is_watched(),
    )
    self._screen = Screen(self.console)
    self._outcome = ""
    self.seconds: dict[str, float] = {}

  @property
  def is_live(self) -> bool:
    """Whether somebody watches who may see bars."""
    settings = logs.settings()
    wanted = settings.level <= logging.INFO and not settings.is_json
    return wanted and self.console.is_interactive

  def _print(self, line: str) -> None:
    self.console.print(line, markup=False, emoji=False, highlight=False)

  def expect(self, stages: dict[str, str]) -> None:
    """Shows on a terminal which stages are still to come.

    Args:
      stages: Name, as `stage` will get it, to what is shown.
    """
    self._screen.expect(stages)

  def loading(self) -> contextlib.AbstractContextManager[None]:
    """Shows what takes the first ten seconds; see `waiting`."""
    return self.waiting("loading TensorFlow and TensorFlow Federated")

  @contextlib.contextmanager
  def waiting(self, description: str) -> Iterator[None]:
    """Shows a line that goes away again; elsewhere than on a terminal, nothing.

    For what comes before the input is checked: an error stays the only line.
    """
    if not self.is_live:
      yield
      return
    with self._screen.showing(Activity(description, self._screen.is_unicode)):
      yield

  @contextlib.contextmanager
  def stage(self, name: str, description: str) -> Iterator[None]:
    """Announces a stage and records the seconds it takes under `name`.

    On a terminal it is a line that stays, with a mark, when it is done.
    """
    self._stages.append(name)
    start = time.monotonic()
    self._outcome = ""
    is_live = self.is_live
    try:
      if not is_live:
        self.say(description)
        yield
        return
      interruption.check()
      self._screen.begin(name)
      with self._screen.showing(Activity(description, self._screen.is_unicode)):
        yield
      self._tick(description, time.monotonic() - start)
    except BaseException:
      if is_live:
        self._tick(description, time.monotonic() - start, is_done=False)
      raise
    finally:
      self._stages.pop()
      spent = time.monotonic() - start
      self.seconds[name] = self.seconds.get(name, 0.0) + spent

  def _tick(self, description: str, seconds: float, is_done: bool = True) -> None:
    """Leaves a line of a stage that is over."""
    marks = "✓✗" if self._screen.is_unicode else "+x"
    line = rich.text.Text(marks[0] if is_done else marks[1])
    line.stylize("green" if is_done else "red")
    line.append(f" {description}", style="default")
    line.append(f"  {duration(seconds)}", style="dim")
    if self._outcome and is_done:
      line.append(f"  {self._outcome}", style="dim")
    self.console.print(line, soft_wrap=False)

  @contextlib.contextmanager
  def counting(self, description: str) -> Iterator["Counter"]:
    """Follows something whose end is not known.

    Args:
      description: What is counted.
    """
    if not self.is_live:
      yield Counter(lambda count: self.say(f"{description}: {count:,}"))
      return
    activity = Activity(description, self._screen.is_unicode)

    def show(count: int) -> None:
      activity.text = f"{description}: {count:,}"

    with self._screen.showing(activity):
      yield Counter(show, 0.2)

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
    bar = Bar(description, total, done)
    with self._screen.showing(bar):
      yield LiveSteps(bar)
    self._outcome = bar.figures


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


class LiveSteps(Steps):
  """Progress as a bar on a terminal."""

  def __init__(self, bar: Bar):
    """Wraps a bar that is shown."""
    self._bar = bar

  def advance(self, figures: str, more: Optional[dict[str, Any]] = None) -> None:
    """Counts one step and shows its key figures, unless the app is to stop."""
    interruption.check()
    self._bar.advance(figures)
