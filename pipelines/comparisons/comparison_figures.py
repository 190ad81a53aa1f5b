"""Pictures of a comparison, as PNG files that are the same for the same results.

Methods keep their colour, marker and line in every picture; colours are those of Okabe
and Ito, which the colour-blind can tell apart.
"""

import collections
import io
import itertools
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.figure

from pipelines.apps import files
from pipelines.comparisons import comparison_tables

Results = Sequence[dict[str, Any]]

_COLOURS = (
  "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F",
)  # fmt: skip
_MARKERS = "osD^vP*X"
_LINES = ("-", "--", ":")
# How far markers move on with the next kind of line.
_NEXT_LINE = 3
_SIZE_INCHES = (8.0, 5.0)
_DOTS_PER_INCH = 120
_COSTS = {
  "flops": "FLOPs of a device over all rounds",
  "memory_bytes": "peak memory of a device, bytes (without activations)",
  "upload_bytes": "bytes a device sends over all rounds",
}


class _Styles:
  """How each method is drawn."""

  def __init__(self, methods: Sequence[str]):
    looks = itertools.product(range(len(_LINES)), range(len(_COLOURS)))
    self._by_method = dict(zip(methods, itertools.cycle(looks)))

  def of(self, method: str) -> dict[str, Any]:
    line_number, number = self._by_method[method]
    # A single point shows no line: its colour and marker together are the method's own.
    marker = _MARKERS[(number + _NEXT_LINE * line_number) % len(_MARKERS)]
    line, colour = _LINES[line_number], _COLOURS[number]
    return {
      "label": method, "color": colour, "marker": marker, "linestyle": line,
      "markersize": 5, "linewidth": 1.5,
    }  # fmt: skip


def write(folder: pathlib.Path, found: Results) -> None:
  """Draws what the results allow.

  Args:
    folder: Where the files go.
    found: What `comparison_cells.run_cell` returned, of every finished cell.
  """
  for name, figure in draw(found).items():
    content = io.BytesIO()
    figure.savefig(
      content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None}
    )
    files.write_bytes(folder / f"{name}.png", content.getvalue())


def draw(found: Results) -> dict[str, matplotlib.figure.Figure]:
  """Returns the pictures by name.

  Those that show one split take the alpha that most cells have, the largest of several.
  """
  averaged = comparison_tables.means([each["result"] for each in found])
  averaged = [each for each in averaged if each["accuracy"] is not None]
  if not averaged:
    return {}
  styles = _Styles(list(dict.fromkeys(each["method"] for each in averaged)))
  counted = collections.Counter(each["result"]["alpha"] for each in found)
  alpha = max(counted, key=lambda each: (counted[each], each))
  of_alpha = [each for each in averaged if each["alpha"] == alpha]
  cells = [each for each in found if each["result"]["alpha"] == alpha]
  figures = {"accuracy_density": _by_density(of_alpha, styles)}
  for cost, label in _COSTS.items():
    name = f"accuracy_{cost.removesuffix('_bytes')}"
    figures[name] = _by_cost(of_alpha, styles, cost, label)
  for density in sorted({each["density"] for each in of_alpha if each["density"] < 1}):
    figures[f"accuracy_rounds_{density:g}"] = _by_round(cells, styles, density)
    figures[f"layer_densities_{density:g}"] = _by_layer(cells, styles, density)
  if of_several := _of_several_alphas(averaged):
    figures["accuracy_alpha"] = _by_alpha(of_several, styles)
  return figures


def _canvas(title: str, across: str, up: str) -> tuple[matplotlib.figure.Figure, Any]:
  figure = matplotlib.figure.Figure(_SIZE_INCHES, layout="constrained")
  axes = figure.add_subplot()
  axes.set(title=title, xlabel=across, ylabel=up)
  axes.grid(alpha=0.3)
  return figure, axes


def _legend(axes: Any) -> None:
  handles, labels = axes.get_legend_handles_labels()
  # One entry a method, however many lines it has.
  unique = dict(zip(labels, handles, strict=True))
  axes.legend(
    unique.values(), unique.keys(), loc="center left", bbox_to_anchor=(1.01, 0.5),
    fontsize="small", frameon=False, handlelength=3.5,
  )  # fmt: skip


def _percent(entry: dict[str, Any]) -> tuple[float, float]:
  return 100 * entry["accuracy"], 100 * (entry["accuracy_deviation"] or 0.0)


def _along(
  averaged: Results, styles: _Styles, axes: Any, key: Callable[[dict], float]
) -> None:
  """Draws a line a method with its deviations; a level where there is one point only."""
  for method in dict.fromkeys(each["method"] for each in averaged):
    entries = sorted((e for e in averaged if e["method"] == method), key=key)
    look = styles.of(method)
    if method == "fedavg" and len({key(e) for e in entries}) == 1:
      axes.axhline(
        _percent(entries[0])[0], color=look["color"], linestyle="--", label=method
      )
      continue
    values, deviations = zip(*map(_percent, entries), strict=True)
    axes.errorbar([key(e) for e in entries], values, deviations, capsize=3, **look)


def _by_density(averaged: Results, styles: _Styles) -> matplotlib.figure.Figure:
  figure, axes = _canvas(
    "Accuracy against density", "density of the prunable weights", "test accuracy, %"
  )
  axes.set_xscale("log")
  _along(averaged, styles, axes, lambda e: e["density"])
  _ticks(axes, {e["density"] for e in averaged if e["density"] < 1})
  _legend(axes)
  return figure


def _of_several_alphas(averaged: Results) -> list[dict[str, Any]]:
  """Returns the methods, at the densities, that were run with more than one alpha."""
  alphas = collections.defaultdict(set)
  for each in averaged:
    alphas[each["density"], each["method"]].add(each["alpha"])
  return [e for e in averaged if len(alphas[e["density"], e["method"]]) > 1]


def _by_alpha(shown: Results, styles: _Styles) -> matplotlib.figure.Figure:
  several = {each["density"] for each in shown}
  told = ", ".join(f"{density:g}" for density in sorted(several))
  figure, axes = _canvas(
    f"Accuracy against heterogeneity, density {told}",
    "α of the Dirichlet split (small is uneven)",
    "test accuracy, %",
  )
  axes.set_xscale("log")
  for density in sorted(several):
    _along(
      [e for e in shown if e["density"] == density], styles, axes, lambda e: e["alpha"]
    )
  _ticks(axes, {e["alpha"] for e in shown})
  _legend(axes)
  return figure


def _ticks(axes: Any, values: set[float]) -> None:
  """Labels exactly the values there are."""
  found = sorted(values)
  axes.set_xticks(found, [f"{value:g}" for value in found])
  axes.set_xticks([], minor=True)


def _by_cost(
  averaged: Results, styles: _Styles, cost: str, label: str
) -> matplotlib.figure.Figure:
  figure, axes = _canvas("Accuracy against cost", label, "test accuracy, %")
  axes.set_xscale("log")
  for method in dict.fromkeys(each["method"] for each in averaged):
    entries = sorted(
      (e for e in averaged if e["method"] == method), key=lambda e: e[cost]
    )
    across = [e[cost] for e in entries]
    axes.plot(across, [_percent(e)[0] for e in entries], **styles.of(method))
  _legend(axes)
  return figure


def _by_round(
  cells: Results, styles: _Styles, density: float
) -> matplotlib.figure.Figure:
  figure, axes = _canvas(
    f"Accuracy against rounds, density {density:g}",
    "round",
    "accuracy on the clients' held-out parts, %",
  )
  for method, members in _at(cells, density).items():
    by_round: dict[int, list[float]] = collections.defaultdict(list)
    for cell in members:
      for point in cell["curve"]:
        if point["eval_accuracy"] is not None:
          by_round[point["round"]].append(100 * point["eval_accuracy"])
    rounds = sorted(by_round)
    look = styles.of(method) | {"markersize": 3}
    axes.plot(rounds, [statistics.fmean(by_round[r]) for r in rounds], **look)
  _legend(axes)
  return figure


def _by_layer(
  cells: Results, styles: _Styles, density: float
) -> matplotlib.figure.Figure:
  figure, axes = _canvas(
    f"Density of each layer, mean over seeds, density {density:g}",
    "prunable layer, input to output",
    "density",
  )
  axes.set_yscale("log")
  names: list[str] = []
  for method, members in _at(cells, density).items():
    if members[0]["result"]["density"] == 1:
      continue
    names = names or [layer["name"] for layer in members[0]["layers"]]
    columns = zip(*([x["density"] for x in c["layers"]] for c in members), strict=True)
    axes.plot([statistics.fmean(column) for column in columns], **styles.of(method))
  axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize="x-small")
  _legend(axes)
  return figure


def _at(cells: Results, density: float) -> dict[str, list[dict[str, Any]]]:
  """Groups the cells of a density, and the dense ones, by method."""
  found: dict[str, list[dict[str, Any]]] = {}
  for cell in cells:
    if cell["result"]["density"] in (density, 1):
      found.setdefault(cell["result"]["method"], []).append(cell)
  return found
