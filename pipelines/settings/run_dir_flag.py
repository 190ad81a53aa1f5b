"""The flag of apps that work on a run made before."""

from typing import TYPE_CHECKING

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.settings import run_flags

if TYPE_CHECKING:
  import pathlib

_RUN_DIR = flags.DEFINE_string(
  "run_dir", None, "Run directory to work on; takes the place of --output_dir."
)

# Flags that may be given anew; everything else is what the run was made with.
_MAY_DIFFER = (
  *run_flags.NOT_CONFIGURATION, *run_flags.EXPORT, *run_flags.CALIBRATION,
  *run_flags.QUANTISATION, "data_dir",
)  # fmt: skip

GROUPS = {"Run": ["run_dir"]}


def changeable_groups() -> dict[str, list[str]]:
  """Returns the flags that a run may be used with otherwise than it was made, by group."""
  kept = {
    group: [name for name in names if name in _MAY_DIFFER]
    for group, names in run_flags.GROUPS.items()
  }
  return {group: names for group, names in kept.items() if names}


def read() -> str:
  """Returns the run directory and takes over the run's own flags from `run.flags`.

  `--data_dir` and what `run_flags.EXPORT`, `run_flags.CALIBRATION` and
  `run_flags.QUANTISATION` name win when given on the command line.

  Raises:
    InputError: When no run directory is named, or it holds no run, or one of
      another configuration than the flags given.
  """
  import pathlib

  path = _RUN_DIR.value or flags.FLAGS.output_dir
  if not path:
    raise InputError("--run_dir is missing: name the folder of a run")
  saved = pathlib.Path(path) / "run.flags"
  if not saved.is_file():
    raise InputError(
      f"--run_dir={path}: holds no run (run.flags not found); name another"
    )
  stored = saved.read_text(errors="replace").splitlines()
  named = {line.partition("=")[0].lstrip("-") for line in stored}
  if not {"dataset", "model", "strategy", "seed"} <= named:
    raise InputError(f"{saved}: is damaged (flags are missing); restore it")
  _check_lines(saved, stored)
  given = {n: flags.FLAGS[n].value for n in run_flags.names() if flags.FLAGS[n].present}
  try:
    flags.FLAGS(["run_dir", f"--flagfile={saved}"])
  # absl lets a ValueError of its own through for --noflag=value.
  except (flags.Error, ValueError) as error:
    raise InputError(f"{saved}: {error}; restore it") from error
  for name, value in given.items():
    if name not in _MAY_DIFFER and value != flags.FLAGS[name].value:
      raise InputError(
        f"--run_dir={path}: holds a run with --{name}={flags.FLAGS[name].value}, "
        f"got --{name}={value}; leave the flag out or name another folder"
      )
    flags.FLAGS[name].value = value
  flags.FLAGS.output_dir = path
  return path


def _check_lines(saved: "pathlib.Path", stored: list[str]) -> None:
  """Makes sure that a run's flags name no other file, nor what no run keeps.

  Raises:
    InputError: Naming the line.
  """
  known = set(run_flags.names()) - set(run_flags.NOT_CONFIGURATION)
  for number, line in enumerate(stored, 1):
    name = line.removeprefix("--").partition("=")[0]
    if not line.startswith("--") or not {name, name.removeprefix("no")} & known:
      raise InputError(
        f"{saved}: line {number} is no flag of a run: {line[:60]!r}; restore it"
      )
