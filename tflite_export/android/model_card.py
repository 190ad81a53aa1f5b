"""`model_card.md`: what a mobile team must know about the files it is handed.

After "Model Cards for Model Reporting" (M. Mitchell et al., 2019, arXiv 1810.03993),
with what is special about sparse files. Bytes in, text out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from tflite_export.android import recommendation
from tflite_export.arm64.arm64_verify import Arm64Figures
from tflite_export.artifacts import Artifact, ExportBundle, ExportRequest
from tflite_export.conversion import output_meaning
from tflite_export.runtimes import latency
from tflite_export.texts import preprocessing_texts
from tflite_export.texts.labels import clean_labels
from tflite_export.texts.markdown_text import escaped
from tflite_export.xnnpack.eligibility_report import Report

# Nearer than that, emulated times are the same.
_SAME_WORK = 0.02


def model_card(
  request: ExportRequest,
  bundle: ExportBundle,
  reports: Mapping[str, Report],
  arm64: Mapping[str, Arm64Figures],
  snippet_names: Sequence[str],
  why: str,
) -> str:
  """Writes the card of the Android files.

  Args:
    request: What was exported.
    bundle: The files, one of which is recommended.
    reports: Eligibility of each file, by path.
    arm64: Figures of each file under emulated ARM64, by path; empty where it was not
      run there.
    snippet_names: Files with code that runs the model.
    why: Why that one is recommended.
  """
  provenance = request.provenance
  chosen = next(row for row in bundle.artifacts if row.path == bundle.recommended)
  parts = [
    f"# {escaped(provenance.name)}",
    _overview(request, chosen, why),
    "## Files",
    _files(request.task.has_classes, bundle.artifacts, reports, arm64),
    _remarks(bundle, arm64),
    "\n".join(
      f"- `{_name(each.path)}`: {each.note}" for each in bundle.artifacts if each.note
    ),
    "## Training",
    *(
      f"**{escaped(heading)}.** {escaped(text)}"
      for heading, text in provenance.training.items()
    ),
    f"**Pruning.** {escaped(provenance.method)}",
    f"**Calibration of the quantised files.** {escaped(provenance.calibration)}",
    "## Preprocessing",
    preprocessing_texts.card_section(
      provenance, request.model.inputs[0].shape[1:], snippet_names, request.calibration
    ),
    "## Outputs",
    _outputs(request, snippet_names),
    f"## {'Accuracy by class' if request.task.has_classes else 'Quality'}",
    _quality(request, bundle.artifacts, chosen),
    "## Will an ARM phone use the zeros?",
    _eligibility(reports),
    "## Running it",
    _usage(chosen, bundle.artifacts, snippet_names),
    "## Limits",
    _limits(request),
  ]
  return "\n\n".join(part for part in parts if part) + "\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _name(path: str) -> str:
  return path.rpartition("/")[2]


def _percent(share: Optional[float]) -> str:
  return "-" if share is None else f"{100 * share:.2f} %"


def _overview(request: ExportRequest, chosen: Artifact, why: str) -> str:
  provenance = request.provenance
  shape = "×".join(str(size) for size in request.model.inputs[0].shape[1:])
  masks = request.masks.values()
  weights = sum(mask.size for mask in masks)
  density = sum(int(mask.sum()) for mask in masks) / weights if weights else 1.0
  gives = "the input again, flat"
  if request.task.has_classes:
    gives = f"one value for each of {len(request.class_names)} classes (`labels.txt`)"
  known = recommendation.shown_quality(chosen)
  figures = f"{chosen.bytes:,} bytes{', ' if known else ''}{known}"
  left = f"{_percent(density)} of its prunable weights are left."
  if density == 1:
    left = "It is not pruned: its `_sparse` files are their dense twins."
  warnings = recommendation.warnings(
    chosen, clean_labels(request.class_names), provenance.dense_quality
  )
  parts = [
    f"Takes {shape} float values, gives {gives}. {left}",
    f"Ship `{_name(chosen.path)}` ({figures}): {why}.",
    *(f"**Mind**: {escaped(warning)}." for warning in warnings),
    f"Exported by FedTiny-TFF {provenance.version}. Licence of the model: "
    f"{escaped(provenance.licence)}.",
  ]
  return "\n\n".join(parts)


def _files(
  has_classes: bool,
  artifacts: Sequence[Artifact],
  reports: Mapping[str, Report],
  arm64: Mapping[str, Arm64Figures],
) -> str:
  has_agreement = any(each.argmax_agreement is not None for each in artifacts)
  figure = "accuracy" if has_classes else "AUC"
  headings = ["file", "bytes", "dense twin", "density", figure, "largest error"]
  headings += ["same class as the model"] * has_agreement + ["sparse on ARM"]
  headings += ["on emulated ARM64"] * bool(arm64)
  rows = []
  for each in artifacts:
    auc = "-" if each.auc is None else f"{each.auc:.4f}"
    row = [
      f"`{_name(each.path)}`", f"{each.bytes:,}", f"{each.dense_bytes:,}",
      _percent(each.density), _percent(each.accuracy) if has_classes else auc,
      f"{each.max_abs_error:.2g}",
    ]  # fmt: skip
    row += [_percent(each.argmax_agreement)] * has_agreement
    row += ["yes" if reports[each.path].eligible else "no"]
    row += [_on_arm64(arm64[each.path])] if arm64 else []
    rows.append(row)
  return _table(headings, rows)


def _on_arm64(figures: Arm64Figures) -> str:
  speedup = figures.emulated_speedup
  ratio = "" if speedup is None else f", {compared_work(speedup)}"
  return f"loads, agrees{ratio}"


def compared_work(speedup: float) -> str:
  """Says how a file's work compares with its dense twin's.

  Args:
    speedup: As in `Arm64Figures.emulated_speedup`.
  """
  if abs(speedup - 1) <= _SAME_WORK:
    return "the same work as its twin"
  if speedup > 1:
    return f"{speedup:.2f}× less work than its twin"
  return f"{1 / speedup:.2f}× the work of its twin"


def _remarks(bundle: ExportBundle, arm64: Mapping[str, Arm64Figures]) -> str:
  lines = [
    f"Checked in {bundle.artifacts[0].runtime} on x86-64: each file loads, its masked weights "
    "are zero in the bytes, and a sparse file's outputs are bit-identical to its twin's, "
    "which stores the same weights dense."
  ]
  if bundle.output_range is not None:
    low, high = bundle.output_range
    lines.append(
      "The largest error is that of any output, integers converted back, against the "
      f"Keras model, whose outputs go from {low:.3g} to {high:.3g} on the same examples."
    )
  if arm64:
    first = next(iter(arm64.values()))
    lines.append(
      f"Also run in {first.runtime} on {first.samples} examples. Its times are an "
      "emulator's: a proxy for the work done, no phone's latency."
    )
  else:
    lines.append(
      "Not run on ARM: an export with `--verify_arm64` does that under emulation."
    )
  return " ".join(lines)


def _quality(
  request: ExportRequest, artifacts: Sequence[Artifact], chosen: Artifact
) -> str:
  told = f"On {escaped(request.provenance.evaluation)}."
  if request.evaluation_labels is None:
    return "Not known: there were no labels."
  if not request.task.has_classes:
    return f"{told} Area under the ROC curve of the error, anomalies being positive."
  shown = {
    each.format: each for each in artifacts if not each.format.endswith("sparse")
  }
  shown[chosen.format] = chosen
  columns = [each for each in shown.values() if each.class_accuracy is not None]
  rows = [
    [escaped(name), *(_percent((each.class_accuracy or ())[index]) for each in columns)]
    for index, name in enumerate(clean_labels(request.class_names))
  ]
  return f"{told}\n\n{_table(['class', *(each.format for each in columns)], rows)}"


def _outputs(request: ExportRequest, snippet_names: Sequence[str]) -> str:
  found = output_meaning.meaning(request)
  told = f"A file gives {output_meaning.in_words(found)}."
  if found == output_meaning.LOGITS:
    told += (
      f" For percentages, `probabilities` in {_code(snippet_names)} makes shares of 1 of "
      "them, times 100: exp(xᵢ) / Σ exp(xⱼ)."
    )
  elif found in (output_meaning.SOFTMAX, output_meaning.SIGMOID):
    told += " Times 100, they are percentages."
  if request.task.has_classes:
    told += " How far such shares can be trusted was not calibrated."
  return told


def _code(names: Sequence[str]) -> str:
  return " and ".join(f"`{name}`" for name in names)


def _eligibility(reports: Mapping[str, Report]) -> str:
  lines = []
  for path, report in reports.items():
    if not path.endswith("_sparse.tflite"):
      continue
    verdict = (
      "run sparse"
      if report.eligible
      else f"not run sparse: {escaped(_why_not(report))}"
    )
    lines.append(f"- `{_name(path)}`: {verdict}")
    lines += [f"  - **Error**: {escaped(error)}" for error in report.errors]
  lines.append("\n`python -m pipelines.inspect FILE` tells it operator by operator.")
  return "\n".join(lines)


def _why_not(report: Report) -> str:
  """Returns the first rule that fails."""
  if report.zero_fraction_1x1 is None:
    return "it has no 1×1 convolutions; here zeros mean size, not speed"
  reasons = [reason for cluster in report.clusters for reason in cluster.reasons]
  reasons += [op.reason for op in report.ops if op.macs and op.reason is not None]
  return reasons[0] if reasons else "too few of its 1×1 convolutions are"


def _usage(
  chosen: Artifact, artifacts: Sequence[Artifact], snippet_names: Sequence[str]
) -> str:
  twin = f"{chosen.format.removesuffix('_sparse').removesuffix('_dense')}_dense"
  paths = {each.format: _name(each.path) for each in artifacts}
  files = list(dict.fromkeys([_name(chosen.path), paths.get(twin, "")]))
  named = [name for name in files if name]
  lines = [
    f"{_code(snippet_names)} run any of these files "
    "with the LiteRT interpreter. On a phone, compare with TensorFlow's benchmark "
    "tool (`android_aarch64_benchmark_model`):",
    "",
    "```",
    f"adb push {' '.join(named)} /data/local/tmp/",
  ]
  lines += [
    "adb shell /data/local/tmp/benchmark_model "
    f"--graph=/data/local/tmp/{name} --num_threads=1 --use_xnnpack=true "
    "--warmup_runs=20 --num_runs=200"
    for name in named
  ]
  return "\n".join([*lines, "```"])


def _limits(request: ExportRequest) -> str:
  lines = [
    "- The files take one example at a time; another batch size needs another export.",
    "- Integer files saturate on inputs beyond what they were calibrated with.",
  ]
  if request.task.has_classes:
    lines.append(
      "- Every input gets one of the classes, also one that shows none of them."
    )
  if not latency.runs_sparse_here():
    lines.append("- On x86, emulators included, sparse files are smaller, not faster.")
  return "\n".join(lines)
