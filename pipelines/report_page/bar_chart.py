"""Rows with a name: bars, two dots and what lies between them, stairs of sizes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Optional

from markupsafe import Markup

from pipelines.report_page import numbers, svg
from pipelines.report_page.content import Key
from pipelines.report_page.line_chart import WIDE, WIDTH, swatch

_LEFT, _RIGHT, _TOP, _BOTTOM = 140.0, 66.0, 8.0, 30.0
_LETTERS = 16
_WIDE_LEFT, _WIDE_LETTERS = 210.0, 28
_ROW = 24.0


@dataclasses.dataclass(frozen=True)
class Bar:
  """A row.

  Attributes:
    name: At the left.
    value: How long.
    text: At the bar's end.
    tip: What hovering tells.
    style: Number of its colour.
    is_marked: Whether a star stands beside its name.
  """

  name: str
  value: float
  text: str
  tip: str
  style: int = 0
  is_marked: bool = False


@dataclasses.dataclass(frozen=True)
class Change:
  """A row with a value before and one after.

  Attributes:
    name: At the left.
    before: The hollow dot.
    after: The full dot.
    tip: What hovering tells.
  """

  name: str
  before: float
  after: float
  tip: str


@dataclasses.dataclass(frozen=True)
class Stairs:
  """A row of steps, each of which begins where the last one ends.

  Attributes:
    name: At the left.
    steps: Style, size and tip of each.
    text: At the end.
  """

  name: str
  steps: tuple[tuple[int, float, str], ...]
  text: str


class _Rows:
  """Places rows, and the numbers along them."""

  def __init__(
    self, count: int, high: float, row: float, low: float = 0.0, wide: bool = False
  ):
    self.width = WIDE if wide else WIDTH
    self.left, self.right = _WIDE_LEFT if wide else _LEFT, self.width - _RIGHT
    self.letters = _WIDE_LETTERS if wide else _LETTERS
    self.row = row
    self.bottom = _TOP + count * row
    self.height = self.bottom + _BOTTOM
    self.ticks = numbers.ticks(low, high, 8 if wide else 4)

  def x(self, value: float) -> float:
    """Returns where a number is."""
    first, last = self.ticks[0], self.ticks[-1]
    share = (value - first) / ((last - first) or 1.0)
    return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

  def top(self, number: int) -> float:
    """Returns where a row begins."""
    return _TOP + number * self.row

  def grid(self, write: Callable[[float], str]) -> Markup:
    """Returns lines and numbers below."""
    parts = []
    for tick in self.ticks:
      x = self.x(tick)
      parts.append(svg.line(x, _TOP, x, self.bottom, "grid"))
      parts.append(svg.text(x, self.bottom + 18, write(tick), "middle"))
    parts.append(svg.line(self.left, _TOP, self.left, self.bottom, "axis"))
    return svg.joined(parts)

  def name(self, number: int, name: str, is_marked: bool = False) -> Markup:
    """Returns a row's name."""
    y = self.top(number) + self.row / 2 + 4
    shown = numbers.shortened(name, self.letters - 2 * is_marked)
    shown = f"★ {shown}" if is_marked else shown
    return svg.text(
      self.left - 8, y, shown, "end", "name strong" if is_marked else "name"
    )


def bars(
  title: str,
  description: str,
  rows: Sequence[Bar],
  write: Callable[[float], str],
  low: float = 0.0,
) -> Markup:
  """Returns bars below each other.

  Args:
    title: The chart's name.
    description: What it shows, for those who do not see it.
    rows: At least one.
    write: Writes a number of the axis.
    low: Where the axis begins at the latest.
  """
  frame = _Rows(len(rows), max(row.value for row in rows), _ROW, low)
  parts = [frame.grid(write)]
  for number, row in enumerate(rows):
    top, end = frame.top(number), frame.x(row.value)
    parts.append(frame.name(number, row.name, row.is_marked))
    parts.append(
      svg.box(
        frame.left,
        top + 4,
        end - frame.left,
        _ROW - 8,
        f"area k{row.style}",
        round_=2.0,
      )
    )
    parts.append(svg.text(end + 6, top + _ROW / 2 + 4, row.text, class_="value"))
    parts.append(svg.box(0, top, frame.width, _ROW, "hit", row.tip))
  return svg.picture(frame.width, frame.height, title, description, parts)


def points(
  title: str,
  description: str,
  rows: Sequence[Bar],
  write: Callable[[float], str],
  low: float,
) -> Markup:
  """Returns a dot a row: other than a bar's, its axis need not begin at 0."""
  frame = _Rows(len(rows), max(row.value for row in rows), _ROW, low)
  parts = [frame.grid(write)]
  for number, row in enumerate(rows):
    y, x = frame.top(number) + _ROW / 2, frame.x(row.value)
    parts += [
      frame.name(number, row.name),
      svg.line(frame.left, y, x, y, "stem"),
      svg.marker(row.style, x, y, 5, f"dot k{row.style}"),
      svg.text(frame.right + 8, y + 4, row.text, class_="value"),
      svg.box(0, y - _ROW / 2, frame.width, _ROW, "hit", row.tip),
    ]
  return svg.picture(frame.width, frame.height, title, description, parts)


def changes(
  title: str,
  description: str,
  rows: Sequence[Change],
  write: Callable[[float], str],
) -> Markup:
  """Returns two dots a row, the first one hollow, and a line between them."""
  high = max(max(row.before, row.after) for row in rows)
  frame = _Rows(len(rows), high, _ROW)
  parts = [frame.grid(write)]
  for number, row in enumerate(rows):
    y = frame.top(number) + _ROW / 2
    before, after = frame.x(row.before), frame.x(row.after)
    parts += [
      frame.name(number, row.name),
      svg.line(before, y, after, y, "between"),
      svg.marker(0, before, y, 6.5, "hollow k1"),
      svg.marker(0, after, y, 4, "dot k0"),
      svg.text(frame.right + 6, y + 4, write(row.after), class_="value"),
      svg.box(0, y - _ROW / 2, frame.width, _ROW, "hit", row.tip),
    ]
  return svg.picture(frame.width, frame.height, title, description, parts)


def stairs(
  title: str,
  description: str,
  rows: Sequence[Stairs],
  write: Callable[[float], str],
) -> Markup:
  """Returns rows of steps, each below and behind the last one: waterfalls."""
  step = 7.0
  deepest = max(len(row.steps) for row in rows)
  high = max(sum(size for _, size, _ in row.steps) for row in rows)
  frame = _Rows(len(rows), high, deepest * step + 12, wide=True)
  parts = [frame.grid(write)]
  for number, row in enumerate(rows):
    top, reached = frame.top(number) + 6, 0.0
    parts.append(frame.name(number, row.name))
    for place, (style, size, tip) in enumerate(row.steps):
      left, right = frame.x(reached), frame.x(reached + size)
      y = top + place * step
      # A part that is there is seen, however small.
      parts.append(svg.box(left, y, max(right - left, 1.5), step, f"area k{style}"))
      parts.append(svg.box(left - 3, y, right - left + 6, step, "hit", tip))
      reached += size
      if place + 1 < len(row.steps):
        parts.append(svg.line(right, y + step / 2, right, y + 1.5 * step, "between"))
    middle = frame.top(number) + frame.row / 2 + 4
    parts.append(svg.text(frame.x(reached) + 8, middle, row.text, class_="value"))
  return svg.picture(frame.width, frame.height, title, description, parts)


def area_key(name: str, style: int) -> Key:
  """Returns the legend's entry of a bar."""
  return Key(swatch(12.0, [svg.box(0, 0, 12, 12, f"area k{style}", round_=2.0)]), name)


def dot_key(name: str, style: int, is_hollow: bool, shape: Optional[int] = None) -> Key:
  """Returns the legend's entry of a dot."""
  kind = "hollow" if is_hollow else "dot"
  mark = svg.marker(style if shape is None else shape, 6, 6, 4.6, f"{kind} k{style}")
  return Key(swatch(12.0, [mark]), name)
