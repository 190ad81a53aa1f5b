"""`metrics.jsonl`: one JSON object a round, for programs that follow a run.

The columns of `metrics.csv`, null where there is no figure, and `mask_change`: null, or
`{"block": B, "layers": [{"name": …, "dropped": …, "grown": …}]}`.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Optional

from pipelines.apps import files
from pipelines.tracking import base


def line(told: base.Round) -> str:
  """Returns a round as one line, with its end."""
  change = told.change and {name: told.change[name] for name in ("block", "layers")}
  return json.dumps({**base.without_blanks(told.row), "mask_change": change}) + "\n"


class JsonLines:
  """Appends rounds; the first call writes all anew, so that none is there twice."""

  def __init__(self) -> None:
    """Begins without a file."""
    self._path: Optional[pathlib.Path] = None
    self._is_begun = False

  def begin(self, subject: base.Subject) -> None:
    """Names the file."""
    self._path = subject.folder / f"metrics{subject.suffix}.jsonl"

  def tell(self, rounds: Sequence[base.Round]) -> None:
    """Adds rounds, in one write."""
    assert self._path is not None
    text = "".join(map(line, rounds))
    if not self._is_begun:
      # What a killed process left may end in the middle of a line.
      files.write_text(self._path, text)
      self._is_begun = True
      return
    with self._path.open("ab", buffering=0) as file:
      file.write(text.encode())

  def finish(self, is_done: bool) -> None:
    """Has nothing to let go of."""


def make() -> base.Tracker:
  """Returns a new tracker."""
  return JsonLines()
