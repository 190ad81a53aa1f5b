"""Tells what a `.tflite` file is, and whether XNNPACK on phones would run it sparse."""

import json
import math
import pathlib
from typing import TYPE_CHECKING, Any, Optional

from fedtiny_tff.errors import InputError
from pipelines.apps import app, redaction
from pipelines.exports import metadata_text
from pipelines.settings.format_flag import FORMAT

if TYPE_CHECKING:
  from tflite_export.xnnpack.eligibility_report import (
    ClusterReport,
    OperatorReport,
    Report,
  )

_SUMMARY = """
Tells operator by operator whether XNNPACK on a phone's ARM would run a .tflite file
sparse, which rule fails and how to mend it; what goes wrong there although x86 runs the
file; and what the file's metadata say. The rules are those of XNNPACK's src/subgraph.c.
Of files for TensorFlow Lite Micro it tells what is stored compactly.

  python -m pipelines.inspect FILE.tflite

Any file will do; it is only read, never run. The exit code does not depend on the
verdict.
"""

_ARGUMENT = "FILE.tflite"


def _read(path: str) -> bytes:
  file = pathlib.Path(path)
  if file.exists() and not file.is_file():
    raise InputError(f"{path}: is not a file; name a .tflite file")
  return file.read_bytes()


def _strict(value: Any) -> Any:
  """Returns a value without the numbers that JSON does not have."""
  if isinstance(value, dict):
    return {str(key): _strict(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_strict(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def _functions(content: bytes) -> list[str]:
  """Names a file's functions if it has several, as the client of a federation has."""
  from tflite_export.file_format import flatbuffer_model

  model = flatbuffer_model.read_model(content)
  with flatbuffer_model.reading():
    found = [each.signatureKey.decode() for each in model.signatureDefs or []]
  if len(found) < 2:
    return []
  return [f"Functions: {', '.join(found)}; what follows is of the first alone"]


def _verdict(report: "Report") -> list[str]:
  """Returns the lines above the table."""
  lines = []
  if report.decoded_forms:
    forms = " and ".join(report.decoded_forms)
    lines = [
      f"A file for TensorFlow Lite Micro ({forms} of its operator DECODE): the verdict on "
      "XNNPACK below is about phones, which this file is not for."
    ]
  answer = "yes" if report.eligible else "no"
  lines.append(f"Eligible for sparse inference by XNNPACK on a phone's ARM: {answer}")
  if report.zero_fraction_1x1 is None:
    whose = " whose weights XNNPACK could read" if report.decoded_forms else ""
    return [*lines, f"It has no 1×1 convolutions{whose}."]
  share = report.sparse_macs / report.macs if report.macs else 0.0
  return [
    *lines,
    f"1×1 convolutions: {report.zero_fraction_1x1:.1%} of the weights are zero; "
    f"{share:.1%} of {report.macs:,} multiply-accumulates would run sparse",
  ]


def _describe(cluster: "ClusterReport") -> str:
  first, last = cluster.operators[0], cluster.operators[-1]
  verdict = "sparse" if cluster.sparse_on_arm else f"not sparse: {cluster.reasons[0]}"
  return (
    f"Cluster {cluster.number}, operators {first} to {last}: {cluster.zeros:,} of "
    f"{cluster.weights:,} weights of 1×1 convolutions are zero, "
    f"{2 * cluster.weights // 3 + 1:,} needed; {verdict}"
  )


def _reasons(ops: tuple["OperatorReport", ...]) -> list[str]:
  """Returns each reason once, with the operators it holds for and the mend."""
  found: dict[str, list[str]] = {}
  for op in ops:
    if op.reason is not None:
      mend = f" → {op.mend}" if op.mend else ""
      found.setdefault(f"{op.reason}{mend}", []).append(f"{op.index} {op.type}")
  return [f"{', '.join(names)}: {text}" for text, names in found.items()]


def _print_table(ops: tuple["OperatorReport", ...]) -> None:
  import rich.console
  import rich.table

  table = rich.table.Table(box=None)
  table.add_column("#", justify="right")
  table.add_column("operator", min_width=max((len(op.type) for op in ops), default=0))
  for heading in ("output", "type", "stored", "bytes", "density", "on ARM"):
    table.add_column(heading, justify="right")
  for op in ops:
    sparse = f"sparse by {op.block}" if (op.block or 1) > 1 else "sparse"
    table.add_row(
      str(op.index),
      op.type,
      "×".join(map(str, op.output_shapes[0])) if op.output_shapes else "-",
      op.weight_dtype or op.dtype or "-",
      op.stored or "-",
      "-" if op.weight_bytes is None else f"{op.weight_bytes:,}",
      "-" if op.density is None else f"{op.density:.1%}",
      sparse if op.sparse_on_arm else "-",
    )
  rich.console.Console().print(table)


def main(path: str) -> Optional[int]:
  """Prints the report on a file."""
  import dataclasses

  from tflite_export.metadata import model_metadata_reader
  from tflite_export.xnnpack import eligibility

  content = _read(path)
  try:
    report = eligibility.inspect(content)
    metadata = model_metadata_reader.read(content)
  except InputError as error:
    raise InputError(f"{path}: {error}") from error
  if FORMAT.value == "json":
    told = None if metadata is None else _strict(dataclasses.asdict(metadata))
    print(json.dumps(dataclasses.asdict(report) | {"metadata": told}, indent=2))
    return None
  lines = (
    _functions(content)
    + _verdict(report)
    + [f"Error: {error}" for error in report.errors]
  )
  lines += [_describe(cluster) for cluster in report.clusters]
  lines += ["No metadata."] if metadata is None else metadata_text.lines(metadata)
  print("\n".join(map(redaction.printable, lines)))
  _print_table(report.ops)
  if reasons := _reasons(report.ops):
    print("\n".join(["Not run sparse:", *map(redaction.printable, reasons)]))
  return None


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, {"Output": ["format"]}, arguments=[_ARGUMENT]))
