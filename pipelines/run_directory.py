"""The layout of a run directory, and whose configuration it holds."""

import difflib
import json
import pathlib
import shlex
from typing import Any

from fedtiny_tff.errors import InputError
from pipelines import config as config_lib
from pipelines import files


class RunDirectory:
  """Paths of a run; opening it checks that it belongs to the configuration."""

  def __init__(self, path: str | pathlib.Path):
    """Names the paths; nothing is made."""
    self.path = pathlib.Path(path)
    self.flags = self.path / "run.flags"
    self.data = self.path / "data"
    self.state = self.path / "state"
    self.model = self.path / "model"
    self.export = self.path / "export"
    self.metrics = self.path / "metrics.csv"
    self.selection = self.path / "selection.csv"
    self.tensorboard = self.path / "tensorboard"
    self.report = self.path / "report.json"

  def open(self, config: config_lib.RunConfig) -> None:
    """Makes the directory, or continues one of the same configuration.

    Raises:
      InputError: When the folder cannot be written, holds something else, or
        belongs to a run of another configuration.
    """
    text = config_lib.flagfile_text(config)
    if self.path.exists() and not self.path.is_dir():
      raise InputError(f"--output_dir={self.path}: is a file; name a folder")
    files.make_folder(self.path, "output_dir")
    if not self.flags.exists():
      if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
        raise InputError(
          f"--output_dir={self.path}: is not empty and holds no run; name a new folder"
        )
      files.write_text(self.flags, text)
      return
    existing = self.flags.read_text()
    if existing != text:
      changed = [
        line
        for line in difflib.ndiff(existing.splitlines(), text.splitlines())
        if line[:1] in "+-"
      ]
      raise InputError(
        f"--output_dir={self.path}: holds a run of another configuration "
        f"({', '.join(changed)}); use another folder, or repeat it with "
        f"--flagfile={shlex.quote(str(self.flags))}"
      )
    files.remove_leftovers(self.path)

  def read_report(self) -> dict[str, Any]:
    """Reads `report.json`.

    Raises:
      InputError: When it is missing or not JSON.
    """
    try:
      return json.loads(self.report.read_text())
    except (OSError, ValueError) as error:
      raise InputError(f"{self.report}: cannot be read ({error})") from error
