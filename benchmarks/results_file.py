"""A benchmark's rows as a table on stdout and as JSON for the README."""

import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import rich.console
import rich.table

from pipelines.apps import files

_FOLDER = pathlib.Path(__file__).parent / "results"
_CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
# A benchmark's own figures, written just before, are no change of what is measured.
_MEASURED = (":/", ":!/benchmarks/results", ":!/README.md", ":!/docs")

Rows = list[dict[str, Any]]


class Results(NamedTuple):
  """What a benchmark measured, where and of what.

  Attributes:
    commit: Short name of the commit; with `+` where the checkout differed from it, None
      outside of a checkout.
    processor: Its name.
    cores: That the machine has.
    load: Processes that ran or wanted to, on average over the last minute: the
      benchmark's own are among them.
    rows: All with the same keys.
  """

  commit: Optional[str]
  processor: str
  cores: int
  load: float
  rows: Rows


def path(name: str) -> pathlib.Path:
  """Returns where a benchmark's results are kept."""
  return _FOLDER / f"{name}.json"


def read(name: str) -> Results:
  """Returns the published results of a benchmark.

  Raises:
    OSError: There are none.
  """
  return Results(**json.loads(path(name).read_text(encoding="utf-8")))


def publish(name: str, rows: Sequence[dict[str, Any]]) -> None:
  """Prints rows and writes them to `benchmarks/results/NAME.json`.

  Args:
    name: Name of the benchmark.
    rows: All with the same keys, plain JSON values.
  """
  cores = os.cpu_count() or 1
  load = round(os.getloadavg()[0], 1)
  found = Results(_commit(_CHECKOUT), _processor(), cores, load, list(rows))
  table = rich.table.Table(
    title=f"{name} ({found.commit}, {cores} cores of {found.processor}, load {load})"
  )
  for key in rows[0]:
    table.add_column(key, justify="right", overflow="fold")
  for row in rows:
    table.add_row(*(_cell(value) for value in row.values()))
  rich.console.Console(width=160).print(table)
  _FOLDER.mkdir(exist_ok=True)
  files.write_text(path(name), json.dumps(found._asdict(), indent=2) + "\n")


def _commit(checkout: pathlib.Path) -> Optional[str]:
  try:
    name = _git(checkout, "rev-parse", "--short=10", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "--", *_MEASURED)
  except (OSError, subprocess.CalledProcessError):
    return None
  return f"{name}+" if changed else name


def _git(checkout: pathlib.Path, *arguments: str) -> str:
  command = ["git", "-C", str(checkout), *arguments]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return done.stdout.strip()


def _processor() -> str:
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
  except OSError:
    return platform.machine()
  names = (
    line.partition(":")[2].strip() for line in lines if line.startswith("model name")
  )
  return next(names, platform.machine())


def _cell(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:,.3f}"
  return f"{value:,}" if isinstance(value, int) else str(value)
