"""Counts in rows and columns as shades; many of either are put together."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pipelines.report_page import numbers, svg
from pipelines.report_page.content import Key
from pipelines.report_page.line_chart import WIDE, WIDTH, swatch

# 0 is nothing at all, so that the least count differs from none.
SHADES = 8
_LEFT, _TOP, _BOTTOM = 108.0, 8.0, 48.0
_LETTERS = 12
_MOST_NUMBERS = 12
_TO = " to "


@dataclasses.dataclass(frozen=True)
class Labels:
  """What a map's places are.

  Attributes:
    rows: Names of the rows.
    columns: Names of the columns.
    row_label: What rows are.
    column_label: What columns are.
  """

  rows: Sequence[str]
  columns: Sequence[str]
  row_label: str
  column_label: str


@dataclasses.dataclass(frozen=True)
class Binned:
  """A map with few enough places.

  Attributes:
    values: float64 [rows, columns], sums over what was put together.
    labels: Of what is left.
    is_binned: Whether anything was put together.
  """

  values: np.ndarray
  labels: Labels
  is_binned: bool


def binned(
  values: np.ndarray, labels: Labels, rows: int = 60, columns: int = 80
) -> Binned:
  """Puts neighbours together until there are no more than some rows and columns."""
  down, along = (
    numbers.bins(values.shape[0], rows),
    numbers.bins(values.shape[1], columns),
  )
  by_row = np.add.reduceat(values, [part.start for part in down], axis=0)
  summed = np.add.reduceat(by_row, [part.start for part in along], axis=1)
  named = dataclasses.replace(
    labels,
    rows=[_span(labels.rows, part) for part in down],
    columns=[_span(labels.columns, part) for part in along],
  )
  return Binned(summed, named, summed.shape != values.shape)


def _span(names: Sequence[str], part: range) -> str:
  first, last = names[part.start], names[part.stop - 1]
  return first if len(part) == 1 else f"{first}{_TO}{last}"


def _drawn(name: str, letters: int) -> str:
  """Returns what stands beside a row or column: of several, the first one's name."""
  return numbers.shortened(name.partition(_TO)[0], letters)


def draw(
  title: str,
  description: str,
  shown: Binned,
  by_row: bool = False,
  is_wide: bool = False,
  unit: str = "",
) -> Markup:
  """Returns the map.

  Args:
    title: Its name.
    description: What it shows, for those who do not see it.
    shown: What to draw, at least one row and column.
    by_row: Whether shades are shares of the row's sum, not of the largest value.
    is_wide: Whether it takes the whole width.
    unit: After a number, for hovering.
  """
  values, labels = shown.values, shown.labels
  width = WIDE if is_wide else WIDTH
  count_down, count_along = values.shape
  cell_width = min((width - _LEFT - 12) / count_along, 98.0)
  cell_height = min(max(min(cell_width, 360.0 / count_down), 7.0), 30.0)
  height = _TOP + count_down * cell_height + _BOTTOM
  shades = _shades(values, by_row)
  with_numbers = max(values.shape) <= _MOST_NUMBERS and cell_width >= 24
  parts = [_names(labels, cell_width, cell_height, height)]
  for row in range(count_down):
    y = _TOP + row * cell_height
    cells = [
      _cell(_LEFT + column * cell_width, y, cell_width, cell_height, column,
            float(values[row, column]), int(shades[row, column]))
      for column in range(count_along)
    ]  # fmt: skip
    parts.append(
      svg.element(
        "g", svg.joined(cells), data_row=f"{labels.row_label} {labels.rows[row]}"
      )
    )
    if with_numbers:
      parts.append(_numbers(values[row], shades[row], y, cell_width, cell_height))
  content = svg.element(
    "g", svg.joined(parts), class_="map", data_unit=unit or None,
    data_columns="\n".join(f"{labels.column_label} {name}" for name in map(_one_line, labels.columns)),
  )  # fmt: skip
  return svg.picture(width, height, title, description, [content])


def _one_line(name: str) -> str:
  return " ".join(name.split())


def _shades(values: np.ndarray, by_row: bool) -> np.ndarray:
  """Returns which shade a number has, int [rows, columns]."""
  whole = values.sum(axis=1, keepdims=True) if by_row else values.max(initial=0.0)
  shares = np.divide(values, whole, out=np.zeros(values.shape), where=whole > 0)
  shades = np.ceil(np.clip(shares, 0, 1) * SHADES)
  return np.where(values > 0, np.maximum(shades, 1), 0).astype(int)


def _cell(
  x: float, y: float, width: float, height: float, column: int, value: float, shade: int
) -> Markup:
  gap = 1.0 if width > 6 else 0.0
  n = svg.number
  return svg.element(
    "path",
    d=f"M{n(x)} {n(y)}h{n(width - gap)}v{n(height - gap)}h{n(gap - width)}z",
    class_=f"q{shade}",
    data_c=column,
    data_v=numbers.figure(value, 9),
  )


def _numbers(
  values: np.ndarray, shades: np.ndarray, y: float, width: float, height: float
) -> Markup:
  return svg.joined(
    svg.text(
      _LEFT + (column + 0.5) * width, y + height / 2 + 4, numbers.count(value), "middle",
      "in-dark" if shade > SHADES // 2 else "in-light",
    )
    for column, (value, shade) in enumerate(zip(values, shades, strict=True))
    if value
  )  # fmt: skip


def _names(labels: Labels, width: float, cell_height: float, height: float) -> Markup:
  every = max(1, int(-(-14 // cell_height)))
  parts = [
    svg.text(
      _LEFT - 8, _TOP + (row + 0.5) * cell_height + 4, _drawn(name, _LETTERS),
      "end", "name",
    )
    for row, name in enumerate(labels.rows)
    if row % every == 0
  ]  # fmt: skip
  letters = max(2, int(width / 8))
  longest = max(len(name) for name in labels.columns)
  step = max(1, int(-(-(min(longest, 12) * 8 + 6) // width)))
  parts += [
    svg.text(
      _LEFT + (column + 0.5) * width, height - _BOTTOM + 16,
      _drawn(name, max(12, letters)), "middle",
    )
    for column, name in enumerate(labels.columns)
    if column % step == 0
  ]  # fmt: skip
  middle = _LEFT + len(labels.columns) * width / 2
  parts.append(svg.text(middle, height - 8, labels.column_label, "middle", "label"))
  return svg.joined(parts)


def scale_key(low: str, high: str) -> tuple[Key, ...]:
  """Returns the legend of the shades."""
  content = [
    svg.box(14.0 * shade, 0, 13, 12, f"q{shade}") for shade in range(SHADES + 1)
  ]
  return (Key(swatch(14.0 * (SHADES + 1), content), f"{low} to {high}"),)
