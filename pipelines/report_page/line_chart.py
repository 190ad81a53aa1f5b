"""Lines over rounds or layers, with events marked and something to hover at each place."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Optional

from markupsafe import Markup

from pipelines.report_page import numbers, svg
from pipelines.report_page.content import Key

WIDTH, WIDE, HEIGHT = 480.0, 1000.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 14.0, 14.0, 46.0
# Lines through the whole chart would hide it where there are more events.
_MOST_RULES = 60
_MOST_MARKERS = 12
_SWATCH = 30.0


@dataclasses.dataclass(frozen=True)
class Series:
  """A line.

  Attributes:
    name: For the legend.
    points: x, ascending, and y; None breaks the line.
    style: Number of its colour, dashes and marks.
  """

  name: str
  points: tuple[tuple[float, Optional[float]], ...]
  style: int


@dataclasses.dataclass(frozen=True)
class Event:
  """Something that happened at a place.

  Attributes:
    x: Where.
    tip: What hovering tells.
  """

  x: float
  tip: str


@dataclasses.dataclass(frozen=True)
class Axes:
  """What the axes are.

  Attributes:
    x_label: Below.
    y_text: Writes a number of the vertical axis.
    y_limits: What the vertical axis cannot go beyond.
    is_wide: Whether the chart takes the whole width.
  """

  x_label: str
  y_text: Callable[[float], str] = numbers.figure
  y_limits: tuple[float, float] = (-float("inf"), float("inf"))
  is_wide: bool = False


class _Frame:
  """Places numbers in the picture."""

  def __init__(self, xs: Sequence[float], ys: Sequence[float], axes: Axes):
    self.width = WIDE if axes.is_wide else WIDTH
    self.left, self.right = _LEFT, self.width - _RIGHT
    self.top, self.bottom = _TOP, HEIGHT - _BOTTOM
    self.x_low, self.x_high = min(xs), max(xs)
    low, high = min(ys, default=0.0), max(ys, default=1.0)
    self.y_ticks = [
      tick
      for tick in numbers.ticks(low, high)
      if axes.y_limits[0] <= tick <= axes.y_limits[1]
    ]
    self._low = min(self.y_ticks[0], low) if self.y_ticks else low
    self._high = max(self.y_ticks[-1], high) if self.y_ticks else high

  def x(self, value: float) -> float:
    """Returns where a place is; a single one is in the middle."""
    extent = self.x_high - self.x_low
    share = (value - self.x_low) / extent if extent else 0.5
    return self.left + share * (self.right - self.left)

  def y(self, value: float) -> float:
    """Returns how high a number is."""
    share = (value - self._low) / ((self._high - self._low) or 1.0)
    return self.bottom - share * (self.bottom - self.top)


def draw(
  title: str,
  description: str,
  series: Sequence[Series],
  axes: Axes,
  events: Sequence[Event] = (),
  tips: Sequence[tuple[float, str]] = (),
) -> Markup:
  """Returns the chart.

  Args:
    title: Its name.
    description: What it shows, for those who do not see it.
    series: At least one, with at least one point.
    axes: What the axes are.
    events: What is marked.
    tips: What hovering tells near a place, ascending.
  """
  xs = [x for each in series for x, _ in each.points] + [event.x for event in events]
  ys = [y for each in series for _, y in each.points if y is not None]
  frame = _Frame(xs, ys, axes)
  parts = [_grid(frame, axes), _marks_of_events(frame, events)]
  for each in series:
    points = [(frame.x(x), None if y is None else frame.y(y)) for x, y in each.points]
    parts.append(svg.polyline(points, svg.series_class(each.style)))
    parts.append(_markers(points, each.style))
  parts.append(_strips(frame, tips))
  parts.append(_event_tips(frame, events))
  return svg.picture(frame.width, HEIGHT, title, description, parts)


def key(name: str, style: int) -> Key:
  """Returns the legend's entry of a line."""
  middle = _SWATCH / 2
  content = [
    svg.line(1, 6, _SWATCH - 1, 6, svg.series_class(style)),
    svg.marker(style, middle, 6, 3.6, f"dot k{style % svg.COLOURS}"),
  ]
  return Key(swatch(_SWATCH, content), name)


def event_key(name: str) -> Key:
  """Returns the legend's entry of events."""
  content = [svg.line(6, 0, 6, 12, "event"), _triangle(6, 12)]
  return Key(swatch(12.0, content), name)


def swatch(width: float, content: Sequence[Markup]) -> Markup:
  """Returns a small picture for a legend."""
  return svg.element(
    "svg", svg.joined(content), viewBox=f"0 0 {svg.number(width)} 12", width=width,
    height=12.0, aria_hidden="true", class_="swatch",
  )  # fmt: skip


def _grid(frame: _Frame, axes: Axes) -> Markup:
  parts = []
  for tick in frame.y_ticks:
    y = frame.y(tick)
    parts.append(svg.line(frame.left, y, frame.right, y, "grid"))
    parts.append(svg.text(frame.left - 8, y + 4, axes.y_text(tick), "end"))
  for tick in numbers.ticks(frame.x_low, frame.x_high, 8):
    # Rounds and layers are whole.
    if frame.x_low <= tick <= frame.x_high and tick == round(tick):
      x = frame.x(tick)
      parts.append(svg.line(x, frame.bottom, x, frame.bottom + 4, "axis"))
      parts.append(svg.text(x, frame.bottom + 18, f"{tick:,.0f}", "middle"))
  parts.append(svg.line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"))
  parts.append(
    svg.text(
      (frame.left + frame.right) / 2, HEIGHT - 6, axes.x_label, "middle", "label"
    )
  )
  return svg.joined(parts)


def _triangle(x: float, bottom: float) -> Markup:
  return svg.element(
    "path", d=f"M{svg.number(x)} {svg.number(bottom - 7)}l4 7h-8z", class_="event-mark"
  )


def _marks_of_events(frame: _Frame, events: Sequence[Event]) -> Markup:
  parts = []
  for event in events:
    x = frame.x(event.x)
    if len(events) <= _MOST_RULES:
      parts.append(svg.line(x, frame.top, x, frame.bottom, "event"))
    parts.append(_triangle(x, frame.bottom))
  return svg.joined(parts)


def _event_tips(frame: _Frame, events: Sequence[Event]) -> Markup:
  return svg.joined(
    svg.box(frame.x(event.x) - 6, frame.bottom - 12, 12, 16, "hit", event.tip)
    for event in events
  )


def _markers(points: Sequence[tuple[float, Optional[float]]], style: int) -> Markup:
  """Marks some points, always lone ones, so that lines differ in more than colour."""
  known = [(x, y) for x, y in points if y is not None]
  step = max(1, -(-len(known) // _MOST_MARKERS))
  # Series begin at different places, so that their marks do not lie on one another.
  chosen = known[(style * step) // 3 % step :: step] or known
  return svg.joined(
    svg.marker(style, x, y, 3.6, f"dot k{style % svg.COLOURS}") for x, y in chosen
  )


def _strips(frame: _Frame, tips: Sequence[tuple[float, str]]) -> Markup:
  """Returns invisible areas that together cover the chart."""
  places = [frame.x(x) for x, _ in tips]
  parts = []
  for number, (place, (_, tip)) in enumerate(zip(places, tips, strict=True)):
    left = (places[number - 1] + place) / 2 if number else frame.left
    right = (places[number + 1] + place) / 2 if number + 1 < len(tips) else frame.right
    strip = svg.element(
      "rect", x=left, y=frame.top, width=max(right - left, 0.5),
      height=frame.bottom - frame.top, class_="hit", data_tip=tip, data_x=place,
    )  # fmt: skip
    parts.append(strip)
  return svg.joined(parts)
