"""The closing tables of an export: what was made, and how long it takes."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import rich.console
import rich.table

from tflite_export import latency

# What is not a file: name, figure, density, bytes and where it lies.
ModelRow = tuple[str, str, str, str, str]


def percent(value: Optional[float]) -> str:
  """Returns a share as text."""
  return "-" if value is None else f"{100 * value:.2f} %"


def decimal(value: Optional[float]) -> str:
  """Returns an area under a curve as text."""
  return "-" if value is None else f"{value:.4f}"


def show(
  title: str,
  models: Sequence[ModelRow],
  artifacts: Sequence[Mapping[str, Any]],
  has_classes: bool,
  console: rich.console.Console,
) -> None:
  """Prints a row per model and per file, and the files' latencies if there are any.

  Args:
    title: Over the table.
    models: Rows that come first.
    artifacts: Rows as in `report.json`.
    has_classes: Whether quality is an accuracy; else it is an AUC.
    console: Where to print.
  """
  table = rich.table.Table(title=title)
  headings = (
    "what", "accuracy" if has_classes else "AUC", "density", "bytes", "dense bytes", "arena",
    "file",
  )  # fmt: skip
  for heading in headings:
    is_text = heading in ("what", "file")
    table.add_column(heading, justify="left" if is_text else "right", overflow="fold")
  for name, figure, density, size, path in models:
    table.add_row(name, figure, density, size, "", "", path)
  for row in artifacts:
    arena = row["arena_bytes"]
    table.add_row(
      row["format"],
      percent(row["accuracy"]) if has_classes else decimal(row["auc"]),
      percent(row["density"]),
      f"{row['bytes']:,}",
      f"{row['dense_bytes']:,}",
      "" if arena is None else f"{arena:,}",
      row["path"],
    )
  console.print(table)
  timed = [row for row in artifacts if row.get("latency")]
  if timed:
    _show_latencies(timed, console)


def _show_latencies(
  timed: Sequence[Mapping[str, Any]], console: rich.console.Console
) -> None:
  first = timed[0]["latency"]
  table = rich.table.Table(
    title=f"one inference on this machine, {first['threads']} thread(s), "
    f"{first['runs']} runs in turn"
  )
  for heading in ("what", "median, ms", "p90, ms", "twin's median over its own"):
    table.add_column(heading, justify="left" if heading == "what" else "right")
  medians = {row["format"]: row["latency"]["median_seconds"] for row in timed}
  for row in timed:
    dense = medians.get(row["format"].replace("_sparse", "_dense"))
    is_sparse = row["format"].endswith("_sparse") and dense is not None
    ratio = f"{dense / medians[row['format']]:.2f}" if is_sparse else ""
    table.add_row(
      row["format"],
      f"{1e3 * row['latency']['median_seconds']:.3f}",
      f"{1e3 * row['latency']['p90_seconds']:.3f}",
      ratio,
    )
  console.print(table)
  if not latency.runs_sparse_here():
    console.print(
      "Warning: this machine is no ARM machine. XNNPACK runs sparse kernels on ARM only; "
      "here zeros make files smaller, not faster.",
      highlight=False,
      soft_wrap=True,
    )
