"""The part of a terminal that changes while somebody watches: what is done right now."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich.console
import rich.live
import rich.progress
import rich.text

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_SPINNER = "|/-\\"
_FRAMES_PER_SECOND = 8
# On narrow terminals a bar gets a line of its own.
_NARROW_COLUMNS = 60
_MOST_PENDING = 8


def duration(seconds: float) -> str:
  """Returns a time as `12 s`, `3:07` or `1:02:03`."""
  whole = round(seconds)
  if whole < 60:
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
  minutes, left = divmod(whole, 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


class Activity:
  """A line with something that turns, what is done, and for how long."""

  def __init__(self, text: str, is_unicode: bool):
    """Begins the clock.

    Args:
      text: What is done.
      is_unicode: Whether the terminal shows more than ASCII.
    """
    self.text = text
    self._frames = _SPINNER if is_unicode else _PLAIN_SPINNER
    self._start = time.monotonic()

  @property
  def seconds(self) -> float:
    """Since it began."""
    return time.monotonic() - self._start

  def __rich_console__(
    self, console: rich.console.Console, options: rich.console.ConsoleOptions
  ) -> Iterator[rich.text.Text]:
    """Draws it in one line."""
    frame = self._frames[int(self.seconds * _FRAMES_PER_SECOND) % len(self._frames)]
    spent = f"  {duration(self.seconds)}"
    line = rich.text.Text(f"{frame} ", style="cyan", no_wrap=True)
    line.append(self.text, style="bold")
    line.truncate(max(options.max_width - len(spent), 3), overflow="ellipsis")
    line.append(spent, style="dim")
    yield line


class Bar:
  """Steps of a known number: a bar, the time left, and figures below."""

  def __init__(self, text: str, total: int, done: int):
    """Begins the clock.

    Args:
      text: What is counted.
      total: Steps in all.
      done: Steps finished before.
    """
    self._text, self._total, self._done, self._begun = text, total, done, done
    self._start = time.monotonic()
    self.figures = ""

  def advance(self, figures: str) -> None:
    """Counts a step."""
    self._done += 1
    self.figures = figures

  @property
  def left(self) -> str:
    """The time left, at the speed so far."""
    stepped = self._done - self._begun
    if not stepped:
      return "time left: after the first"
    per_step = (time.monotonic() - self._start) / stepped
    return f"{duration(per_step * (self._total - self._done))} left"

  def __rich_console__(
    self, console: rich.console.Console, options: rich.console.ConsoleOptions
  ) -> Iterator[Any]:
    """Draws bar and figures."""
    # Not below the columns of a person's narrowest window.
    width = max(options.max_width, 20)
    count = f"{self._done}/{self._total}"
    head = rich.text.Text(f"  {self._text} {count}  {self.left}  ", no_wrap=True)
    room = width - head.cell_len if width >= _NARROW_COLUMNS else width - 4
    bar = rich.progress.ProgressBar(
      total=max(self._total, 1), completed=self._done, width=max(min(room, 40), 4)
    )
    if width >= _NARROW_COLUMNS:
      yield _beside(head, bar, console, options)
    else:
      head.truncate(width, overflow="ellipsis")
      yield head
      yield _beside(rich.text.Text("  "), bar, console, options)
    for figure in _folded(self.figures, width - 4):
      yield rich.text.Text(f"    {figure}", no_wrap=True)


def _beside(
  head: rich.text.Text,
  bar: rich.progress.ProgressBar,
  console: rich.console.Console,
  options: rich.console.ConsoleOptions,
) -> rich.text.Text:
  """Returns a bar in the same line as what stands before it."""
  line = head.copy()
  for segment in console.render(bar, options.update(width=bar.width or 4)):
    if segment.text.strip("\n"):
      line.append(segment.text, segment.style)
  return line


def _folded(figures: str, width: int) -> list[str]:
  """Breaks figures at their commas, so that none is torn."""
  lines: list[str] = []
  for figure in filter(None, figures.split(", ")):
    if lines and len(lines[-1]) + 2 + len(figure) <= width:
      lines[-1] += f", {figure}"
    else:
      lines.append(figure[:width])
  return lines


class Pending:
  """What comes after, one line each."""

  def __init__(self, texts: Callable[[], Sequence[str]], is_unicode: bool):
    """Takes where to ask what is still to come."""
    self._texts = texts
    self._mark = "·" if is_unicode else "-"

  def __rich_console__(
    self, console: rich.console.Console, options: rich.console.ConsoleOptions
  ) -> Iterator[rich.text.Text]:
    """Draws as many as there is room for."""
    texts = list(self._texts())
    room = max(min(_MOST_PENDING, console.size.height - 8), 0)
    more = len(texts) - room
    for text in texts[:room]:
      line = rich.text.Text(f"{self._mark} {text}", style="dim", no_wrap=True)
      line.truncate(options.max_width, overflow="ellipsis")
      yield line
    if more > 0 and room:
      yield rich.text.Text(f"{self._mark} {more} more", style="dim")


class Screen:
  """Everything live at the same time, below the lines that stay."""

  def __init__(self, console: rich.console.Console):
    """Draws nothing yet."""
    self._console = console
    self._items: list[Any] = []
    self._live: rich.live.Live | None = None
    self._expected: dict[str, str] = {}

  @property
  def is_unicode(self) -> bool:
    """Whether more than ASCII can be shown."""
    return "utf" in (self._console.encoding or "").lower()

  def expect(self, texts: dict[str, str]) -> None:
    """Shows what is still to come; see `begin`."""
    self._expected = dict(texts)

  def begin(self, name: str) -> None:
    """Takes a name, and what was before it, from what is still to come."""
    names = list(self._expected)
    if name in names:
      for passed in names[: names.index(name) + 1]:
        del self._expected[passed]

  @contextlib.contextmanager
  def showing(self, item: Any) -> Iterator[None]:
    """Draws something until the end of the context, then wipes it."""
    self._items.append(item)
    try:
      if self._live is None:
        self._live = rich.live.Live(
          console=self._console,
          get_renderable=self._drawn,
          refresh_per_second=_FRAMES_PER_SECOND,
          transient=True,
          # Results in a file or a pipe stay there.
          redirect_stdout=sys.stdout.isatty(),
        )
        # At once: what is waited for may keep the drawing thread from running.
        self._live.start(refresh=True)
      else:
        self._live.refresh()
      yield
    finally:
      if len(self._items) == 1 and self._live is not None:
        live, self._live = self._live, None
        # It draws once more, so that the last figures are seen in a log of the terminal.
        live.stop()
      self._items.remove(item)

  def _drawn(self) -> rich.console.Group:
    pending = Pending(lambda: list(self._expected.values()), self.is_unicode)
    return rich.console.Group(*self._items, pending)
