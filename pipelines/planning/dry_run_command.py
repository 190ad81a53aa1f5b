"""What `--dry_run` does in commands that train: it prints the plan of the run."""

import json
from typing import TYPE_CHECKING

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.settings.dry_run_flag import DRY_RUN
from pipelines.settings.format_flag import FORMAT

if TYPE_CHECKING:
  from pipelines.apps.progress import Progress

GROUPS = {"Plan": ["dry_run", "format"]}


def is_asked() -> bool:
  """Whether only a plan is asked for.

  Raises:
    InputError: When there is none to be printed in `--format`.
  """
  if FORMAT.present and not DRY_RUN.value:
    raise InputError("--format is that of --dry_run: give both, or neither")
  return bool(DRY_RUN.value)


def show_plan(progress: "Progress", exports: bool) -> None:
  """Prints the plan of the run that the flags describe.

  Args:
    progress: Where it is said what is looked at.
    exports: Whether the command exports files.

  Raises:
    InputError: As the run would before it begins.
    BudgetError: Likewise.
  """
  from pipelines import stages
  from pipelines.planning import dry_run, dry_run_text
  from pipelines.settings import config as config_lib
  from pipelines.settings import run_flags

  values = {name: flags.FLAGS[name].value for name in run_flags.names()}
  plan = dry_run.make_plan(config_lib.make_config(values), progress, exports)
  if FORMAT.value == "json":
    print(json.dumps(plan, indent=2))
  else:
    dry_run_text.show(plan, stages.closing_console())
