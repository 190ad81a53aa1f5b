"""Trains, exports and reports: the whole pipeline in one command."""

from typing import Optional

from pipelines.apps import app
from pipelines.planning import dry_run_command
from pipelines.settings import run_flags

_SUMMARY = """
Federated pruning to verified .tflite files: pre-train, select, prune, export, report.

  python -m pipelines.run --flagfile=pipelines/presets/digits.flags --output_dir=runs/digits
  python -m pipelines.run --dry_run --flagfile=pipelines/presets/digits.flags

Interrupted, the same command goes on after the last finished round; on a finished
run it prints the summary.
"""


def main() -> Optional[int]:
  """Runs what is not finished yet and prints the summary."""
  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  progress, is_dry = Progress(), dry_run_command.is_asked()
  with progress.loading():
    from pipelines import stages
    from pipelines.exports import export_stage
    from pipelines.runs.run_directory import RunDirectory
    from pipelines.settings import config as config_lib

  if is_dry:
    dry_run_command.show_plan(progress, exports=True)
    return None
  config = config_lib.from_flags()
  progress.expect(stages.expected(config, config.targets))
  with RunDirectory(config.output_dir) as run:
    made = stages.train(config, run, progress)
    steps = export_stage.steps_of(config)
    missing = stages.missing_targets(made, run, config.targets, steps)
    if missing:
      run.lock()
      made = stages.export(config, run, missing, progress)
    stages.summarize(run, made)
  return None


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, {**run_flags.GROUPS, **dry_run_command.GROUPS}))
