"""A Keras model that is handed over to be exported, and examples for it.

Every check ends in one line that names what is wrong and the mend.
"""

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
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


def masks_of_zeros(model: tf.keras.Model) -> dict[str, Array]:
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
    InputError: When the output is not what the task needs.
  """
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
    f"Flatten or Dense, or name another {option} ({', '.join(tasks.TASKS)})"
  )


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
  if labels.shape != (count,) or labels.dtype.kind not in "iu":
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
