"""A picture of some examples of each class: images, signals or bars of values."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.figure
import matplotlib.font_manager
import numpy as np

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.data.sources import texts

# Letters of a name that are shown, from its start and its end.
_SHOWN_LETTERS = 7, 6
# Inches of a small picture.
_IMAGE_WIDTH = 0.95
_PLOT_SIZE = (1.8, 1.3)
_IMAGE_COLUMNS = 10
_PLOT_COLUMNS = 5
_MOST_BARS = 32
_MOST_LINES = 8
_COLOURS = (
  "#0072B2", "#D55E00", "#009E73", "#CC79A7",
  "#E69F00", "#56B4E9", "#000000", "#8C6D1F",
)  # fmt: skip

Draw = Callable[[Any, np.ndarray], None]


@functools.cache
def _font() -> Any:
  return matplotlib.font_manager.get_font(
    matplotlib.font_manager.findfont("DejaVu Sans")
  )


def label(name: str) -> str:
  """Returns a name as it can stand in a picture: short, and no formula.

  Letters that the font lacks, which would all be the same box, are told by their codes.
  """
  font = _font()
  shown = "".join(
    letter if font.get_char_index(ord(letter)) else f"U+{ord(letter):X} "
    for letter in texts.one_line(name)
  ).strip()
  first, last = _SHOWN_LETTERS
  # Many names differ at their ends only.
  if len(shown) > first + last + 1:
    shown = f"{shown[:first]}…{shown[-last:]}"
  return shown.replace("$", r"\$")


def draw(info: DatasetInfo, samples: Sequence[np.ndarray]) -> matplotlib.figure.Figure:
  """Draws some examples of each class, those of a class below one another.

  Args:
    info: The dataset's facts.
    samples: Examples of each of the first classes, [up to n, *shape].
  """
  draw_one, is_image, said = _way(info, samples)
  each = max((len(examples) for examples in samples), default=1) or 1
  columns = min(len(samples), _IMAGE_COLUMNS if is_image else _PLOT_COLUMNS)
  blocks = math.ceil(len(samples) / columns)
  width, height = _image_size(info.shape) if is_image else _PLOT_SIZE
  # Room for the title, which is wider than one column.
  figure = matplotlib.figure.Figure(
    (max(width * columns, 4.5), height * each * blocks + 0.25 * blocks + 0.5),
    layout="constrained",
  )
  grid = figure.subplots(
    blocks * each, columns, squeeze=False, sharex=not is_image, sharey=not is_image
  )
  title = f"Training examples by class{said}"
  if len(samples) < info.num_classes:
    title += f"\nthe first {len(samples)} of {info.num_classes:,} classes"
  figure.suptitle(title, fontsize="medium")
  for axes in grid.flat:
    axes.set_axis_off()
  for number, examples in enumerate(samples):
    block, column = divmod(number, columns)
    top = grid[block * each, column]
    name = label(info.class_names[number])
    top.set_title(name if len(examples) else f"{name}: none", fontsize="x-small")
    for row, example in enumerate(examples):
      axes = grid[block * each + row, column]
      draw_one(axes, example)
      _frame(axes, is_image)
  lines, names = next(iter(grid.flat)).get_legend_handles_labels()
  if len(lines) > 1:
    figure.legend(
      lines, names, loc="outside lower center", ncols=len(lines), frameon=False,
      fontsize="small",
    )  # fmt: skip
  return figure


def _image_size(shape: tuple[int, ...]) -> tuple[float, float]:
  height = _IMAGE_WIDTH * shape[0] / shape[1] if len(shape) == 3 else _IMAGE_WIDTH
  return _IMAGE_WIDTH, min(max(height, 0.4), 2.5)


def _frame(axes: Any, is_image: bool) -> None:
  axes.set_axis_on()
  axes.tick_params(labelsize="xx-small", length=2)
  if is_image:
    axes.set(xticks=[], yticks=[])


def _way(info: DatasetInfo, samples: Sequence[np.ndarray]) -> tuple[Draw, bool, str]:
  """Returns how an example is drawn, whether as an image, and what is to be said."""
  shape = info.shape
  if len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) > 1:
    if info.preprocessing.extraction.of_signal:
      return _map_of(shape[1], samples), True, ": time runs to the right"
    return _image_of(info, samples), True, ""
  # A window may come as [rows, 1, channels] too, for convolutions.
  sides = [side for side in shape if side > 1]
  if len(sides) == 2 and len(shape) > 1 and shape[-1] == sides[-1]:
    if sides[1] <= _MOST_LINES:
      return _lines_of(sides[1]), False, ": a line a channel"
    return _map_of(sides[1], samples), True, ": time runs to the right, a row a channel"
  if math.prod(shape) > _MOST_BARS or (len(shape) > 1 and len(sides) == 1):
    return _lines_of(1), False, ": values in order"
  return _draw_bars, False, ": a bar a value"


def _range(samples: Sequence[np.ndarray]) -> tuple[float, float]:
  """Returns the least and the largest value, which differ."""
  values = [examples for examples in samples if examples.size]
  low = min((float(each.min()) for each in values), default=0.0)
  high = max((float(each.max()) for each in values), default=1.0)
  return low, high if high > low else low + 1.0


def _image_of(info: DatasetInfo, samples: Sequence[np.ndarray]) -> Draw:
  low, high = 0.0, 1 / info.preprocessing.scale
  if info.feature_type != "uint8":
    low, high = _range(samples)

  def draw_image(axes: Any, example: np.ndarray) -> None:
    shown = np.clip((example.astype(np.float64) - low) / (high - low), 0.0, 1.0)
    # Of one channel, matplotlib wants no axis.
    axes.imshow(shown.squeeze(), cmap="gray", vmin=0.0, vmax=1.0)

  return draw_image


def _map_of(channels: int, samples: Sequence[np.ndarray]) -> Draw:
  low, high = _range(samples)

  def draw_map(axes: Any, example: np.ndarray) -> None:
    rows = example.reshape(-1, channels).T
    axes.imshow(
      rows, cmap="cividis", vmin=low, vmax=high, aspect="auto", origin="lower"
    )

  return draw_map


def _lines_of(channels: int) -> Draw:
  def draw_lines(axes: Any, example: np.ndarray) -> None:
    values = example.reshape(-1, channels)
    for channel, colour in zip(range(channels), itertools.cycle(_COLOURS)):
      axes.plot(values[:, channel], color=colour, linewidth=0.8, label=f"{channel}")

  return draw_lines


def _draw_bars(axes: Any, example: np.ndarray) -> None:
  values = example.reshape(-1)
  axes.bar(range(len(values)), values, color=_COLOURS[0], width=0.8)
  axes.axhline(0.0, color="black", linewidth=0.5)
