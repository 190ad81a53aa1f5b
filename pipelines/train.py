"""Trains and prunes; leaves the final model and the report without exports."""

from typing import Optional

from pipelines.apps import app
from pipelines.planning import dry_run_command
from pipelines.settings import run_flags

_SUMMARY = """
Federated training and pruning; `pipelines.export` makes .tflite files of the result.

  python -m pipelines.train --flagfile=pipelines/presets/digits.flags --output_dir=runs/digits
  python -m pipelines.train --dry_run --flagfile=pipelines/presets/digits.flags
"""


def main() -> Optional[int]:
  """Trains unless that is done, and prints the summary."""
  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  progress, is_dry = Progress(), dry_run_command.is_asked()
  with progress.loading():
    from pipelines import stages
    from pipelines.runs.run_directory import RunDirectory
    from pipelines.settings import config as config_lib

  if is_dry:
    dry_run_command.show_plan(progress, exports=False)
    return None
  config = config_lib.from_flags()
  progress.expect(stages.expected(config, ()))
  with RunDirectory(config.output_dir) as run:
    stages.summarize(run, stages.train(config, run, progress))
  return None


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, {**run_flags.GROUPS, **dry_run_command.GROUPS}))
