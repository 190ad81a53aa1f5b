"""How to make the run again: its command, its flags, what it was made with."""

import shlex
from typing import Any

from pipelines.report_page.content import Block, Grid, Section, Table, Text
from pipelines.report_page.run_record import RunRecord


def origin(run: RunRecord) -> Section:
  """Returns the command that repeats the run, and versions."""
  blocks: list[Block] = [
    Text(
      "python -m pipelines.run --flagfile=RUN/run.flags --output_dir=OTHER",
      is_code=True,
      title="With this run's folder at RUN",
    ),
    Text(
      command(run), is_code=True, title="Without it: every flag that decides the result"
    ),
  ]
  versions = run.report.get("versions") or {}
  if versions:
    table = Table(
      "Made with", ("what", "version"), tuple((str(k), str(v)) for k, v in versions.items()),
      "versions", words=(0, 1),
    )  # fmt: skip
    blocks.append(Grid(table))
  absent = "" if versions else "Versions were not recorded in this run."
  lead = "The same command and seed give the same figures and the same bytes."
  return Section("command", "Command and versions", lead, tuple(blocks), absent)


def command(run: RunRecord) -> str:
  """Returns a command line that a shell takes, a flag a line."""
  lines = list(run.flags) or [
    _flag(name, value) for name, value in run.report["run"].items() if value is not None
  ]
  quoted = [shlex.quote(line) for line in lines if line.strip()]
  return " \\\n  ".join(["python -m pipelines.run", *quoted, "--output_dir=OTHER"])


def _flag(name: str, value: Any) -> str:
  if isinstance(value, bool):
    return f"--{name}" if value else f"--no{name}"
  text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
  return f"--{name}={text}"
