"""The flag of commands that can say what they would do without doing it."""

import json
from typing import TYPE_CHECKING

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.format_flag import FORMAT

if TYPE_CHECKING:
  from pipelines.progress import Progress

DRY_RUN = flags.DEFINE_boolean(
  "dry_run",
  False,
  "Only say what would be done and about how long it would take; nothing is trained and "
  "nothing written.",
)
GROUPS = {"Plan": ["dry_run", "format"]}


def check_unasked() -> None:
  """Refuses `--format` where no plan is asked for.

  Raises:
    InputError: When it was given.
  """
  if FORMAT.present:
    raise InputError("--format is that of --dry_run: give both, or neither")


def show_plan(progress: "Progress", exports: bool) -> None:
  """Prints the plan of the run that the flags describe.

  Args:
    progress: Where it is said what is looked at.
    exports: Whether the command exports files.

  Raises:
    InputError: As the run would before it begins.
    BudgetError: Likewise.
  """
  from pipelines import config as config_lib
  from pipelines import dry_run, dry_run_text, run_flags, stages

  values = {name: flags.FLAGS[name].value for name in run_flags.names()}
  plan = dry_run.make_plan(config_lib.make_config(values), progress, exports)
  if FORMAT.value == "json":
    print(json.dumps(plan, indent=2))
  else:
    dry_run_text.show(plan, stages.closing_console())
