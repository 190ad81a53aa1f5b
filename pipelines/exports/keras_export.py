"""Exports any pruned Keras model, without a run: `--keras_model`."""

import dataclasses
import json
import pathlib
from typing import Any, Optional

import numpy as np

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import keras_archive, user_model_checks
from fedtiny_tff.version import VERSION
from pipelines.apps import damage, files
from pipelines.apps.progress import Progress
from pipelines.exports import (
  calibration_stage,
  export_stage,
  keras_input,
  keras_quantisation,
)
from pipelines.settings import boards
from pipelines.settings import config as config_lib
from tflite_export import given_model
from tflite_export.artifacts import ExportRequest, VerificationError
from tflite_export.conversion import channel_equalisation
from tflite_export.provenance import Provenance
from tflite_export.targets import TARGETS_OF_RUNS

REPORT = "export.json"
# With fewer, nobody pruned the model.
_FEW_ZEROS = 0.05


@dataclasses.dataclass(frozen=True)
class KerasExport:
  """What is exported, and where to.

  Attributes:
    model_path: The `.keras` file.
    data_path: The `.npz` file, or None when it was not given.
    labels_path: A text file with a class name per line, or None for numbers.
    task: Key of `tasks.TASKS`, or empty to judge by the shape of the output.
    output_dir: Folder for the targets' folders.
    licence: Licence of the model.
  """

  model_path: pathlib.Path
  data_path: Optional[pathlib.Path]
  labels_path: Optional[pathlib.Path]
  task: str
  output_dir: pathlib.Path
  licence: str


def read_request(
  export: KerasExport, config: config_lib.RunConfig, progress: Progress
) -> ExportRequest:
  """Reads and checks everything before anything is written.

  Args:
    export: What is exported.
    config: How integer files are calibrated.
    progress: Where progress is shown.

  Raises:
    InputError: Naming the file, what is wrong and how to mend it.
  """
  source = str(export.model_path)
  if export.model_path.suffix != ".keras":
    raise InputError(
      f"--keras_model={source}: only the Keras format is read, because others can run "
      "code of their own; save it with model.save('FILE.keras')"
    )
  model = user_model_checks.as_functional(source, keras_archive.read(export.model_path))
  given_model.check_model(source, model)
  channel_equalisation.equalise(model)
  if export.data_path is None:
    raise InputError(
      "--representative_data is missing: name a .npz file with `x`, float32 [N, "
      f"{given_model.shown_shape(model.inputs[0].shape[1:])}], preprocessed as in "
      "training; integer files are calibrated and all files are compared on it"
    )
  inputs, labels = keras_input.read_data(export.data_path, model)
  task = given_model.find_task(source, model, export.task, labels, "--task")
  if labels is not None:
    named = f"--representative_data={export.data_path}: `y`"
    given_model.check_labels(named, labels, len(inputs), model, task)
  calibration = calibration_stage.from_samples(config, model, inputs, progress)
  rows = f"{len(inputs)} examples of {export.data_path.name}"
  masks = given_model.masks_of_zeros(model)
  _warn_of_density(source, masks, progress)
  return ExportRequest(
    model=model,
    masks=masks,
    task=task,
    calibration=calibration.given,
    evaluation_inputs=inputs,
    evaluation_labels=labels,
    class_names=keras_input.read_class_names(export.labels_path, model, task),
    mcu=boards.mcu_options(config),
    provenance=Provenance(
      name=export.model_path.stem,
      version=VERSION,
      licence=export.licence,
      method=given_model.pruned_in_words(masks),
      training={"Data": "Not known to the exporter."},
      calibration=f"On {calibration.facts['samples']} of the {rows}.",
      evaluation=f"{rows}, from which quantised files were also calibrated",
    ),
  )


def _warn_of_density(
  source: str, masks: dict[str, np.ndarray], progress: Progress
) -> None:
  """Says so where there is nothing, or next to nothing, to store sparse."""
  zeros = given_model.zero_share(masks)
  if zeros >= _FEW_ZEROS:
    return
  found = f"only {zeros:.2%} of the weights of its layers with zeros are zero"
  if not zeros:
    found = "no layer has zeros among its weights"
  progress.warn(
    f"--keras_model={source}: {found}, so that files called sparse are as large as dense "
    f"ones; prune first with `pipelines.run --model={source} --dataset=…`"
  )


def export(
  options: KerasExport, config: config_lib.RunConfig, progress: Progress
) -> tuple[dict[str, Any], list[VerificationError]]:
  """Exports a model to `--targets` and writes `export.json` beside their folders.

  It names the files that are to come before the first of them is there.

  Returns:
    The report, and an error per target that failed.
  """
  targets = config.targets
  _check_targets(targets)
  _check_folder(options, targets)
  request = read_request(options, config, progress)
  how = keras_quantisation.RowsQuantisation(
    mode=config.quantisation_aware, seed=config.seed
  )
  quantised = keras_quantisation.quantise_on_rows(request, how, progress)
  told = f"{request.provenance.calibration} {quantised.facts['reason']}"
  request = dataclasses.replace(
    request,
    quantisation_aware_model=quantised.model,
    provenance=dataclasses.replace(request.provenance, calibration=told),
  )
  folder = options.output_dir
  before = _read_report(folder).get("files", [])
  report: dict[str, Any] = {
    "model": options.model_path.name,
    "task": request.task.name,
    "quantisation": quantised.facts,
    "artifacts": _kept(folder, targets),
    "files": [name for name in before if name.partition("/")[0] not in targets],
  }

  def record(paths: list[str]) -> None:
    # Otherwise what a killed export had written would pass for somebody else's.
    _write_report(folder, report | {"files": sorted({*before, *paths})})

  rows, failures = export_stage.export_all(
    targets, request, folder, progress, export_stage.steps_of(config), record
  )
  files.remove_leftovers(folder)
  report["artifacts"] = sorted([*report["artifacts"], *rows], key=_path)
  report["files"] = sorted([*report["files"], *_written(folder, targets)])
  if folder.exists():
    _write_report(folder, report)
  return report, failures


def _write_report(folder: pathlib.Path, report: dict[str, Any]) -> None:
  files.write_text(folder / REPORT, json.dumps(report, indent=2) + "\n")


def _check_targets(targets: list[str]) -> None:
  """Refuses targets for which a model is not enough.

  Raises:
    InputError: Naming one.
  """
  for target in targets:
    if target in TARGETS_OF_RUNS:
      raise InputError(
        f"--targets={target}: rounds, batches and blocks are a run's, and of a Keras "
        "file nobody knows them; export a run, with --run_dir"
      )


def _check_folder(options: KerasExport, targets: list[str]) -> None:
  """Makes sure that what a target's folder is replaced by is all that is lost.

  Raises:
    InputError: The folder cannot be written, or holds files of others, or of another
      model.
  """
  folder = options.output_dir
  is_new = not folder.exists()
  files.make_folder(folder, "output_dir")
  if is_new:
    # Until there is something to write in it.
    folder.rmdir()
    return
  report = _read_report(folder)
  before = report.get("model", options.model_path.name)
  if before != options.model_path.name:
    raise InputError(
      f"--output_dir={folder}: holds files of {before}, which those of "
      f"{options.model_path.name} would mix with or replace; name another folder"
    )
  ours = report.get("files", [])
  for target in targets:
    for path in sorted((folder / target).rglob("*")):
      name = str(path.relative_to(folder))
      if path.is_file() and name not in ours:
        raise InputError(
          f"--output_dir={folder}: {name} was not written by an export and would be "
          "lost; name another folder"
        )


def _written(folder: pathlib.Path, targets: list[str]) -> list[str]:
  """Lists the files in the targets' folders, relative to the export's."""
  found = [path for name in targets for path in (folder / name).rglob("*")]
  return [str(path.relative_to(folder)) for path in found if path.is_file()]


def _read_report(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the report of an earlier export; empty if there is none."""
  try:
    return dict(damage.parsed((folder / REPORT).read_text()))
  except (OSError, ValueError, TypeError):
    return {}


def _path(row: dict[str, Any]) -> str:
  return str(row["path"])


def _kept(folder: pathlib.Path, targets: list[str]) -> list[dict[str, Any]]:
  """Returns rows of an earlier export that stay true: those of other targets."""
  try:
    rows = _read_report(folder)["artifacts"]
    return [row for row in rows if row["target"] not in targets]
  except (KeyError, TypeError):
    return []
