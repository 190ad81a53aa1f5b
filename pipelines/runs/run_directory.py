"""The layout of a run directory, whose configuration it holds, and who works in it."""

import difflib
import pathlib
import shlex
from typing import Any, Optional

from fedtiny_tff.errors import InputError
from pipelines.apps import damage, files, folder_lock
from pipelines.settings import config as config_lib
from pipelines.settings import run_flags

_REPORT_PARTS = {
  "run", "task", "dataset", "density", "layers", "accuracy", "auc", "auc_by_model",
  "selection", "events", "artifacts", "cost", "seconds",
}  # fmt: skip


class RunDirectory:
  """Paths of a run; `check` and `claim` hold it to one configuration.

  Used as a context, it lets other processes in again at the end.
  """

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
    self.profile = self.path / "profile"
    self.clients = self.path / "clients.csv"
    self.client_labels = self.path / "client_labels.csv"
    self.confusion = self.path / "confusion.csv"
    self.report = self.path / "report.json"
    self.page = self.path / "report.html"
    self._lock: Optional[folder_lock.FolderLock] = None

  def __enter__(self) -> "RunDirectory":
    """Returns the directory itself; nothing is locked yet."""
    return self

  def __exit__(self, *unused: object) -> None:
    """Lets other processes in again."""
    if self._lock is not None:
      self._lock.release()
      self._lock = None

  def lock(self, flag: str = "output_dir") -> None:
    """Keeps other processes out of the directory, which exists.

    Args:
      flag: Flag that named it, for the message.

    Raises:
      InputError: When another process works in it.
    """
    if self._lock is None:
      self._lock = folder_lock.FolderLock(self.path, flag)

  def check(self, config: config_lib.RunConfig) -> None:
    """Makes sure that the directory is new, or of the same configuration.

    Raises:
      InputError: When it holds something else, or a run of another
        configuration.
    """
    if not self.path.exists():
      return
    if not self.path.is_dir():
      raise InputError(f"--output_dir={self.path}: is a file; name a folder")
    if not self.flags.exists():
      if not all(files.is_leftover(entry) for entry in self.path.iterdir()):
        raise InputError(
          f"--output_dir={self.path}: is not empty and holds no run; name a new folder"
        )
      return
    existing = self.flags.read_text(errors="replace").splitlines()
    given = config_lib.flagfile_text(config).splitlines()
    if existing == given:
      return
    changes = difflib.ndiff(existing, given)
    marked = [line for line in changes if line[:1] in "+-"]
    had = ", ".join(line[2:] for line in marked if line[0] == "-") or "nothing of it"
    got = ", ".join(line[2:] for line in marked if line[0] == "+") or "nothing of it"
    what = (
      f"--output_dir={self.path}: holds a run of another configuration: it has {had}, "
      f"given is {got}"
    )
    names = {
      line[2:].removeprefix("--no").partition("=")[0].lstrip("-") for line in marked
    }
    if names <= set(run_flags.EXPORT):
      raise InputError(
        f"{what}; export it anew with python -m pipelines.export --run_dir={self.path}"
      )
    raise InputError(
      f"{what}; use another folder, or repeat it with "
      f"--flagfile={shlex.quote(str(self.flags))}"
    )

  def claim(self, config: config_lib.RunConfig) -> None:
    """Makes the directory, keeps others out and says whose it is; after `check`.

    Raises:
      InputError: When it cannot be written, another process works in it, or one has
        claimed it for another configuration since `check`.
    """
    files.make_folder(self.path, "output_dir")
    self.lock()
    self.check(config)
    files.remove_leftovers(self.path)
    if not self.flags.exists():
      files.write_text(self.flags, config_lib.flagfile_text(config))

  def read_report(self) -> dict[str, Any]:
    """Reads `report.json`.

    Raises:
      InputError: When it is missing or no report.
    """
    try:
      report = damage.parsed(self.report.read_text())
    except (OSError, ValueError) as error:
      raise InputError(
        f"{self.report}: cannot be read ({error}); delete it and run again"
      ) from error
    missing = _REPORT_PARTS - set(report if isinstance(report, dict) else ())
    if missing:
      raise InputError(
        f"{self.report}: is no report ({', '.join(sorted(missing))} missing); delete it "
        "and run again"
      )
    return report
