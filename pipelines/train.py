"""Trains and prunes; leaves the final model and the report without exports."""

from typing import Optional

from pipelines import app, dry_run_command, run_flags

_SUMMARY = """
Federated training and pruning; `pipelines.export` makes .tflite files of the result.

  python -m pipelines.train --flagfile=pipelines/presets/digits.flags --output_dir=runs/digits
  python -m pipelines.train --dry_run --flagfile=pipelines/presets/digits.flags
"""


def main() -> Optional[int]:
  """Trains unless that is done, and prints the summary."""
  from pipelines.progress import Progress

  progress, is_dry = Progress(), dry_run_command.is_asked()
  with progress.loading():
    from pipelines import config as config_lib
    from pipelines import stages
    from pipelines.run_directory import RunDirectory

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
