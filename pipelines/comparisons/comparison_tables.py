"""What came of a comparison, as CSV, JSON and a table in Markdown."""

import collections
import json
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Optional

from pipelines.apps import files
from pipelines.comparisons.comparison_cells import COLUMNS
from pipelines.runs import metrics_log

Results = Sequence[dict[str, Any]]
# Method, density, alpha.
_Group = tuple[str, float, float]


def write(folder: pathlib.Path, found: Results) -> None:
  """Writes `results.csv`, `results.json` and `results.md`.

  Args:
    folder: Where they go.
    found: What `comparison_cells.run_cell` returned, of every finished cell.
  """
  rows = [each["result"] for each in found]
  blank = [{k: "" if v is None else v for k, v in row.items()} for row in rows]
  files.write_text(folder / "results.csv", metrics_log.to_csv(COLUMNS, blank))
  document = {"results": rows, "means": means(rows)}
  files.write_text(folder / "results.json", json.dumps(document, indent=2) + "\n")
  files.write_text(folder / "results.md", markdown(rows))


def means(rows: Results) -> list[dict[str, Any]]:
  """Averages over seeds.

  Args:
    rows: Results by `COLUMNS`.

  Returns:
    One mapping per method, density and alpha: mean and standard deviation of the
    quality (sample deviation; None for one seed), means of what was paid.
  """
  grouped: dict[_Group, list[dict[str, Any]]] = collections.defaultdict(list)
  for row in rows:
    grouped[row["method"], row["density"], row["alpha"]].append(row)
  averaged = []
  for (method, density, alpha), members in grouped.items():
    entry: dict[str, Any] = {
      "method": method, "density": density, "alpha": alpha, "seeds": len(members),
    }  # fmt: skip
    for name in ("accuracy", "auc", "held_out_accuracy"):
      values = [row[name] for row in members if row[name] is not None]
      entry[name] = statistics.fmean(values) if values else None
      entry[f"{name}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
    for name in ("flops", "memory_bytes", "upload_bytes", "download_bytes", "seconds"):
      entry[name] = statistics.fmean(row[name] for row in members)
    averaged.append(entry)
  return averaged


def markdown(rows: Results) -> str:
  """Returns a table for each alpha: methods down, densities across, then the costs."""
  averaged = means(rows)
  parts = []
  for alpha in sorted({each["alpha"] for each in averaged}):
    of_alpha = [each for each in averaged if each["alpha"] == alpha]
    parts.append(
      f"### Dirichlet α = {alpha:g}\n\n{_quality(of_alpha)}\n{_costs(of_alpha)}"
    )
  return "\n".join(parts)


def _quality(averaged: Results) -> str:
  densities = sorted({each["density"] for each in averaged}, reverse=True)
  heading = [f"density {density:g}" for density in densities]
  rows = []
  for method in _methods(averaged):
    by_density = {e["density"]: e for e in averaged if e["method"] == method}
    rows.append([method, *(quality_text(by_density.get(d)) for d in densities)])
  return "Test accuracy, mean ± standard deviation over seeds:\n\n" + _table(
    ["method", *heading], rows
  )


def quality_text(entry: Optional[dict[str, Any]]) -> str:
  """Says a mean of `means` with its deviation and number of seeds."""
  if entry is None:
    return ""
  if entry["accuracy"] is None:
    return "" if entry["auc"] is None else f"AUC {entry['auc']:.3f}"
  text = f"{100 * entry['accuracy']:.2f} %"
  deviation = entry["accuracy_deviation"]
  return text if deviation is None else f"{text} ± {100 * deviation:.2f}"


def _costs(averaged: Results) -> str:
  columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
    ("method", lambda e: e["method"]),
    ("density", lambda e: f"{e['density']:g}"),
    ("FLOPs", lambda e: f"{e['flops']:.3g}"),
    ("memory, bytes", lambda e: f"{e['memory_bytes']:,.0f}"),
    ("upload, bytes", lambda e: f"{e['upload_bytes']:,.0f}"),
    ("download, bytes", lambda e: f"{e['download_bytes']:,.0f}"),
    ("seeds", lambda e: str(e["seeds"])),
  ]
  ordered = sorted(averaged, key=lambda e: -e["density"])
  rows = [[say(entry) for _, say in columns] for entry in ordered]
  return "What a mean device pays for all rounds (memory: at its peak):\n\n" + _table(
    [name for name, _ in columns], rows
  )


def _methods(averaged: Results) -> list[str]:
  return list(dict.fromkeys(each["method"] for each in averaged))


def _table(heading: list[str], rows: list[list[str]]) -> str:
  lines = [heading, ["---"] * len(heading), *rows]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)
