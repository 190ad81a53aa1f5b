"""Under which id a phase is known elsewhere, kept in the run directory."""

import json
import pathlib
from typing import Optional

from pipelines.apps import damage, files
from pipelines.tracking import base


def _path(subject: base.Subject, tracker: str) -> pathlib.Path:
  return subject.folder / "tracking" / f"{tracker}{subject.suffix}.json"


def read(subject: base.Subject, tracker: str) -> Optional[str]:
  """Returns the id that was kept, or None."""
  try:
    found = damage.parsed(_path(subject, tracker).read_text())["id"]
  except (OSError, ValueError, KeyError, TypeError):
    return None
  return found if isinstance(found, str) else None


def keep(subject: base.Subject, tracker: str, identity: str) -> None:
  """Keeps an id for whoever continues the run."""
  text = json.dumps({"id": identity}) + "\n"
  files.write_text(_path(subject, tracker), text)
