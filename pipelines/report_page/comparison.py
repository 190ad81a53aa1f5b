"""The page of several runs beside each other, in the form of one run's."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Optional

from pipelines.report_page import (
  bar_chart,
  export_sections,
  line_chart,
  numbers,
  summary_section,
  svg,
  training_sections,
)
from pipelines.report_page.content import Block, Chart, Grid, Page, Section, Table
from pipelines.report_page.run_record import RunRecord, layer_counts

# A run: what it is called, and what was read of it.
Named = tuple[str, RunRecord]
_FIGURES = (
  ("memory_bytes", "memory of a device", True),
  ("training_flops_per_round", "FLOPs, a round", False),
)


def page(found: Sequence[tuple[str, RunRecord]]) -> Page:
  """Returns a page of at least two runs.

  Args:
    found: Folder and content of each.
  """
  runs = list(
    zip(_names([folder for folder, _ in found]), [r for _, r in found], strict=True)
  )
  sections = (_figures, _curves, _layers, _clients, _sizes, _parity, _flags, _versions)
  datasets = list(dict.fromkeys(run.report["dataset"]["name"] for _, run in runs))
  notices: tuple[str, ...] = ()
  if len(datasets) > 1:
    notices = (
      f"These runs are on different data ({', '.join(datasets)}): their figures do not compare.",
    )
  if any(run.report.get("privacy") for _, run in runs):
    notices = (
      *notices,
      "A run here is differentially private; its curves and accuracies are measured without "
      "noise, and ε does not cover them.",
    )
  return Page(
    f"{len(runs)} runs on {datasets[0]}" if len(datasets) == 1 else f"{len(runs)} runs",
    ", ".join(name for name, _ in runs[:8]) + (" …" if len(runs) > 8 else ""),
    (),
    notices,
    tuple(section(runs) for section in sections),
  )


def _names(folders: Sequence[str]) -> list[str]:
  """Names runs by the ends of their paths that tell them apart."""
  paths = [pathlib.PurePath(pathlib.Path(folder).resolve()).parts for folder in folders]
  length = 1
  longest = max(map(len, paths))
  while len({path[-length:] for path in paths}) < len(set(paths)) and length < longest:
    length += 1
  names = ["/".join(path[-length:]) for path in paths]
  return [
    name if names.count(name) == 1 else f"{name} ({number + 1})"
    for number, name in enumerate(names)
  ]


def _figures(runs: Sequence[Named]) -> Section:
  columns = (
    "run", "method", "quality, dense", "quality, sparse", "density", "rounds", "on the wire",
    "memory of a device", "FLOPs, a round", "smallest Android", "smallest MCU",
  )  # fmt: skip
  rows = [_figures_of(name, run) for name, run in runs]
  table = Table(
    "Figures", columns, tuple(raw for raw, _ in rows), "figures", (0, 1),
    tuple(shown for _, shown in rows),
  )  # fmt: skip
  best = [(_sparse(run), name) for name, run in runs]
  known = [(value, name) for value, name in best if value is not None]
  lead = "All on their own test splits; “on the wire” is what a client sends and receives that takes part in every round."
  blocks: list[Block] = [Grid(table)]
  if known and len({run.quality_name for _, run in runs}) == 1:
    value, winner = max(known, key=lambda each: each[0])
    lead = f"{winner} is best, with {value:.4f}. {lead}"
  if known:
    blocks += _bars(
      runs, "Accuracy or AUC of the sparse model", _sparse, lambda v: f"{v:.3g}"
    )
    blocks += _bars(runs, "On the wire, a client", _wire, numbers.size)
  return Section("summary", "Figures", lead, tuple(blocks))


def _sparse(run: RunRecord) -> Optional[float]:
  value = run.quality.get("sparse")
  return value if numbers.is_number(value) else None


def _wire(run: RunRecord) -> Optional[float]:
  spent, cost = summary_section.traffic(run.rounds), run.report["cost"]
  if spent is None:
    return None
  total: float = (
    spent + cost["selection_download_bytes"] + cost["selection_upload_bytes"]
  )
  return total


def _figures_of(name: str, run: RunRecord) -> tuple[tuple[Any, ...], tuple[str, ...]]:
  """Returns a run's figures as numbers and as texts."""
  report, quality = run.report, run.quality
  files = [export_sections.smallest(run, target) for target in ("android", "mcu")]
  sizes = [None if file is None else file.row["bytes"] for file in files]
  raw = (
    name, report["run"]["strategy"], quality.get("dense"), quality.get("sparse"), report["density"],
    len(run.rounds), _wire(run), *(report["cost"][key] for key, _, _ in _FIGURES), *sizes,
  )  # fmt: skip
  shown = (
    name, str(raw[1]), export_sections.quality_text(run, raw[2]),
    export_sections.quality_text(run, raw[3]), numbers.percent(raw[4], 2), f"{raw[5]:,}",
    numbers.size(raw[6]), numbers.size(raw[7]), numbers.operations(raw[8]), *map(numbers.size, sizes),
  )  # fmt: skip
  return raw, shown


def _bars(
  runs: Sequence[Named],
  title: str,
  get: Callable[[RunRecord], Optional[float]],
  write: Callable[[float], str],
) -> list[Chart]:
  """Returns a chart of the runs of which there is a figure; none where there are none."""
  rows = [
    bar_chart.Bar(
      name, value, write(value), f"{name}\n{write(value)}", number % svg.COLOURS
    )
    for number, (name, run) in enumerate(runs)
    if (value := get(run)) is not None
  ]
  if not rows:
    return []
  table = Table(
    title, ("run", title), tuple((row.name, row.value) for row in rows), "bars"
  )
  return [Chart(title, bar_chart.bars(title, f"{len(rows)} runs", rows, write), table)]


def _curves(runs: Sequence[Named]) -> Section:
  blocks = []
  for title, attribute in (
    ("Held-out accuracy by round", "eval_accuracy"),
    ("Held-out loss by round", "eval_loss"),
    ("Training loss by round", "train_loss"),
  ):
    chart = _lines(runs, title, attribute)
    if chart is not None:
      blocks.append(chart)
  absent = "" if blocks else "None of these runs measured anything by round."
  lead = (
    "Mask adjustments are left out here; each run's own page marks them."
    if blocks
    else ""
  )
  return Section("rounds", "Training, round by round", lead, tuple(blocks), absent)


def _lines(runs: Sequence[Named], title: str, attribute: str) -> Optional[Chart]:
  series, table = [], []
  for number, (name, run) in enumerate(runs):
    rows = [row for row in run.rounds if getattr(row, attribute) is not None]
    if rows:
      drawn = training_sections.chosen_rounds(
        rows, lambda row: getattr(row, attribute), set()
      )
      points = tuple((row.number, getattr(row, attribute)) for row in drawn)
      series.append(line_chart.Series(name, points, number))
      table += [(name, row.number, getattr(row, attribute)) for row in rows]
  if not series:
    return None
  is_share = attribute.endswith("accuracy")
  write = numbers.percent if is_share else numbers.figure
  axes = line_chart.Axes(
    "round", lambda value: numbers.percent(value, 0) if is_share else numbers.figure(value),
    (0.0, 1.0 if is_share else float("inf")),
  )  # fmt: skip
  by_round: dict[float, list[str]] = {}
  for each in series:
    for x, y in each.points:
      by_round.setdefault(x, []).append(f"{each.name} {write(y)}")
  tips = [
    (x, "\n".join([f"Round {x:,.0f}", *told[:12]]))
    for x, told in sorted(by_round.items())
  ]
  return Chart(
    title,
    line_chart.draw(title, f"{len(series)} runs", series, axes, (), tips),
    Table(
      title, ("run", "round", attribute.replace("_", " ")), tuple(table), attribute
    ),
    tuple(line_chart.key(each.name, each.style) for each in series),
  )


def _layers(runs: Sequence[Named]) -> Section:
  names = list(
    dict.fromkeys(layer["name"] for _, run in runs for layer in run.report["layers"])
  )
  found: list[dict[str, float]] = []
  for _, run in runs:
    counts = layer_counts(run.report)
    found.append(
      {
        layer["name"]: after / size
        for layer, (size, _, after) in zip(run.report["layers"], counts, strict=True)
      }
    )
  rows = tuple((name, *(of_run.get(name) for of_run in found)) for name in names)
  shown = tuple(
    (str(row[0]), *(numbers.percent(value, 2) for value in row[1:])) for row in rows
  )
  columns = ("layer", *(name for name, _ in runs))
  table = Table(
    "Density of each layer in the end", columns, rows, "layers", shown=shown
  )
  return Section("layers", "Density of each layer", "", (Grid(table),))


def _clients(runs: Sequence[Named]) -> Section:
  key, title = "clients", "Accuracy by client"
  rows = []
  for name, run in runs:
    summary = run.report.get("client_accuracy")
    if summary and not run.is_hidden:
      figures = (summary["mean"], summary["percentile_10"], summary["worst"])
      rows.append((name, *figures, summary["clients"]))
  if not rows:
    return Section(
      key, title, absent="None of these runs may or can tell of single clients."
    )
  shown = tuple(
    (row[0], *map(numbers.percent, row[1:4]), f"{row[4]:,}") for row in rows
  )
  columns = ("run", "mean", "10th percentile", "worst", "clients judged")
  missing = [name for name, _ in runs if name not in {row[0] for row in rows}]
  absent = f"Not of {', '.join(missing)}: hidden, or not measured." if missing else ""
  table = Table("Accuracy by client", columns, tuple(rows), "clients", shown=shown)
  return Section(key, title, "", (Grid(table),), absent)


def _sizes(runs: Sequence[Named]) -> Section:
  key, title = "sizes", "What the bytes of the smallest files are"
  files = []
  for name, run in runs:
    for target in ("android", "mcu"):
      file = export_sections.smallest(run, target)
      if file is not None and file.sizes is not None:
        files.append((name, file))
  if not files:
    return Section(
      key, title, absent="None of these runs has exported files that can be read."
    )
  rows = [
    bar_chart.Stairs(f"{name}: {row.name}", row.steps, row.text)
    for name, file in files
    for row in (export_sections.stairs(file),)
  ]
  chart = Chart(
    "Smallest file for each target",
    bar_chart.stairs(
      "Smallest file for each target", f"{len(rows)} files", rows, numbers.size
    ),
    export_sections.sizes_table(files),
    tuple(bar_chart.area_key(name, style) for style, _, name in export_sections.PARTS),
    "Steps go down in the legend's order.",
    is_wide=True,
  )
  return Section(key, title, "", (chart,))


def _parity(runs: Sequence[Named]) -> Section:
  key, title = "parity", "Files: quality, agreement, memory"
  rows = [
    (
      name, file.name,
      export_sections.quality_text(run, file.row["accuracy" if run.has_classes else "auc"]),
      numbers.percent(file.row["argmax_agreement"], 2), numbers.size(file.row["bytes"]),
      numbers.size(file.row["arena_bytes"]),
    )
    for name, run in runs
    for file in run.files
  ]  # fmt: skip
  if not rows:
    return Section(key, title, absent="None of these runs has exported anything.")
  columns = ("run", "file", "quality", "same answers", "bytes", "arena")
  return Section(
    key, title, "", (Grid(Table("Files", columns, tuple(rows), "files", (0, 1))),)
  )


def _flags(runs: Sequence[Named]) -> Section:
  return _differences(
    "flags", "Flags that differ", [(name, run.report["run"]) for name, run in runs],
    "All flags that decide the result are the same.",
  )  # fmt: skip


def _versions(runs: Sequence[Named]) -> Section:
  return _differences(
    "versions", "Versions that differ",
    [(name, run.report.get("versions") or {}) for name, run in runs],
    "All were made with the same versions, or recorded none.",
  )  # fmt: skip


def _differences(
  key: str, title: str, found: Sequence[tuple[str, dict[str, Any]]], same: str
) -> Section:
  names = list(dict.fromkeys(name for _, values in found for name in values))
  rows = [(name, *(_value(values, name) for _, values in found)) for name in names]
  rows = [row for row in rows if len(set(row[1:])) > 1]
  if not rows:
    return Section(key, title, absent=same)
  columns = (title, *(name for name, _ in found))
  words = tuple(range(len(columns)))
  return Section(
    key, title, "", (Grid(Table(title, columns, tuple(rows), key, words)),)
  )


def _value(values: dict[str, Any], name: str) -> str:
  value = values.get(name)
  if value is None:
    return "–"
  return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
