"""Exports a trained run to .tflite files, verifies them and updates the report."""

from typing import Optional

from pipelines import app, run_dir_flag, run_flags

_SUMMARY = """
Exports a trained run and verifies every file on its runtime.

  python -m pipelines.export --run_dir=runs/digits --targets=android
"""


def main() -> Optional[int]:
  """Exports to the named targets and prints the summary."""
  path = run_dir_flag.read()

  from pipelines import config as config_lib
  from pipelines import stages
  from pipelines.progress import Progress
  from pipelines.run_directory import RunDirectory

  config = config_lib.from_flags()
  run = RunDirectory(path)
  made = stages.export(config, run, config.targets, Progress())
  stages.summarize(run, made)
  return None


if __name__ == "__main__":
  groups = {**run_dir_flag.GROUPS, **run_flags.GROUPS}
  app.leave(app.run_app(main, _SUMMARY, groups))
