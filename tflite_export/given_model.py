"""A Keras model that is handed over to be exported, and examples for it.

Every check ends in one line that names what is wrong and the mend.
"""

import collections
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import suggestions, tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
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


def kernels(model: tf.keras.Model) -> dict[str, Array]:
  """Returns the kernels of convolutions and dense layers, also depthwise ones.

  Args:
    model: Layers of models within it count as well.

  Returns:
    Layer name to kernel; of layers that share a name, as in two models that one function
    made, path from the model's name on, as files know them: `net/left/conv1`.
  """
  found: dict[int, tuple[str, str, Array]] = {}
  _add_kernels(model, model.name, found)
  names = collections.Counter(name for name, _, _ in found.values())
  return {
    path if names[name] > 1 else name: kernel for name, path, kernel in found.values()
  }


def _add_kernels(
  layer: tf.keras.layers.Layer, path: str, found: dict[int, tuple[str, str, Array]]
) -> None:
  """Adds name, path and kernel of each layer within another, by the layer's identity."""
  for part in layer._flatten_layers(recursive=False, include_self=False):
    inside, kernel = f"{path}/{part.name}", None
    if type(part) in _MASKED_LAYERS:
      kernel = part.kernel
    elif type(part) is tf.keras.layers.DepthwiseConv2D:
      kernel = part.depthwise_kernel
    if kernel is not None:
      # Models may share a layer; the first way to it is its path.
      found.setdefault(id(part), (part.name, inside, kernel.numpy()))
    _add_kernels(part, inside, found)


def masks_of_zeros(model: tf.keras.Model) -> dict[str, Array]:
  """Returns where the weights of pruned layers are not zero, by their keys in `kernels`.

  Pruned are the convolutions and dense layers, also depthwise ones, that have a zero;
  in a model without any, every layer counts, with a full mask.
  """
  masks = {name: kernel != 0 for name, kernel in kernels(model).items()}
  pruned = {name: mask for name, mask in masks.items() if not mask.all()}
  return pruned or masks


def zero_share(masks: Mapping[str, Array]) -> float:
  """Returns the share of the masks' weights that are zero."""
  size = sum(mask.size for mask in masks.values())
  left = sum(int(np.count_nonzero(mask)) for mask in masks.values())
  return 1 - left / size if size else 0.0


def pruned_in_words(masks: Mapping[str, Array]) -> str:
  """Says how a model that comes from elsewhere was pruned, a sentence."""
  if not zero_share(masks):
    return "Not pruned: no layer has zeros among its weights."
  return "Pruned before it was exported; the zeros of its weights are its mask."


def check_inputs(named: str, inputs: Array, model: tf.keras.Model) -> Array:
  """Checks examples against a model's input.

  Args:
    named: What they are called in errors.
    inputs: As they were handed over.
    model: With one input of fixed shape.

  Returns:
    float32 [N, ...].

  Raises:
    InputError: When they do not fit, or are not finite.
  """
  wanted = tuple(model.inputs[0].shape[1:])
  if inputs.shape[1:] != wanted or not len(inputs) or inputs.dtype.kind != "f":
    raise InputError(
      f"{named} is {inputs.dtype} [{shown_shape(inputs.shape)}]; needed is float32 "
      f"[N, {shown_shape(wanted)}] with N > 0"
    )
  if not np.isfinite(inputs).all():
    raise InputError(f"{named} holds NaN or infinite values; give finite ones")
  return inputs.astype(np.float32)


def check_preprocessing(preprocessing: Preprocessing, model: tf.keras.Model) -> None:
  """Checks what is declared of a model's inputs against their shape.

  Args:
    preprocessing: From raw examples to inputs.
    model: With one input of fixed shape.

  Raises:
    InputError: When it makes other inputs.
  """
  wanted = tuple(model.inputs[0].shape[1:])
  channels = wanted[-1] if wanted else 1
  if len(preprocessing.mean) not in (1, channels):
    raise InputError(
      f"preprocessing: mean and deviation have {len(preprocessing.mean)} numbers for "
      f"inputs [{shown_shape(wanted)}]; give one, or {channels}"
    )
  extraction = preprocessing.extraction
  raw = extraction.raw_shape
  if isinstance(extraction, Resize):
    # Images of any size have one size afterwards.
    raw = (1, 1, 3 if extraction.grey else channels)
  made = wanted if raw is None else extraction.output_shape(raw)
  if made != wanted:
    raise InputError(
      f"preprocessing: {extraction.kind} makes [{shown_shape(made)}] of raw examples, "
      f"the model takes [{shown_shape(wanted)}]; declare what it was trained with"
    )


def find_task(
  source: str,
  model: tf.keras.Model,
  name: str,
  labels: Optional[Array],
  option: str = "task",
) -> tasks.Task:
  """Returns what the outputs mean: as named, else judged by shape and labels.

  Args:
    source: Where the model comes from, for errors.
    model: With one input and one output.
    name: Key of `tasks.TASKS`, or empty.
    labels: int [N], or None.
    option: How a task is named, for errors.

  Raises:
    InputError: When there is no such task, or the output is not what the task needs.
  """
  if name and name not in tasks.TASKS:
    raise InputError(
      f"{option} must be one of {', '.join(tasks.TASKS)}, got {name!r}"
      f"{suggestions.question(name, tasks.TASKS)}"
    )
  given, wanted = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
  same_size = np.prod(given) == np.prod(wanted)
  # Of a reconstruction, labels say no more than normal or not.
  many_classes = labels is not None and _are_whole(labels) and np.max(labels) > 1
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
    f"Flatten or Dense, or name another {option} ({', '.join(tasks.TASKS)})"
  )


def _are_whole(labels: Array) -> bool:
  """Returns whether there are labels, and numbers of classes."""
  return labels.size > 0 and labels.dtype.kind in "iu"


def check_labels(
  named: str,
  labels: Array,
  count: int,
  model: tf.keras.Model,
  task: tasks.Task,
) -> None:
  """Checks labels against the number of examples and the outputs.

  Args:
    named: What they are called in errors.
    labels: As they were handed over.
    count: Number of examples.
    model: With one output.
    task: What its outputs mean.

  Raises:
    InputError: When they do not fit.
  """
  outputs = int(model.outputs[0].shape[-1]) if task.has_classes else 2
  problem = ""
  if labels.shape != (count,) or not _are_whole(labels):
    problem = (
      f"is {labels.dtype} [{shown_shape(labels.shape)}]; needed is int [{count}]"
    )
  elif task.has_classes and outputs < 2:
    problem = "needs a model with one output for each class; leave it out"
  elif not 0 <= labels.min() <= labels.max() < outputs:
    problem = (
      f"holds {labels.min()} to {labels.max()}; labels go from 0 to {outputs - 1}"
    )
  if problem:
    raise InputError(f"{named} {problem}")
