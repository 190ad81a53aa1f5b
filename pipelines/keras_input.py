"""Reads what a user hands over to be exported: a Keras model, examples, class names.

Every reader ends bad input in one line that names the file and the mend.
"""

import pathlib
import zipfile
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import user_model_checks

_MASKED_LAYERS = (
  tf.keras.layers.Conv1D,
  tf.keras.layers.Conv2D,
  tf.keras.layers.Dense,
)


def shown_shape(sizes: Any) -> str:
  """Returns sizes as text, with `?` for those that are not known."""
  return ", ".join("?" if size is None else str(size) for size in sizes)


def check_model(source: str, model: tf.keras.Model) -> None:
  """Checks what the files depend on."""
  user_model_checks.check_loops(source, model)
  for role, tensor in (("input", model.inputs[0]), ("output", model.outputs[0])):
    if None in tensor.shape[1:]:
      raise InputError(
        f"model {source}: its {role} has shape [{shown_shape(tensor.shape)}]; files need "
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


def read_data(
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
      f"{named}: `x` is {inputs.dtype} [{shown_shape(inputs.shape)}]; needed is float32 "
      f"[N, {shown_shape(wanted)}] with N > 0"
    )
  if not np.isfinite(inputs).all():
    raise InputError(f"{named}: `x` holds NaN or infinite values; give finite ones")
  return inputs.astype(np.float32), arrays.get("y")


def find_task(
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
    problem = f"is not the input [None, {shown_shape(given)}] again"
  else:
    return task
  raise InputError(
    f"model {source}: its output [None, {shown_shape(wanted)}] {problem}; end the model in "
    f"Flatten or Dense, or name another --task ({', '.join(tasks.TASKS)})"
  )


def check_labels(
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
    problem = f"is {labels.dtype} [{shown_shape(labels.shape)}]; needed is int [{count}]"
  elif task.has_classes and outputs < 2:
    problem = "needs a model with one output for each class; leave it out"
  elif not 0 <= labels.min() <= labels.max() < outputs:
    problem = (
      f"holds {labels.min()} to {labels.max()}; labels go from 0 to {outputs - 1}"
    )
  if problem:
    raise InputError(f"--representative_data={path}: `y` {problem}")


def read_class_names(
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
