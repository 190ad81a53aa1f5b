"""Columns side by side: over and under a line, and dots of which one won."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Optional

from markupsafe import Markup

from pipelines.report_page import numbers, svg
from pipelines.report_page.line_chart import HEIGHT, WIDTH

_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 14.0, 14.0, 46.0


@dataclasses.dataclass(frozen=True)
class Column:
  """Something above and something below the line.

  Attributes:
    label: Below it.
    up: How far up.
    down: How far down.
    tip: What hovering tells.
  """

  label: str
  up: float
  down: float
  tip: str


@dataclasses.dataclass(frozen=True)
class Dot:
  """A value with a number.

  Attributes:
    x: Its number.
    y: Its value; None is told but not drawn.
    tip: What hovering tells.
    is_winner: Whether it was chosen.
  """

  x: int
  y: Optional[float]
  tip: str
  is_winner: bool


def mirrored(
  title: str, description: str, columns: Sequence[Column], x_label: str
) -> Markup:
  """Returns columns over and under a line.

  Args:
    title: The chart's name.
    description: What it shows, for those who do not see it.
    columns: At least one.
    x_label: What the labels below are.
  """
  top = max([1.0, *(column.up for column in columns)])
  low = max([0.0, *(column.down for column in columns)])
  ticks = numbers.ticks(-low, top)

  def y(value: float) -> float:
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP)

  room = (WIDTH - _LEFT - _RIGHT) / len(columns)
  width = min(room * 0.7, 34.0)
  every = -(-len(columns) // 8)
  parts = _grid(ticks, y, lambda tick: numbers.count(abs(tick)), x_label)
  for number, column in enumerate(columns):
    middle = _LEFT + (number + 0.5) * room
    left = middle - width / 2
    parts.append(svg.box(left, y(column.up), width, y(0) - y(column.up), "area k2"))
    parts.append(svg.box(left, y(0), width, y(-column.down) - y(0), "area k1"))
    if number % every == 0:
      parts.append(svg.text(middle, HEIGHT - _BOTTOM + 18, column.label, "middle"))
    parts.append(
      svg.box(middle - room / 2, _TOP, room, HEIGHT - _BOTTOM - _TOP, "hit", column.tip)
    )
  parts.append(svg.line(_LEFT, y(0), WIDTH - _RIGHT, y(0), "axis"))
  return svg.picture(WIDTH, HEIGHT, title, description, parts)


def dots(title: str, description: str, values: Sequence[Dot], x_label: str) -> Markup:
  """Returns a dot per value, the winner as a star on a line."""
  known = [dot.y for dot in values if dot.y is not None] or [0.0]
  ticks = numbers.ticks(min(known), max(known))
  first, last = values[0].x, values[-1].x

  def y(value: float) -> float:
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP)

  def x(value: float) -> float:
    share = (value - first + 0.5) / (last - first + 1)
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

  parts = _grid(ticks, y, numbers.figure, x_label)
  every = -(-len(values) // 16)
  for number, dot in enumerate(values):
    if number % every == 0:
      parts.append(svg.text(x(dot.x), HEIGHT - _BOTTOM + 18, f"{dot.x:,}", "middle"))
    if dot.y is None:
      continue
    place = (x(dot.x), y(dot.y))
    parts.append(svg.line(place[0], HEIGHT - _BOTTOM, *place, "stem"))
    parts.append(svg.marker(0, *place, 5, "dot k0"))
    if dot.is_winner:
      parts[-1] = svg.text(place[0], place[1] + 7, "★", "middle", "winner")
      parts.insert(0, svg.line(_LEFT, place[1], WIDTH - _RIGHT, place[1], "event"))
  for dot in values:
    width = x(first + 1) - x(first) if last > first else WIDTH - _LEFT - _RIGHT
    parts.append(
      svg.box(
        x(dot.x) - width / 2, _TOP, width, HEIGHT - _BOTTOM - _TOP, "hit", dot.tip
      )
    )
  return svg.picture(WIDTH, HEIGHT, title, description, parts)


def _grid(
  ticks: Sequence[float],
  y: Callable[[float], float],
  write: Callable[[float], str],
  x_label: str,
) -> list[Markup]:
  parts = []
  for tick in ticks:
    parts.append(svg.line(_LEFT, y(tick), WIDTH - _RIGHT, y(tick), "grid"))
    parts.append(svg.text(_LEFT - 8, y(tick) + 4, write(tick), "end"))
  middle = (_LEFT + WIDTH - _RIGHT) / 2
  parts.append(svg.text(middle, HEIGHT - 6, x_label, "middle", "label"))
  return parts
