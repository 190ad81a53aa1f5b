"""What was exported: bytes, eligibility on ARM, memory on microcontrollers, agreement."""

from typing import Any, Optional

from pipelines.report_page import bar_chart, numbers
from pipelines.report_page.content import Block, Chart, Grid, Section, Table
from pipelines.report_page.run_record import File, RunRecord

# Colour, field of `FileSizes`, name.
PARTS = (
  (0, "weights_bytes", "weights"),
  (1, "positions_bytes", "bitmasks, indices"),
  (2, "quantisation_bytes", "quantisation data"),
  (3, "constants_bytes", "biases, other constants"),
  (4, "metadata_bytes", "metadata"),
  (5, "overhead_bytes", "graph and overhead"),
)
# Format of the file that devices train; see `Artifact`.
TRAINING = "fp32_training"
_NOT_EXPORTED = (
  "Nothing was exported yet: pipelines.export --run_dir=… --targets=android,mcu makes "
  "files of this run."
)


def sizes(run: RunRecord) -> Section:
  """Returns what the bytes of every file are spent on."""
  key, title = "sizes", "What the bytes of each file are"
  if not run.files:
    return Section(key, title, absent=_NOT_EXPORTED)
  measured = [file for file in run.files if file.sizes is not None]
  missing = [f"{file.name} {file.problem}" for file in run.files if file.sizes is None]
  absent = f"Not measured: {'; '.join(missing)}." if missing else ""
  if not measured:
    return Section(key, title, absent=absent)
  rows = [stairs(file) for file in measured]
  lead = _sizes_lead(measured)
  chart = Chart(
    "Bytes of each file, step by step",
    bar_chart.stairs("Bytes of each file, step by step", lead, rows, numbers.size),
    sizes_table([("", file) for file in measured]),
    tuple(bar_chart.area_key(name, style) for style, _, name in PARTS),
    "Steps go down in the legend's order.",
    is_wide=True,
  )
  return Section(key, title, lead.replace("less of", "less than"), (chart,), absent)


def _sizes_lead(measured: list[File]) -> str:
  told = ["Measured on the files."]
  twins = [file for file in measured if file.row["format"] != TRAINING]
  if twins:
    best = min(twins, key=lambda file: file.row["bytes"])
    told.append(
      f"The smallest is {best.name} with {numbers.size(best.row['bytes'])}"
      f", {numbers.times(best.row['bytes'], best.row['dense_bytes'])} of its dense twin."
    )
  if len(twins) < len(measured):
    told.append("What devices train is as large as its dense model with its optimiser.")
  return " ".join(told)


def sizes_table(files: list[tuple[str, File]]) -> Table:
  """Returns sizes by part; files are preceded by their run's name if it has one."""
  rows = [
    (
      f"{run}: {file.name}" if run else file.name,
      *(getattr(file.sizes, field) for _, field, _ in PARTS),
      file.row["bytes"], file.row["dense_bytes"],
    )
    for run, file in files
  ]  # fmt: skip
  names = tuple(name for _, _, name in PARTS)
  columns = ("file", *names, "bytes", "bytes of its dense twin")
  return Table("Bytes by part", columns, tuple(rows), "file_sizes")


def stairs(file: File) -> bar_chart.Stairs:
  """Returns a file's bytes, one part after another."""
  total = file.row["bytes"]
  steps = [
    (style, size, f"{file.name}\n{name}: {size:,} bytes, {numbers.percent(size / total)} of {total:,}")
    for style, field, name in PARTS
    if (size := getattr(file.sizes, field))
  ]  # fmt: skip
  return bar_chart.Stairs(
    file.name.removesuffix(".tflite"), tuple(steps), numbers.size(total)
  )


def eligible(run: RunRecord) -> Section:
  """Returns whether XNNPACK on ARM would run files sparse, and why not."""
  key, title = "eligibility", "Would ARM run it sparse?"
  asked = [file for file in run.files if file.eligible is not None]
  if not asked:
    why = _NOT_EXPORTED if not run.files else (
      "No Android file was exported, or none can be read: XNNPACK's rules are for those."
    )  # fmt: skip
    return Section(key, title, absent=why)
  rows = [_verdict(file) for file in asked]
  columns = (
    "file", "runs sparse", "1×1 weights that are zero", "1×1 arithmetic run sparse", "why not", "mend",
  )  # fmt: skip
  # An empty column only takes room.
  shown = len(columns) if any(row[-1] for row in rows) else len(columns) - 1
  table = Table(
    "XNNPACK on ARM, by file",
    columns[:shown],
    tuple(row[:shown] for row in rows),
    "eligibility",
    words=(0, 1, 4, 5),
  )  # fmt: skip
  count = sum(file.eligible is not None and file.eligible.eligible for file in asked)
  lead = (
    f"{count} of {len(asked)} files would run sparse. XNNPACK has sparse kernels for 1×1 "
    "convolutions only; elsewhere zeros make files smaller, not faster."
  )
  folded = [_operators(file) for file in asked if "sparse" in str(file.row["format"])]
  return Section(key, title, lead, (Grid(table), *folded))


def _verdict(file: File) -> tuple[str, ...]:
  report = file.eligible
  assert report is not None
  reasons = [reason for cluster in report.clusters for reason in cluster.reasons]
  stopped = [op for op in report.ops if op.stored is not None and op.reason is not None]
  reasons = list(
    dict.fromkeys([*report.errors, *reasons, *(op.reason or "" for op in stopped)])
  )
  mends = list(dict.fromkeys(op.mend for op in stopped if op.mend))
  return (
    file.name,
    "yes" if report.eligible else "no",
    numbers.percent(report.zero_fraction_1x1),
    numbers.percent(report.sparse_macs / report.macs) if report.macs else "no 1×1",
    "" if report.eligible else "; ".join(reasons[:3]),
    "" if report.eligible else "; ".join(mends[:2]),
  )


def _operators(file: File) -> Grid:
  assert file.eligible is not None
  rows = tuple(
    (
      op.index, op.type, "×".join(map(str, op.output_shapes[0])) if op.output_shapes else "–",
      op.stored or "–", numbers.percent(op.density), "sparse" if op.sparse_on_arm else "–",
      op.reason or "", op.mend or "",
    )
    for op in file.eligible.ops
  )  # fmt: skip
  table = Table(
    f"Operators of {file.name}",
    ("#", "operator", "output", "stored", "density", "on ARM", "why not", "mend"),
    rows,
    f"operators_{file.row['format']}",
    words=(1, 2, 3, 5, 6, 7),
  )
  return Grid(table, is_folded=True)


def arena(run: RunRecord) -> Section:
  """Returns what microcontrollers need in RAM and flash."""
  key, title = "arena", "Memory on microcontrollers"
  rows = [file for file in run.files if file.row.get("arena_bytes")]
  if not rows:
    why = "No microcontroller file was exported (--targets=mcu), so there is no arena to measure."
    return Section(key, title, absent=why if run.files else _NOT_EXPORTED)
  settings = run.report["run"]
  budgets = (
    ("RAM", settings.get("mcu_ram_kb")),
    ("flash", settings.get("mcu_flash_kb")),
  )
  told = [f"{kb:,} kB of {name}" for name, kb in budgets if kb]
  lead = (
    "TFLM's arena (RAM for activations and buffers; measured, with its margin) and the "
    "model in flash. Decoding costs arena: an encoded file is smaller in flash and larger "
    "in RAM."
  )
  lead += f" The board allows {' and '.join(told)}." if told else ""
  bars = []
  for file in rows:
    name = file.name.removesuffix(".tflite")
    arena_bytes, flash = file.row["arena_bytes"], file.row["bytes"]
    for style, what, value in ((0, "arena", arena_bytes), (2, "flash", flash)):
      tip = f"{file.name} ({file.row['format']})\n{what}: {value:,} bytes"
      bars.append(
        bar_chart.Bar(f"{name}, {what}", value, numbers.size(value), tip, style)
      )
  table = Table(
    "Memory on microcontrollers",
    ("file", "format", "arena bytes", "model bytes in flash"),
    tuple(
      (f.name, f.row["format"], f.row["arena_bytes"], f.row["bytes"]) for f in rows
    ),
    "arena",
    words=(0, 1),
  )
  blocks: list[Block] = [
    Chart(
      "Arena and flash",
      bar_chart.bars("Arena and flash", lead, bars, numbers.size),
      None,
      (bar_chart.area_key("arena (RAM)", 0), bar_chart.area_key("model (flash)", 2)),
    ),
    Grid(table, is_wide=False),
  ]
  blocks += _objects(rows)
  return Section(key, title, lead, tuple(blocks))


def _objects(files: list[File]) -> list[Block]:
  found = [
    (
      each["source"], each["cpu"], each["text_bytes"], each["rodata_bytes"],
      each["data_bytes"], each["bss_bytes"],
    )
    for file in files
    for each in file.row.get("firmware_objects") or ()
  ]  # fmt: skip
  columns = ("source", "CPU", "code", "constants", "data", "zeroed data")
  table = Table(
    "Exported sources, compiled (without TFLM itself), bytes", columns, tuple(found),
    "firmware_objects", words=(0, 1),
  )  # fmt: skip
  return [Grid(table)] if found else []


def parity(run: RunRecord) -> Section:
  """Returns how well each file agrees with the Keras model."""
  key, title = "parity", "Agreement with the Keras model"
  if not run.files:
    return Section(key, title, absent=_NOT_EXPORTED)
  has_arm64 = any(file.row.get("arm64") for file in run.files)
  columns = ["file", "runtime", run.quality_name, "same answers", "largest difference"]
  columns += ["on emulated ARM64"] if has_arm64 else []
  rows = []
  for file in run.files:
    row = file.row
    figure = row["accuracy"] if run.has_classes else row["auc"]
    shown = [
      file.name, row["runtime"], quality_text(run, figure),
      numbers.percent(row["argmax_agreement"], 2), numbers.figure(row["max_abs_error"], 3),
    ]  # fmt: skip
    shown += [_on_arm64(row.get("arm64"))] if has_arm64 else []
    rows.append(tuple(shown))
  table = Table(
    "Agreement with the Keras model",
    tuple(columns),
    tuple(rows),
    "parity",
    words=(0, 1),
  )
  lead = (
    "Every file was run on its own runtime over the test split. “Largest difference” is "
    "of outputs, in their own units; integer files round."
  )
  if any(file.row["format"] == TRAINING for file in run.files):
    lead += " Of the file that devices train it is of the mean loss."
  notes = [
    f"{file.name}: {file.row['note']}" for file in run.files if file.row.get("note")
  ]
  return Section(key, title, lead, (Grid(table),), " ".join(notes))


def _on_arm64(figures: Optional[dict[str, Any]]) -> str:
  if not figures:
    return "–"
  agreement = figures["argmax_agreement"]
  told = "" if agreement is None else f"{numbers.percent(agreement, 2)} same answers, "
  return f"{told}relative error {numbers.figure(figures['relative_error'], 2)}"


def quality_text(run: RunRecord, value: Optional[float]) -> str:
  """Returns an accuracy, or an AUC, as text."""
  if not numbers.is_number(value) or value is None:
    return "–"
  return numbers.percent(value, 2) if run.has_classes else f"{value:.4f}"


def recommended(run: RunRecord, target: str) -> Optional[File]:
  """Returns the file that a target's model card says to ship, if it has one."""
  for file in run.files:
    # Reports of earlier versions do not tell.
    if file.row["target"] == target and file.row.get("recommended"):
      return file
  return None


def smallest(run: RunRecord, target: str) -> Optional[File]:
  """Returns a target's smallest file."""
  of_target = [file for file in run.files if file.row["target"] == target]
  if not of_target:
    return None
  return min(of_target, key=lambda file: (file.row["bytes"], file.name))
