"""A benchmark's rows as a table on stdout and as JSON for the README."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table

from pipelines.apps import files

_FOLDER = pathlib.Path(__file__).parent / "results"


def path(name: str) -> pathlib.Path:
  """Returns where a benchmark's rows are kept."""
  return _FOLDER / f"{name}.json"


def publish(name: str, rows: Sequence[dict[str, Any]]) -> None:
  """Prints rows and writes them to `benchmarks/results/NAME.json`.

  Args:
    name: Name of the benchmark.
    rows: All with the same keys, plain JSON values.
  """
  load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
  table = rich.table.Table(
    title=f"{name} ({os.cpu_count()} cores, load average {load} at the end)"
  )
  for key in rows[0]:
    table.add_column(key, justify="right", overflow="fold")
  for row in rows:
    table.add_row(*(_cell(value) for value in row.values()))
  rich.console.Console(width=160).print(table)
  _FOLDER.mkdir(exist_ok=True)
  files.write_text(path(name), json.dumps(list(rows), indent=2) + "\n")


def _cell(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:,.3f}"
  return f"{value:,}" if isinstance(value, int) else str(value)
