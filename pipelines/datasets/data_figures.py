"""Pictures of a dataset and of who gets what of it, as PNG files.

The same for the same data. Colours are those of Okabe and Ito, which the colour-blind
can tell apart, with hatches where there are more classes; maps of counts grow darker
evenly.
"""

import contextlib
import io
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.colors
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from fedtiny_tff.data.examples import DatasetInfo
from pipelines.apps import files
from pipelines.datasets import data_clients, data_example_figures
from pipelines.datasets.data_clients import Assigned
from pipelines.datasets.data_example_figures import label

DRAWN_CLIENTS = 60
_DOTS_PER_INCH = 120
_COLOURS = (
  "#0072B2", "#E69F00", "#009E73", "#CC79A7",
  "#56B4E9", "#D55E00", "#F0E442", "#999999",
)  # fmt: skip
_HATCHES = ("", "////", "....")
_BAR_CLASSES = len(_COLOURS) * len(_HATCHES)
_MAP_CLASSES = 60
# Maps of more fields have no room for numbers.
_NUMBERED_CLIENTS = 20
# Counts that differ more are told apart by their logarithms.
_WIDE_RANGE = 20
_CURVE_POINTS = 1000


def write(
  folder: pathlib.Path,
  what: Assigned,
  samples: Sequence[np.ndarray],
) -> list[pathlib.Path]:
  """Draws everything.

  Args:
    folder: Where the files go.
    what: The dataset, and who gets what of it.
    samples: Examples of each of the first classes, [up to n, *shape].

  Returns:
    The files.
  """
  written = []
  for name, figure in draw(what, samples).items():
    content = io.BytesIO()
    with unknown_letters_as_boxes():
      figure.savefig(
        content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None}
      )
    written.append(folder / f"{name}.png")
    files.write_bytes(written[-1], content.getvalue())
  return written


@contextlib.contextmanager
def unknown_letters_as_boxes() -> Iterator[None]:
  """Does not warn of letters that the font lacks: boxes can be seen."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph")
    yield


def draw(
  what: Assigned, samples: Sequence[np.ndarray]
) -> dict[str, matplotlib.figure.Figure]:
  """Returns the pictures by name; arguments as in `write`."""
  info, sizes = what.info, data_clients.client_sizes(what.federation)
  drawn = drawn_clients(sizes.sum(axis=1))
  counts = data_clients.label_counts(what, drawn.tolist())
  names = [label(what.client_ids[client]) for client in drawn]
  everybody = names if len(names) == len(sizes) else []
  return {
    "label_by_client_heatmap": heat_map(counts, names, info, len(sizes)),
    "label_by_client_bars": _bars(counts, names, info, len(sizes)),
    "client_sizes": _sizes(sizes, everybody),
    "examples": data_example_figures.draw(info, samples),
  }


def drawn_clients(sizes: np.ndarray) -> np.ndarray:
  """Chooses whom to draw: everybody, or of many, some of every size.

  Args:
    sizes: Examples of each client, int [clients].

  Returns:
    int64: numbers of the clients; of many, from the smallest to the largest one.
  """
  if len(sizes) <= DRAWN_CLIENTS:
    return np.arange(len(sizes))
  places = np.linspace(0, len(sizes) - 1, DRAWN_CLIENTS).round().astype(np.int64)
  return np.argsort(sizes, kind="stable")[places]


def _title(what: str, drawn: int, clients: int) -> str:
  if drawn == clients:
    return what
  some = f"{drawn} of {clients:,} clients"
  return f"{what}\n{some}, evenly from the smallest to the largest"


def _canvas(
  width: float, height: float, title: str, across: str, up: str
) -> tuple[matplotlib.figure.Figure, Any]:
  figure = matplotlib.figure.Figure((width, height), layout="constrained")
  axes = figure.add_subplot()
  axes.set(title=title, xlabel=across, ylabel=up)
  return figure, axes


def _width(clients: int) -> float:
  return 5.0 + 0.17 * clients


def _name_clients(axes: Any, names: Sequence[str]) -> None:
  upright = len(names) > 15 or max(map(len, names)) > 3
  axes.set_xticks(
    range(len(names)), names, rotation=90 if upright else 0, fontsize="small"
  )


def _in_full(axis: Any) -> None:
  """Writes an axis's numbers out, without powers of ten."""
  axis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
  axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def heat_map(
  counts: np.ndarray, names: Sequence[str], info: DatasetInfo, clients: int
) -> matplotlib.figure.Figure:
  """Draws int [drawn clients, classes]; what is missing stays white."""
  classes = _most_frequent(counts, _MAP_CLASSES)
  title = _title("Examples by class and client; white: none", len(names), clients)
  if len(classes) < counts.shape[1]:
    title += f"\nthe {len(classes)} most frequent of {counts.shape[1]:,} classes"
  figure, axes = _canvas(
    _width(len(names)), 2.0 + 0.22 * len(classes), title, "client", "class"
  )
  shown = counts[:, classes].T
  present = np.ma.masked_equal(shown, 0)
  low, high = int(present.min()), int(present.max())
  norm = matplotlib.colors.Normalize(0, high)
  if high > _WIDE_RANGE * low:
    norm = matplotlib.colors.LogNorm(low, high)
  image = axes.imshow(present, cmap="cividis_r", norm=norm, aspect="auto")
  bar = figure.colorbar(image, label="examples", pad=0.02)
  if isinstance(norm, matplotlib.colors.LogNorm):
    bar.set_ticks(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
  else:
    bar.set_ticks(matplotlib.ticker.MaxNLocator(integer=True))
  _in_full(bar.ax.yaxis)
  _name_clients(axes, names)
  axes.set_yticks(
    range(len(classes)), [label(info.class_names[each]) for each in classes],
    fontsize="small",
  )  # fmt: skip
  if len(names) <= _NUMBERED_CLIENTS:
    for (row, column), count in np.ndenumerate(shown):
      dark = count and norm(count) > 0.5
      axes.text(
        column, row, f"{count:,}" if count else "", ha="center", va="center",
        fontsize="x-small", color="white" if dark else "black",
      )  # fmt: skip
  return figure


def _most_frequent(counts: np.ndarray, limit: int) -> np.ndarray:
  """Returns the labels that occur most, in their own order."""
  order = np.argsort(-counts.sum(axis=0), kind="stable")
  return np.sort(order[:limit])


def _bars(
  counts: np.ndarray, names: Sequence[str], info: DatasetInfo, clients: int
) -> matplotlib.figure.Figure:
  """Draws int [drawn clients, classes], bars; where sizes differ much, shares."""
  totals = counts.sum(axis=1)
  in_shares = totals.max() > _WIDE_RANGE * totals.min()
  up = "share of the client's examples, %" if in_shares else "examples"
  title = _title("Examples of each client by class", len(names), clients)
  figure, axes = _canvas(_width(len(names)) + 1.5, 5.0, title, "client", up)
  bottom = np.zeros(len(names))
  for place, (name, height) in enumerate(_stacked(counts, info)):
    hatch, colour = divmod(place, len(_COLOURS))
    scaled = 100 * height / totals if in_shares else height
    axes.bar(
      range(len(names)), scaled, bottom=bottom, label=name, width=0.85,
      color=_COLOURS[colour], hatch=_HATCHES[hatch], edgecolor="black", linewidth=0,
    )  # fmt: skip
    bottom += scaled
  _name_clients(axes, names)
  axes.margins(x=0.01)
  # Bars of no height at the top would keep the margin away.
  axes.set_ylim(0, 1.02 * bottom.max())
  handles, labels = axes.get_legend_handles_labels()
  # From the top down, as the bars are stacked.
  axes.legend(
    handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5),
    fontsize="small", frameon=False, title="class",
  )  # fmt: skip
  return figure


def _stacked(counts: np.ndarray, info: DatasetInfo) -> list[tuple[str, np.ndarray]]:
  """Returns classes and their counts, those that have no look of their own in one."""
  several = counts.shape[1] > _BAR_CLASSES
  classes = _most_frequent(counts, _BAR_CLASSES - several)
  stacked = [(label(info.class_names[each]), counts[:, each]) for each in classes]
  if several:
    rest = np.delete(counts, classes, axis=1)
    stacked.append((f"{rest.shape[1]:,} others", rest.sum(axis=1)))
  return stacked


def _sizes(sizes: np.ndarray, names: Sequence[str]) -> matplotlib.figure.Figure:
  """Draws int [clients, 2], from the largest down: a bar each, or of many a curve."""
  totals = sizes.sum(axis=1)
  order = np.argsort(-totals, kind="stable")
  title = f"Size of each of {len(sizes):,} clients"
  across = "client" if names else "client, by size"
  figure, axes = _canvas(_width(min(len(sizes), 30)), 4.5, title, across, "examples")
  if names:
    training, held_out = sizes[order].T
    places = np.arange(len(sizes))
    axes.bar(places, training, color=_COLOURS[0], label="trained on")
    axes.bar(places, held_out, bottom=training, color=_COLOURS[1], label="held out")
    _name_clients(axes, [names[client] for client in order])
    axes.margins(x=0.01)
  else:
    points = np.linspace(0, len(sizes) - 1, min(len(sizes), _CURVE_POINTS))
    places = np.unique(points.round().astype(np.int64))
    axes.step(places + 1, totals[order][places], where="mid", color=_COLOURS[0])
    axes.set_yscale("log" if totals.max() > _WIDE_RANGE * totals.min() else "linear")
    axes.grid(alpha=0.3)
    for axis in (axes.xaxis, axes.yaxis):
      if axis.get_scale() == "linear":
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
      _in_full(axis)
  median = float(np.median(totals))
  axes.axhline(median, color="black", linestyle="--", label=f"median {median:,g}")
  axes.legend(
    loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small", frameon=False
  )
  return figure
