"""SVG elements, with every text and attribute escaped, and plain axes."""

from collections.abc import Iterable, Sequence
from typing import Optional

import markupsafe
from markupsafe import Markup

# Series beyond these take the same colours with the next dash.
COLOURS = 6
DASHES = 4


def number(value: float) -> str:
  """Returns a coordinate: two decimals are finer than any screen."""
  text = f"{value:.2f}".rstrip("0").rstrip(".")
  return "0" if text == "-0" else text


def element(name: str, *children: object, **attributes: object) -> Markup:
  """Returns an element.

  Args:
    name: Its name.
    *children: Markup, or text to be escaped.
    **attributes: `_` becomes `-`, one at the end is left out; None leaves an attribute
      out, floats become coordinates.
  """
  parts = [f"<{name}"]
  for key, value in attributes.items():
    if value is None:
      continue
    text = number(value) if isinstance(value, float) else value
    parts.append(f' {key.rstrip("_").replace("_", "-")}="{markupsafe.escape(text)}"')
  inside = Markup("").join(map(markupsafe.escape, children))
  parts.append(f">{inside}</{name}>" if children else "/>")
  # Names come from this package alone; all else is escaped above.
  return Markup("".join(parts))


def joined(parts: Iterable[Markup]) -> Markup:
  """Returns pieces one after another."""
  return Markup("").join(parts)


def text(
  x: float, y: float, content: str, anchor: str = "start", class_: Optional[str] = None
) -> Markup:
  """Returns a line of text."""
  return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
  """Returns a straight line."""
  return element(
    "path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=class_
  )


def box(
  x: float,
  y: float,
  width: float,
  height: float,
  class_: str,
  tip: Optional[str] = None,
  round_: Optional[float] = None,
) -> Markup:
  """Returns a rectangle, with what hovering tells."""
  return element(
    "rect", x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_,
    data_tip=tip, rx=round_,
  )  # fmt: skip


def marker(shape: int, x: float, y: float, radius: float, class_: str) -> Markup:
  """Returns a circle, square, triangle or diamond, so that colour is not needed."""
  r, s = radius, radius * 0.9
  shapes = (
    f"M{number(x - r)} {number(y)}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
    f"M{number(x - s)} {number(y - s)}h{2 * s:g}v{2 * s:g}h{-2 * s:g}z",
    f"M{number(x)} {number(y - 1.2 * r)}l{1.1 * r:g} {2 * r:g}h{-2.2 * r:g}z",
    f"M{number(x)} {number(y - 1.3 * r)}l{1.3 * r:g} {1.3 * r:g}l{-1.3 * r:g} {1.3 * r:g}l{-1.3 * r:g} {-1.3 * r:g}z",
  )
  return element("path", d=shapes[shape % len(shapes)], class_=class_)


def series_class(style: int) -> str:
  """Returns the classes of a series' line: its colour and its dashes."""
  dash = (style + style // COLOURS) % DASHES
  return f"line k{style % COLOURS} dash{dash}"


def picture(
  width: float, height: float, title: str, description: str, content: Iterable[Markup]
) -> Markup:
  """Returns a whole picture, named and described for those who do not see it."""
  return element(
    "svg",
    joined(content),
    viewBox=f"0 0 {number(width)} {number(height)}",
    role="img",
    # A <title> would be shown as a box of its own beside the read-out.
    aria_label=f"{title}. {description}",
    preserveAspectRatio="xMidYMid meet",
    class_="picture",
    width=float(width),
    height=float(height),
  )


def polyline(points: Sequence[tuple[float, Optional[float]]], class_: str) -> Markup:
  """Returns a line through points; it is broken where a value is missing."""
  commands, is_down = [], False
  for x, y in points:
    if y is None:
      is_down = False
      continue
    commands.append(f"{'L' if is_down else 'M'}{number(x)} {number(y)}")
    is_down = True
  return element("path", d="".join(commands), class_=class_) if commands else Markup("")
