"""Exports any pruned Keras model, without a run: `--keras_model`."""

import dataclasses
import json
import pathlib
import zipfile
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import keras_archive, user_model_checks
from fedtiny_tff.version import VERSION
from pipelines import boards, calibration_stage, export_stage, files, keras_quantisation
from pipelines import config as config_lib
from pipelines.progress import Progress
from tflite_export.artifacts import ExportRequest, VerificationError
from tflite_export.provenance import Provenance
from tflite_export.targets import TARGETS

_MASKED_LAYERS = (
  tf.keras.layers.Conv1D,
  tf.keras.layers.Conv2D,
  tf.keras.layers.Dense,
)
REPORT = "export.json"


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
  model = user_model_checks.as_functional(
    source, keras_archive.read(export.model_path)
  )
  _check_model(source, model)
  if export.data_path is None:
    raise InputError(
      "--representative_data is missing: name a .npz file with `x`, float32 [N, "
      f"{_shape(model.inputs[0].shape[1:])}], preprocessed as in training; integer "
      "files are calibrated and all files are compared on it"
    )
  inputs, labels = _read_data(export.data_path, model)
  task = _task(source, model, export.task, labels)
  if labels is not None:
    _check_labels(export.data_path, labels, len(inputs), model, task)
  calibration = calibration_stage.from_samples(config, model, inputs, progress)
  rows = f"{len(inputs)} examples of {export.data_path.name}"
  return ExportRequest(
    model=model,
    masks=masks_of_zeros(model),
    task=task,
    calibration=calibration.given,
    evaluation_inputs=inputs,
    evaluation_labels=labels,
    class_names=_class_names(export.labels_path, model, task),
    mcu=boards.mcu_options(config),
    provenance=Provenance(
      name=export.model_path.stem,
      version=VERSION,
      licence=export.licence,
      method="Pruned before it was exported; the zeros of its weights are its mask.",
      training={"Data": "Not known to the exporter."},
      calibration=f"On {calibration.facts['samples']} of the {rows}.",
      evaluation=f"{rows}, from which quantised files were also calibrated",
    ),
  )


def _shape(sizes: Any) -> str:
  return ", ".join("?" if size is None else str(size) for size in sizes)


def _check_model(source: str, model: tf.keras.Model) -> None:
  """Checks what the files depend on."""
  user_model_checks.check_loops(source, model)
  for role, tensor in (("input", model.inputs[0]), ("output", model.outputs[0])):
    if None in tensor.shape[1:]:
      raise InputError(
        f"model {source}: its {role} has shape [{_shape(tensor.shape)}]; files need "
        "every size but the first, so build the model with a full tf.keras.Input shape"
      )
    if tensor.dtype != tf.float32:
      raise InputError(
        f"model {source}: its {role} is {tensor.dtype.name}; build it with float32 "
        "inputs and outputs"
      )
  user_model_checks.check_finite(
    source,
    ((layer.name, part) for layer in model.layers for part in layer.get_weights()),
  )


def masks_of_zeros(model: tf.keras.Model) -> dict[str, np.ndarray]:
  """Returns where the weights of pruned layers are not zero, by layer name.

  Pruned are the convolutions and dense layers, also depthwise ones, that have a zero;
  in a model without any, every layer counts, with a full mask.
  """
  masks = {}
  for layer in model._flatten_layers(include_self=False):
    kernel = None
    if type(layer) in _MASKED_LAYERS:
      kernel = layer.kernel
    elif type(layer) is tf.keras.layers.DepthwiseConv2D:
      kernel = layer.depthwise_kernel
    if kernel is not None:
      masks[layer.name] = kernel.numpy() != 0
  pruned = {name: mask for name, mask in masks.items() if not mask.all()}
  return pruned or masks


def _read_data(
  path: pathlib.Path, model: tf.keras.Model
) -> tuple[np.ndarray, Optional[np.ndarray]]:
  """Reads `x` and, where there is one, `y`."""
  named = f"--representative_data={path}"
  if not path.is_file():
    raise InputError(f"{named}: not found; name a .npz file with `x`")
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files if name in ("x", "y")}
  # NumPy raises what zlib, zipfile and its own parsers raise.
  except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise InputError(
      f"{named}: cannot be read ({' '.join(str(error).split())}); write it with "
      "numpy.savez(FILE, x=inputs, y=labels), without objects"
    ) from error
  if "x" not in arrays:
    raise InputError(f"{named}: holds no `x`; write it with numpy.savez(FILE, x=inputs)")
  inputs, wanted = arrays["x"], tuple(model.inputs[0].shape[1:])
  if inputs.shape[1:] != wanted or not len(inputs) or inputs.dtype.kind != "f":
    raise InputError(
      f"{named}: `x` is {inputs.dtype} [{_shape(inputs.shape)}]; needed is float32 "
      f"[N, {_shape(wanted)}] with N > 0"
    )
  if not np.isfinite(inputs).all():
    raise InputError(f"{named}: `x` holds NaN or infinite values; give finite ones")
  return inputs.astype(np.float32), arrays.get("y")


def _task(
  source: str, model: tf.keras.Model, name: str, labels: Optional[np.ndarray]
) -> tasks.Task:
  """Returns what the outputs mean: as named, else judged by shape and labels."""
  given, wanted = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
  same_size = np.prod(given) == np.prod(wanted)
  # Of a reconstruction, labels say no more than normal or not.
  many_classes = labels is not None and labels.size > 0 and np.max(labels) > 1
  guessed = tasks.RECONSTRUCT if same_size and not many_classes else tasks.CLASSIFY
  task = tasks.TASKS.get(name, guessed)
  if task.has_classes and len(wanted) != 1:
    problem = "is not a value for each class"
  elif not task.has_classes and not same_size:
    problem = f"is not the input [None, {_shape(given)}] again"
  else:
    return task
  raise InputError(
    f"model {source}: its output [None, {_shape(wanted)}] {problem}; end the model in "
    f"Flatten or Dense, or name another --task ({', '.join(tasks.TASKS)})"
  )


def _check_labels(
  path: pathlib.Path,
  labels: np.ndarray,
  count: int,
  model: tf.keras.Model,
  task: tasks.Task,
) -> None:
  """Checks `y` against the number of examples and the outputs."""
  outputs = int(model.outputs[0].shape[-1]) if task.has_classes else 2
  problem = ""
  if labels.shape != (count,) or labels.dtype.kind not in "iu":
    problem = f"is {labels.dtype} [{_shape(labels.shape)}]; needed is int [{count}]"
  elif task.has_classes and outputs < 2:
    problem = "needs a model with one output for each class; leave it out"
  elif not 0 <= labels.min() <= labels.max() < outputs:
    problem = (
      f"holds {labels.min()} to {labels.max()}; labels go from 0 to {outputs - 1}"
    )
  if problem:
    raise InputError(f"--representative_data={path}: `y` {problem}")


def _class_names(
  path: Optional[pathlib.Path], model: tf.keras.Model, task: tasks.Task
) -> tuple[str, ...]:
  """Reads a name per line, or counts."""
  if not task.has_classes:
    return ()
  count = int(model.outputs[0].shape[-1])
  if path is None:
    return tuple(str(number) for number in range(count))
  try:
    names = tuple(path.read_text(encoding="utf-8").splitlines())
  except UnicodeDecodeError as error:
    raise InputError(f"--labels={path}: is not UTF-8 text; save it as such") from error
  if len(names) != count:
    raise InputError(
      f"--labels={path}: has {len(names)} lines, the model {count} outputs; write one "
      "name per line"
    )
  return names


def export(
  options: KerasExport, config: config_lib.RunConfig, progress: Progress
) -> tuple[dict[str, Any], list[VerificationError]]:
  """Exports a model to `--targets` and writes `export.json` beside their folders.

  Returns:
    The report, and an error per target that failed.
  """
  targets = config.targets
  _check_folder(options.output_dir, targets)
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
  rows, failures = export_stage.export_all(
    targets, request, options.output_dir, progress, export_stage.steps_of(config)
  )
  files.remove_leftovers(options.output_dir)
  report = {
    "model": options.model_path.name,
    "task": request.task.name,
    "quantisation": quantised.facts,
    "artifacts": sorted([*_kept(options.output_dir, targets), *rows], key=_path),
    "files": _written(options.output_dir),
  }
  if options.output_dir.exists():
    files.write_text(options.output_dir / REPORT, json.dumps(report, indent=2) + "\n")
  return report, failures


def _check_folder(folder: pathlib.Path, targets: list[str]) -> None:
  """Makes sure that what a target's folder is replaced by is all that is lost.

  Raises:
    InputError: The folder cannot be written, or holds files of others.
  """
  is_new = not folder.exists()
  files.make_folder(folder, "output_dir")
  if is_new:
    # Until there is something to write in it.
    folder.rmdir()
    return
  ours = _read_report(folder).get("files", [])
  for target in targets:
    for path in sorted((folder / target).rglob("*")):
      name = str(path.relative_to(folder))
      if path.is_file() and name not in ours:
        raise InputError(
          f"--output_dir={folder}: {name} was not written by an export and would be "
          "lost; name another folder"
        )


def _written(folder: pathlib.Path) -> list[str]:
  """Lists the files in the targets' folders, relative to the export's."""
  found = [path for name in TARGETS for path in (folder / name).rglob("*")]
  return sorted(str(path.relative_to(folder)) for path in found if path.is_file())


def _read_report(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the report of an earlier export; empty if there is none."""
  try:
    return dict(json.loads((folder / REPORT).read_text()))
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
