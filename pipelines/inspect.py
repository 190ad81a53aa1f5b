"""Tells whether XNNPACK on ARM would run a `.tflite` file sparse, and why not."""

import json
import pathlib
from typing import TYPE_CHECKING, Optional

from fedtiny_tff.errors import InputError
from pipelines import app
from pipelines.format_flag import FORMAT

if TYPE_CHECKING:
  from tflite_export.eligibility import ClusterReport, OperatorReport, Report

_SUMMARY = """
Tells operator by operator whether XNNPACK on ARM would run a .tflite file sparse, which
rule fails and how to mend it; and what goes wrong there although x86 runs the file.

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


def _verdict(report: "Report") -> list[str]:
  """Returns the lines above the table."""
  lines = [f"Eligible for sparse inference on ARM: {'yes' if report.eligible else 'no'}"]
  if report.zero_fraction_1x1 is None:
    return [*lines, "It has no 1×1 convolutions."]
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
  table.add_column("operator")
  for heading in ("output", "type", "stored", "bytes", "density", "on ARM"):
    table.add_column(heading, justify="right")
  for op in ops:
    sparse = f"sparse, by {op.block}" if op.block else "sparse"
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

  from tflite_export import eligibility

  content = _read(path)
  try:
    report = eligibility.inspect(content)
  except InputError as error:
    raise InputError(f"{path}: {error}") from error
  if FORMAT.value == "json":
    print(json.dumps(dataclasses.asdict(report), indent=2))
    return None
  lines = _verdict(report) + [f"Error: {error}" for error in report.errors]
  print("\n".join(lines + [_describe(cluster) for cluster in report.clusters]))
  _print_table(report.ops)
  if reasons := _reasons(report.ops):
    print("\n".join(["Not run sparse:", *reasons]))
  return None


if __name__ == "__main__":
  app.leave(
    app.run_app(main, _SUMMARY, {"Output": ["format"]}, arguments=[_ARGUMENT])
  )
