"""Runs pytest on the files given: the main module of every Bazel `py_test`.

Slow tests run with `--test_arg=-m --test_arg=slow`, those with certain words in their
name with `--test_filter=WORDS`.
"""

import os
import pathlib
import sys
from collections.abc import Sequence

import pytest


def arguments(given: Sequence[str], words: str = "", results: str = "") -> list[str]:
  """Returns pytest's arguments.

  Args:
    given: What the target and the command line say; they come last and win.
    words: Of the names of the tests to run, as `--test_filter` has them.
    results: File for Bazel to read the results from.
  """
  found = ["-p", "no:cacheprovider", "-m", "not slow and not arm64"]
  if words:
    found += ["-k", words]
  if results:
    found.append(f"--junitxml={results}")
  return [*found, *given]


def declared(path: Sequence[str]) -> list[str]:
  """Returns the folders to import from without those that hold what is undeclared.

  Python puts the folder behind the link to this file first, and the virtual
  environment the checkout last; in both a test would find what its target lacks.

  Args:
    path: `sys.path` as Python made it for this file as the main module.
  """
  own = "tools/pytest_main.py"
  checkouts = [each for each in path if pathlib.Path(each, own).is_file()]
  return [each for each in path[1:] if each not in checkouts[1:]]


class Skips:
  """Remembers whether a file was skipped as a whole: to pytest that is "no tests"."""

  def __init__(self) -> None:
    """Starts without any."""
    self.found = False

  def pytest_collectreport(self, report: pytest.CollectReport) -> None:
    """Hears from pytest how the reading of a file went."""
    self.found |= report.skipped


def main(given: Sequence[str]) -> int:
  """Runs pytest and returns the exit code; a file without a test to run fails."""
  skips = Skips()
  words = os.environ.get("TESTBRIDGE_TEST_ONLY", "")
  results = os.environ.get("XML_OUTPUT_FILE", "")
  code = pytest.main(arguments(given, words, results), plugins=[skips])
  return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED and skips.found else int(code)


if __name__ == "__main__":
  sys.path[:] = declared(sys.path)
  sys.exit(main(sys.argv[1:]))
