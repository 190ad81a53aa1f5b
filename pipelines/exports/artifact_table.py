"""The closing tables of an export: what was made, and how long it takes."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import rich.box
import rich.console
import rich.table
import rich.text

from tflite_export.runtimes import latency

# What is not a file: name, figure, density, bytes and where it lies.
ModelRow = tuple[str, str, str, str, str]

# From here on there is room for paths; and for more than three columns.
_WIDE_COLUMNS = 120
_MEDIUM_COLUMNS = 70


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
  folder: str = "",
  targets: Optional[Sequence[str]] = None,
) -> None:
  """Prints a row per model and per file, latencies if there are any, and what to ship.

  Args:
    title: Over the table.
    models: Rows that come first.
    artifacts: Rows as in `report.json`.
    has_classes: Whether quality is an accuracy; else it is an AUC.
    console: Where to print.
    folder: What the files' paths are relative to.
    targets: What was exported now; of others it is only said that they are there. None
      shows all.
  """
  shown = [row for row in artifacts if targets is None or row["target"] in targets]
  _show_files(title, models, shown, has_classes, console)
  timed = [row for row in shown if row.get("latency")]
  if timed:
    _show_latencies(timed, console)
  earlier = sorted({row["target"] for row in artifacts if row not in shown})
  for line in (
    *(_to_ship(row, folder, has_classes) for row in shown if row.get("recommended")),
    *(f"Exported earlier, and not shown: {', '.join(earlier)}" for _ in earlier[:1]),
  ):
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _to_ship(row: Mapping[str, Any], folder: str, has_classes: bool) -> str:
  """Returns the line that names the file to hand over, as the model card does."""
  path = f"{folder}/{row['path']}" if folder else row["path"]
  value = row["accuracy"] if has_classes else row["auc"]
  told = ""
  if value is not None:
    told = (
      f" (accuracy {percent(value)})" if has_classes else f" (AUC {decimal(value)})"
    )
  return f"Ship: {path}{told}; model_card.md beside it says why"


def _show_files(
  title: str,
  models: Sequence[ModelRow],
  artifacts: Sequence[Mapping[str, Any]],
  has_classes: bool,
  console: rich.console.Console,
) -> None:
  quality = "accuracy" if has_classes else "AUC"
  rows = [
    {"what": name, quality: figure, "density": density, "bytes": size, "file": path}
    for name, figure, density, size, path in models
  ]
  names = _columns(console.width, quality)
  table = rich.table.Table(title=title, **_frame(console.width))
  for name in names:
    is_text = name in ("what", "file")
    table.add_column(name, justify="left" if is_text else "right", overflow="fold")
  for row in rows:
    table.add_row(*(row.get(name, "") for name in names))
  target = ""
  for artifact in artifacts:
    # Where paths are not shown, they do not tell the targets' files apart.
    if artifact["target"] != target and "file" not in names:
      target = artifact["target"]
      table.add_section()
      table.add_row(rich.text.Text(target, style="bold"))
    cells = _cells(artifact, quality, has_classes)
    table.add_row(*(cells[name] for name in names))
  console.print(table)


def _columns(width: int, quality: str) -> tuple[str, ...]:
  """Returns what there is room for, the most telling first."""
  if width >= _WIDE_COLUMNS:
    return (
      "what", quality, "density", "bytes", "dense bytes", "of dense", "arena", "file",
    )  # fmt: skip
  if width >= _MEDIUM_COLUMNS:
    return ("what", quality, "density", "bytes", "of dense", "arena")
  return ("what", quality, "bytes")


def _frame(width: int) -> dict[str, Any]:
  """Returns lines and margins that leave the cells whole."""
  if width >= _WIDE_COLUMNS:
    return {"box": rich.box.HEAVY_HEAD}
  if width >= _MEDIUM_COLUMNS:
    return {"box": rich.box.SIMPLE_HEAD}
  return {"box": None, "pad_edge": False, "padding": (0, 1, 0, 0)}


def _cells(row: Mapping[str, Any], quality: str, has_classes: bool) -> dict[str, str]:
  """Returns what is shown of a file, by column."""
  arena, has_twin = row["arena_bytes"], row["format"] != "fp32_training"
  return {
    "what": row["format"],
    quality: percent(row["accuracy"]) if has_classes else decimal(row["auc"]),
    "density": percent(row["density"]),
    "bytes": f"{row['bytes']:,}",
    "dense bytes": f"{row['dense_bytes']:,}" if has_twin else "",
    "of dense": f"{100 * row['bytes'] / row['dense_bytes']:.1f} %" if has_twin else "",
    "arena": "" if arena is None else f"{arena:,}",
    "file": row["path"],
  }


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
