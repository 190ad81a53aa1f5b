"""Fails where too few lines of the libraries were run by the tests.

Reads the JSON report of coverage (https://coverage.readthedocs.io/en/latest/cmd.html),
whose own threshold mixes lines and branches; this one is on lines, branches are shown.

Exit code: 0 when enough lines of each library were run, 1 when not, 2 without a report.
"""

import json
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

LIBRARIES = ("fedtiny_tff", "tflite_export")
LEAST_PERCENT = 90
_SHOWN = 10


class Counts(NamedTuple):
  """Lines and branches of some modules.

  Attributes:
    lines: That can be run.
    run_lines: Of these, how many were.
    branches: Ways out of the lines that have two or more.
    taken_branches: Of these, how many were taken.
  """

  lines: int
  run_lines: int
  branches: int
  taken_branches: int

  @property
  def is_enough(self) -> bool:
    """Whether the gate lets these lines pass."""
    return self.run_lines * 100 >= self.lines * LEAST_PERCENT

  def __str__(self) -> str:
    """Returns both shares, for people."""
    of_lines = _percent(self.run_lines, self.lines)
    of_branches = _percent(self.taken_branches, self.branches)
    counted = f"({self.run_lines} of {self.lines})"
    return f"lines {of_lines} {counted}, branches {of_branches}"


class Verdict(NamedTuple):
  """What a report comes to.

  Attributes:
    lines: For people.
    error: One line; empty when the gate is passed.
  """

  lines: tuple[str, ...]
  error: str


def judge(report: Mapping[str, Any]) -> Verdict:
  """Holds the lines that were run against the gate.

  Args:
    report: Of coverage, with branches, in its JSON format.

  Returns:
    What to say: the libraries, then the modules that miss most lines.
  """
  modules = {name: _counts(file["summary"]) for name, file in report["files"].items()}
  lines = []
  short = []
  for library in LIBRARIES:
    found = _sum(each for name, each in modules.items() if _library(name) == library)
    lines.append(f"{library}: {found}")
    # A library that was not traced has no lines.
    if not found.lines or not found.is_enough:
      short.append(f"{library} {_percent(found.run_lines, found.lines)}")
  lines += _least_covered(modules)
  error = (
    f"lines run by tests: {', '.join(short)}, less than {LEAST_PERCENT} %; add tests "
    "of the modules above"
  )
  return Verdict(tuple(lines), error if short else "")


def _library(path: str) -> str:
  return path.replace("\\", "/").split("/")[0]


def _counts(summary: Mapping[str, int]) -> Counts:
  return Counts(
    summary["num_statements"],
    summary["covered_lines"],
    summary["num_branches"],
    summary["covered_branches"],
  )


def _sum(counts: Iterable[Counts]) -> Counts:
  return Counts(*map(sum, zip(Counts(0, 0, 0, 0), *counts, strict=True)))


def _percent(part: int, whole: int) -> str:
  """Returns a share, rounded down: what is below the gate never looks like it."""
  return f"{part * 1000 // whole / 10:.1f} %" if whole else "none"


def _least_covered(modules: Mapping[str, Counts]) -> list[str]:
  """Lists the modules that miss most lines, equal ones by name."""
  order = sorted(
    modules, key=lambda name: (modules[name].run_lines - modules[name].lines, name)
  )
  missing = [name for name in order if modules[name].run_lines < modules[name].lines]
  return [f"  {name}: {modules[name]}" for name in missing[:_SHOWN]]


def main(arguments: list[str]) -> int:
  """Judges the report that the first argument names and returns the exit code."""
  path = pathlib.Path(arguments[0] if arguments else "build/coverage.json")
  try:
    verdict = judge(json.loads(path.read_text(encoding="utf-8")))
  except (OSError, ValueError, KeyError) as error:
    print(
      f"coverage: {path} is no report of coverage with branches ({error!r}); "
      "run `make coverage`",
      file=sys.stderr,
    )
    return 2
  print("\n".join(verdict.lines))
  if verdict.error:
    print(f"coverage: {verdict.error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
