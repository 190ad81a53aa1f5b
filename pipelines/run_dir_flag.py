"""The flag of apps that work on a run made before."""

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines import run_flags

_RUN_DIR = flags.DEFINE_string(
  "run_dir", None, "Run directory to work on; takes the place of --output_dir."
)

GROUPS = {"Run": ["run_dir"]}


def read() -> str:
  """Returns the run directory and takes over the run's own flags from `run.flags`.

  Flags given on the command line win.

  Raises:
    InputError: When no run directory is named, or it holds no run.
  """
  import pathlib

  path = _RUN_DIR.value or flags.FLAGS.output_dir
  if not path:
    raise InputError("--run_dir is missing: name the folder of a run")
  saved = pathlib.Path(path) / "run.flags"
  if not saved.is_file():
    raise InputError(f"--run_dir={path}: holds no run (run.flags not found)")
  given = {n: flags.FLAGS[n].value for n in run_flags.names() if flags.FLAGS[n].present}
  try:
    flags.FLAGS(["run_dir", f"--flagfile={saved}"])
  except flags.Error as error:
    raise InputError(f"{saved}: {error}") from error
  for name, value in given.items():
    flags.FLAGS[name].value = value
  flags.FLAGS.output_dir = path
  return path
