"""The cards on top, and what a device pays."""

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from pipelines.report_page import bar_chart, export_sections, numbers
from pipelines.report_page.content import (
  Block,
  Card,
  Cards,
  Chart,
  Grid,
  Section,
  Table,
)
from pipelines.report_page.run_record import Round, RunRecord

# Member of `cost`, label, whether it is bytes.
_COSTS = (
  ("training_flops_per_round", "FLOPs, an ordinary round", False),
  ("adjust_round_flops", "FLOPs, an example of an adjustment round", False),
  ("memory_bytes", "memory at its peak, without activations", True),
  ("activation_bytes", "activations of a batch", True),
  ("upload_bytes", "upload, an ordinary round", True),
  ("adjust_upload_bytes", "upload, an adjustment round", True),
  ("download_bytes", "download, a round", True),
  ("stored_bytes", "stored float32 model", True),
)
_PERCENT = "\N{NO-BREAK SPACE}%"
_COMPARED = (
  "training_flops_per_round",
  "memory_bytes",
  "upload_bytes",
  "download_bytes",
  "stored_bytes",
)


def summary(run: RunRecord) -> Section:
  """Returns the figures that are read first."""
  cards = (
    *_quality(run), *_densities(run), *_wire(run), *_device(run), *_files(run), *_privacy(run),
  )  # fmt: skip
  blocks: tuple[Block, ...] = (Cards(cards),)
  known = [value for value in run.quality.values() if numbers.is_number(value)]
  if run.files and known:
    blocks = (*blocks, *_by_model(run, known))
  return Section("summary", "In short", "", blocks)


def _short(path: str) -> str:
  """Returns a file's name as short as its formats allow."""
  return path.removeprefix("export/").removeprefix("android/").removesuffix(".tflite")


def _by_model(run: RunRecord, known: Sequence[float]) -> tuple[Block, ...]:
  """Returns accuracy from the dense model to each file."""
  name = run.quality_name
  rows = [
    bar_chart.Bar(
      f"{model} model" if model in ("dense", "sparse") else _short(model),
      value, export_sections.quality_text(run, value),
      f"{model}\n{name} {export_sections.quality_text(run, value)}",
      2 if model == "dense" else 0 if model == "sparse" else 1,
    )
    for model, value in run.quality.items()
    if numbers.is_number(value)
  ]  # fmt: skip
  title = f"{name[0].upper()}{name[1:]}, from the dense model to each file"
  write = numbers.percent if run.has_classes else numbers.figure
  margin = max((max(known) - min(known)) / 4, 0.005)
  table = Table(
    f"{name} by model", ("model", name), tuple((row.name, row.value) for row in rows),
    f"{name}_by_model", shown=tuple((row.name, row.text) for row in rows),
  )  # fmt: skip
  chart = Chart(
    title,
    bar_chart.points(title, f"{len(rows)} models", rows, write, max(min(known) - margin, 0.0)),
    None,
    (
      bar_chart.dot_key("dense", 2, False), bar_chart.dot_key("sparse", 0, False),
      bar_chart.dot_key("exported", 1, False),
    ),
    "The axis does not begin at 0.",
  )  # fmt: skip
  return chart, Grid(table, is_wide=False)


def _quality(run: RunRecord) -> Iterator[Card]:
  figures = run.quality
  dense, sparse = figures.get("dense"), figures.get("sparse")
  name = run.quality_name
  if numbers.is_number(dense):
    yield Card(
      f"{name}, dense",
      export_sections.quality_text(run, dense),
      "dense FedAvg, as many rounds",
      dense,
    )
  else:
    why = (
      "a private run has none"
      if run.report.get("privacy")
      else "--dense_baseline trains it too"
    )
    yield Card(f"{name}, dense", "not run", why)
  detail = ""
  if numbers.is_number(dense) and numbers.is_number(sparse):
    detail = _difference(run, sparse - dense) + " to dense"
  yield Card(
    f"{name}, sparse",
    export_sections.quality_text(run, sparse),
    detail,
    _share(sparse),
    True,
  )
  exported = [value for key, value in figures.items() if key not in ("dense", "sparse")]
  known = [value for value in exported if numbers.is_number(value)]
  if known:
    low, high = (
      export_sections.quality_text(run, value) for value in (min(known), max(known))
    )
    value = low if low == high else f"{low.removesuffix(_PERCENT)} – {high}"
    worst = _difference(run, min(known) - sparse) if numbers.is_number(sparse) else ""
    yield Card(
      f"{name}, {len(known)} files", value,
      f"{worst} to the sparse model, at worst" if worst else "", _share(min(known)),
    )  # fmt: skip


def _share(value: Optional[float]) -> Optional[float]:
  return value if numbers.is_number(value) else None


def _difference(run: RunRecord, value: float) -> str:
  if run.has_classes:
    return f"{100 * value:+.2f} points".replace("-0.00", "±0.00").replace(
      "+0.00", "±0.00"
    )
  return f"{value:+.4f}"


def _densities(run: RunRecord) -> Iterator[Card]:
  density = run.report["density"]
  yield Card(
    "density", numbers.percent(density, 2),
    f"of prunable weights; {numbers.percent(run.report.get('density_all_parameters'), 2)} of all "
    "parameters", density, True,
  )  # fmt: skip


def traffic(rows: Sequence[Round]) -> Optional[float]:
  """Returns what a client sent and received that took part in every round, bytes."""
  values = [
    value
    for row in rows
    for value in (row.bytes_up, row.bytes_down)
    if value is not None
  ]
  return sum(values) if values else None


def _wire(run: RunRecord) -> Iterator[Card]:
  cost = run.report["cost"]
  spent = traffic(run.rounds)
  if spent is None:
    yield Card("on the wire, a client", "–", "no round was run")
    return
  spent += cost["selection_download_bytes"] + cost["selection_upload_bytes"]
  dense = len(run.rounds) * (
    cost["dense"]["upload_bytes"] + cost["dense"]["download_bytes"]
  )
  yield Card(
    "on the wire, a client", numbers.size(spent),
    f"all {len(run.rounds):,} rounds and selection; dense {numbers.size(dense)} "
    f"({numbers.percent(spent / dense) if dense else '–'})", spent / dense if dense else None,
  )  # fmt: skip


def _device(run: RunRecord) -> Iterator[Card]:
  cost = run.report["cost"]
  for key, label, write in (
    ("training_flops_per_round", "FLOPs, a round", numbers.operations),
    ("memory_bytes", "memory of a device", numbers.size),
  ):
    own, dense = cost[key], cost["dense"][key]
    told = [f"{numbers.percent(own / dense)} of dense"] if dense else []
    rival = cost.get("prunefl")
    if rival and rival[key]:
      told.append(f"{numbers.percent(own / rival[key], 0)} of PruneFL")
    elif run.report["run"]["strategy"] != "prunefl":
      told.append(
        "PruneFL not recorded" if "prunefl" not in cost else "PruneFL cannot do this"
      )
    yield Card(label, write(own), ", ".join(told), own / dense if dense else None)


def _files(run: RunRecord) -> Iterator[Card]:
  for target, called in (("android", "Android"), ("mcu", "MCU")):
    shipped, label = export_sections.recommended(run, target), f"{called} file to ship"
    if shipped is None:
      shipped, label = export_sections.smallest(run, target), f"smallest {called} file"
    if shipped is not None:
      own, dense = shipped.row["bytes"], shipped.row["dense_bytes"]
      value = shipped.row["accuracy" if run.has_classes else "auc"]
      good = "" if value is None else f", {export_sections.quality_text(run, value)}"
      yield Card(
        label, numbers.size(own),
        f"{shipped.row['path']}{good}; {numbers.percent(own / dense, 0)} of its dense twin",
        own / dense,
      )  # fmt: skip


def _privacy(run: RunRecord) -> Iterator[Card]:
  private, secure = run.report.get("privacy"), run.report.get("secure_aggregation")
  if private:
    yield Card(
      "privacy, ε",
      numbers.figure(private["epsilon"], 3),
      f"at δ = {private['delta']:.1e}, whole clients",
    )
  if secure:
    extra = numbers.size(secure["extra_upload_bytes"])
    yield Card(
      "secure sums", str(secure["sums"]), f"{extra} more upload over all rounds"
    )


def cost(run: RunRecord) -> Section:
  """Returns what a device pays, beside dense FedAvg and PruneFL."""
  figures = run.report["cost"]
  rival: Optional[dict[str, Any]] = figures.get("prunefl")
  own_name = run.report["run"]["strategy"]
  names = [own_name, "dense FedAvg", *(["PruneFL"] if rival else [])]
  columns = [figures, figures["dense"], *([rival] if rival else [])]
  rows = [(label, *(each[key] for each in columns)) for key, label, _ in _COSTS]
  shown = [
    (label, *(_cell(each[key], figures["dense"][key], is_bytes) for each in columns))
    for key, label, is_bytes in _COSTS
  ]
  table = Table(
    "What one mean device pays",
    ("figure", *names),
    tuple(rows),
    "device_cost",
    shown=tuple(shown),
  )
  labels = {key: label for key, label, _ in _COSTS}
  bars = []
  for key in _COMPARED:
    dense = figures["dense"][key]
    for style, name, each in ((0, own_name, figures), (2, "PruneFL", rival)):
      if each and dense:
        share = each[key] / dense
        tip = f"{labels[key]}\n{name}: {_number(each[key], key.endswith('bytes'))}\n{numbers.percent(share)} of dense"
        title = labels[key].split(",")[0]
        bars.append(
          bar_chart.Bar(f"{title}, {name}", share, numbers.percent(share), tip, style)
        )
  lead = (
    "By the paper's conventions: two FLOPs a multiply-accumulate, training three times a "
    "forward pass, 4-byte values and indices. Wire sizes are those of the messages sent."
  )
  title = "Shares of dense FedAvg"
  legend = [bar_chart.area_key(own_name, 0)]
  legend += [bar_chart.area_key("PruneFL at the same density", 2)] if rival else []
  chart = Chart(
    title,
    bar_chart.bars(title, lead, bars, lambda value: numbers.percent(value, 0)),
    None,
    tuple(legend),
  )
  absent = (
    ""
    if rival
    else "What PruneFL would cost was not recorded in this run, or it cannot do what was asked."
  )
  blocks: tuple[Block, ...] = (Grid(table),)
  if bars:
    blocks = (chart, Grid(table, is_wide=False))
  return Section("cost", "What a device pays", lead, blocks, absent)


def _number(value: float, is_bytes: bool) -> str:
  return numbers.size(value) if is_bytes else numbers.operations(value)


def _cell(value: float, dense: float, is_bytes: bool) -> str:
  share = f" ({numbers.percent(value / dense)})" if dense and value != dense else ""
  return f"{_number(value, is_bytes)}{share}"
