"""Exports a trained run, or any pruned Keras model, to verified .tflite files."""

import pathlib
from typing import Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.apps import app
from pipelines.settings import run_dir_flag, run_flags

_SUMMARY = """
Exports a trained run, or any pruned Keras model, and verifies every file on its runtime.

  python -m pipelines.export --run_dir=runs/digits --targets=android
  python -m pipelines.export --keras_model=model.keras \\
    --representative_data=examples.npz --output_dir=exported

The zeros of a Keras model's weights are its mask. The .npz file holds `x`, float32
[N, ...], preprocessed as in training, and optionally `y`, int [N], for accuracies.
Other flags of a run are its own, read from its folder.
"""

_KERAS_MODEL = flags.DEFINE_string("keras_model", None, "Pruned model, a .keras file.")
_DATA = flags.DEFINE_string(
  "representative_data", None, "Examples for calibration and comparison, a .npz file."
)
_LABELS = flags.DEFINE_string(
  "labels", None, "Text file with the name of a class per line; numbers without it."
)
_TASK = flags.DEFINE_enum(
  "task",
  "",
  ["", "classify", "reconstruct"],
  "What the model's outputs are; empty = reconstruct where they are as many as inputs.",
)
_OWN = ("keras_model", "representative_data", "labels", "task")
GROUPS = {"A Keras model": list(_OWN)}


def main() -> Optional[int]:
  """Exports to the named targets and prints the summary."""
  if _KERAS_MODEL.value is not None:
    return _export_keras_model(_KERAS_MODEL.value)
  for name in _OWN:
    if flags.FLAGS[name].present:
      raise InputError(f"--{name} goes with --keras_model; name the model too")
  elsewhere = flags.FLAGS.output_dir
  path = run_dir_flag.read()

  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  progress = Progress()
  if elsewhere not in (None, path):
    progress.warn(
      f"--output_dir={elsewhere}: has no use beside --run_dir; files go to {path}/export"
    )
  with progress.loading():
    from pipelines import stages
    from pipelines.runs.run_directory import RunDirectory
    from pipelines.settings import config as config_lib

  config = config_lib.from_flags()
  with RunDirectory(path) as run:
    run.lock("run_dir")
    made = stages.export(config, run, config.targets, progress)
    stages.summarize(run, made, config.targets)
  return None


def _export_keras_model(path: str) -> Optional[int]:
  """Exports a model that no run of ours has trained."""
  _check_flags()

  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  progress = Progress()
  with progress.loading():
    from fedtiny_tff import tasks
    from pipelines import stages
    from pipelines.exports import artifact_table, export_stage, keras_export
    from pipelines.settings import config as config_lib

  config = config_lib.from_flags()
  folder = pathlib.Path(config.output_dir)
  if (folder / "run.flags").exists():
    raise InputError(
      f"--output_dir={folder}: holds a run; export that with --run_dir, or name another "
      "folder"
    )
  options = keras_export.KerasExport(
    model_path=pathlib.Path(path),
    data_path=None if _DATA.value is None else pathlib.Path(_DATA.value),
    labels_path=None if _LABELS.value is None else pathlib.Path(_LABELS.value),
    task=_TASK.value,
    output_dir=folder,
    licence=config.model_licence,
  )
  made, failures = keras_export.export(options, config, progress)
  artifact_table.show(
    made["model"],
    [],
    made["artifacts"],
    tasks.TASKS[made["task"]].has_classes,
    stages.closing_console(),
    str(folder),
    config.targets,
  )
  export_stage.raise_any(failures)
  return None


def _check_flags() -> None:
  """Raises `InputError` for flags of training, which have no meaning here."""
  if flags.FLAGS.run_dir is not None:
    raise InputError("--keras_model and --run_dir exclude each other: give one of them")
  allowed = {
    *run_flags.NOT_CONFIGURATION, *run_flags.EXPORT, *run_flags.CALIBRATION,
    "quantisation_aware", "seed", *_OWN,
  } - {"calibration_source"}  # fmt: skip
  for name in run_flags.names():
    if flags.FLAGS[name].present and name not in allowed:
      raise InputError(
        f"--{name} says how a run is trained; with --keras_model leave it out"
      )


if __name__ == "__main__":
  groups = {**run_dir_flag.GROUPS, **GROUPS, **run_dir_flag.changeable_groups()}
  app.leave(app.run_app(main, _SUMMARY, groups))
