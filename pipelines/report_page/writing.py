"""Writes `report.html` of a run directory."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from fedtiny_tff.errors import InputError
from pipelines.apps import damage, files
from pipelines.report_page import comparison, rendering, run_record, single
from pipelines.report_page.content import Page
from pipelines.runs.run_directory import RunDirectory


def write(run: RunDirectory, report: Optional[Mapping[str, Any]] = None) -> None:
  """Writes a run's page beside its report.

  Args:
    run: Its directory.
    report: What its `report.json` holds; None reads it, from whomever it comes.

  Raises:
    InputError: When that is of another form.
  """
  if report is None:
    made = html([str(run.path)])
  else:
    made = rendering.render(single.page(run_record.read(run, report)))
  files.write_text(run.page, made)


def html(folders: list[str]) -> str:
  """Returns the page of a run, or of several beside each other.

  Args:
    folders: Run directories, which may come from anybody.

  Raises:
    InputError: When one holds no run, or a report of another form.
  """
  found = []
  for folder in folders:
    run = RunDirectory(folder)
    if not run.path.is_dir():
      raise InputError(f"{folder}: is no run directory; name a folder with report.json")
    with _checked(str(run.report)):
      record = run_record.read(run)
      # Whatever is wrong with one shows here, with its name.
      made: Page = single.page(record)
      if len(folders) > 1:
        comparison.page([(folder, record)])
    found.append((folder, record))
  with _checked(", ".join(folders)):
    return rendering.render(made if len(found) == 1 else comparison.page(found))


@contextlib.contextmanager
def _checked(where: str) -> Iterator[None]:
  """Turns what ends in errors into one line, as no run has written it."""
  try:
    yield
  except InputError:
    raise
  except damage.FORM as error:
    raise InputError(
      f"{where}: is not what a run writes ({type(error).__name__}: {error}); restore it"
    ) from error


def written(folders: list[str], output: Optional[str]) -> pathlib.Path:
  """Writes a page and returns where.

  Args:
    folders: Run directories.
    output: The file; None for a run's own, or `comparison.html` here for several.

  Raises:
    InputError: As `html`, or when the file cannot be written.
  """
  made = html(folders)
  path = RunDirectory(folders[0]).page
  if output or len(folders) > 1:
    path = pathlib.Path(output or "comparison.html")
  if path.is_dir() or not path.absolute().parent.is_dir():
    what = "is a folder" if path.is_dir() else "its folder does not exist"
    raise InputError(
      f"--output_file={path}: {what}; name a file in a folder that exists"
    )
  files.write_text(path, made)
  return path
