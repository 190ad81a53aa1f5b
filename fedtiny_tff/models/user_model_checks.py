"""What a user's Keras model must be so that it can be trained, pruned and exported.

Each check ends in one line that names the layer, its type and the mend. Layers that
merely stay dense need no check.
"""

from collections.abc import Callable, Iterable
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError

BatchNormalization = tf.keras.layers.BatchNormalization

_FLOAT = (None, "float32")


def as_functional(source: str, model: tf.keras.Model) -> tf.keras.Model:
  """Returns a model whose graph of layers is known, over the same layers.

  Args:
    source: Where the model comes from, for errors.
    model: The user's model.

  Raises:
    InputError: When it is subclassed or was never built, or has several inputs or
      outputs.
  """
  functional = type(tf.keras.Model(*[tf.keras.Input((1,))] * 2))
  if type(model) not in (tf.keras.Sequential, functional):
    raise InputError(
      f"model {source}: is a subclassed model ({type(model).__name__}); build it with "
      "tf.keras.Sequential or the functional API"
    )
  # A Sequential model that was never called has neither.
  inputs, outputs = ([*(ends or ())] for ends in (model.inputs, model.outputs))
  if not inputs:
    raise InputError(
      f"model {source}: has no input shape; begin it with tf.keras.Input"
    )
  if len(inputs) != 1 or len(outputs) != 1:
    raise InputError(
      f"model {source}: has {len(inputs)} inputs and {len(outputs)} outputs; build it "
      "with one each"
    )
  if type(model) is functional:
    return model
  return tf.keras.Model(inputs, outputs, name=model.name)


def _wrong_origin(layer: tf.keras.layers.Layer) -> str:
  if isinstance(layer, tf.keras.Model):
    return "is a model within the model; add its layers one by one"
  if not type(layer).__module__.startswith("keras."):
    return (
      "is not Keras's own; use Keras layers only, so that the run's files load without "
      "your code"
    )
  return ""


def _wrong_name(layer: tf.keras.layers.Layer) -> str:
  return "has a '/' in its name; rename it" if "/" in layer.name else ""


def _wrong_type(layer: tf.keras.layers.Layer) -> str:
  for dtype in (layer.dtype, layer.compute_dtype):
    if dtype not in _FLOAT:
      return f"computes in {dtype}; build the model in float32, without a dtype policy"
  if getattr(layer, "data_format", None) == "channels_first":
    return "has its channels first, which CPUs cannot train; use channels_last"
  return ""


def _wrong_state(layer: tf.keras.layers.Layer) -> str:
  if layer.weights and not layer.trainable:
    return "is frozen; set layer.trainable = True"
  if getattr(layer, "stateful", False):
    return "is stateful; its state cannot travel between clients; set stateful=False"
  if not isinstance(layer, BatchNormalization) and layer.non_trainable_weights:
    names = ", ".join(w.name.split("/")[-1] for w in layer.non_trainable_weights)
    return (
      f"has state that is not trained ({names}) and cannot be averaged; leave it out "
      "(inputs are normalised by the dataset already)"
    )
  return ""


def _wrong_batch_norm(layer: tf.keras.layers.Layer) -> str:
  if not isinstance(layer, BatchNormalization):
    return ""
  if type(layer) is not BatchNormalization or getattr(layer, "synchronized", False):
    return "is a variant of batch norm; use tf.keras.layers.BatchNormalization"
  if len(layer.axis) != 1:
    return f"normalises over the axes {list(layer.axis)}; give it one axis"
  return ""


_LAYER_CHECKS: tuple[Callable[[tf.keras.layers.Layer], str], ...] = (
  _wrong_origin, _wrong_name, _wrong_type, _wrong_state, _wrong_batch_norm,
)  # fmt: skip


def check_layers(source: str, model: tf.keras.Model) -> None:
  """Checks each layer by itself.

  Args:
    source: Where the model comes from, for errors.
    model: Functional.

  Raises:
    InputError: Naming the layer and its type.
  """
  owner: dict[int, tf.keras.layers.Layer] = {}
  for layer in model.layers:
    problem = next(filter(None, (check(layer) for check in _LAYER_CHECKS)), "")
    problem = problem or _shared(layer, model, owner)
    if problem:
      raise InputError(
        f"model {source}: layer {layer.name!r} ({type(layer).__name__}) {problem}"
      )


def _shared(
  layer: tf.keras.layers.Layer,
  model: tf.keras.Model,
  owner: dict[int, tf.keras.layers.Layer],
) -> str:
  """Says what a layer has in common with others; notes what it owns."""
  uses = sum(
    node in layer.inbound_nodes
    for nodes in model._nodes_by_depth.values()
    for node in nodes
  )
  if uses > 1:
    return f"is used {uses} times; make a layer for each use"
  for variable in layer.weights:
    other = owner.setdefault(id(variable), layer)
    if other is not layer:
      return f"shares {variable.name!r} with layer {other.name!r}; give each its own"
  return ""


def check_input(
  source: str, model: tf.keras.Model, input_shape: tuple[int, ...]
) -> None:
  """Checks that a model takes a dataset's examples.

  Args:
    source: Where the model comes from, for errors.
    model: Functional; dimensions of None fit any size.
    input_shape: Shape of one example.

  Raises:
    InputError: With both shapes.
  """
  wanted = tuple(model.inputs[0].shape)[1:]
  fits = len(wanted) == len(input_shape) and all(
    size in (None, given) for size, given in zip(wanted, input_shape, strict=False)
  )
  if not fits:
    raise InputError(
      f"model {source}: takes inputs of shape {wanted}, the dataset's are "
      f"{input_shape}; change the model's Input"
    )


def check_output(
  source: str, model: tf.keras.Model, outputs: int, task: tasks.Task
) -> None:
  """Checks that a model gives what its task needs.

  Args:
    source: Where the model comes from, for errors.
    model: With inputs of fixed shape.
    outputs: Values wanted for each example.
    task: What they are for.

  Raises:
    InputError: With both shapes.
  """
  shape = tuple(model.outputs[0].shape)
  if shape != (None, outputs):
    what = "class" if task.has_classes else "input value"
    raise InputError(
      f"model {source}: its output is {shape}, needed is {(None, outputs)}, one for "
      f"each {what}; end it with Dense({outputs})"
    )


def check_loops(source: str, model: tf.keras.Model) -> None:
  """Refuses recurrent layers that would become loops in an exported file.

  TensorFlow 2.14's calibration crashes on such files, its float16 conversion takes tens
  of gigabytes, and fused layers keep their state from one inference to the next.

  Args:
    source: Where the model comes from, for errors.
    model: Functional.

  Raises:
    InputError: Naming the layer and its type.
  """
  for layer in model._flatten_layers(include_self=False):
    if isinstance(layer, tf.keras.layers.RNN) and not layer.unroll:
      raise InputError(
        f"model {source}: layer {layer.name!r} ({type(layer).__name__}) runs in a loop, "
        "which exported files cannot hold; build it with unroll=True"
      )


def check_finite(source: str, weights: Iterable[tuple[str, Array]]) -> None:
  """Checks that a file's weights are numbers.

  Args:
    source: Where the model comes from, for errors.
    weights: Layer names and arrays.

  Raises:
    InputError: Naming the layer.
  """
  broken: Optional[str] = next(
    (name for name, values in weights if not np.isfinite(values).all()), None
  )
  if broken is not None:
    raise InputError(
      f"model {source}: layer {broken!r} holds NaN or infinite weights; train it anew"
    )
