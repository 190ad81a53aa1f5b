"""The user's own Keras model: a `.keras` file, or a Python function that makes one.

Whatever it comes from, it is turned into a configuration of Keras layers, from which
`build` makes the same layers again and again. A softmax at the end is taken off:
losses and exports work on logits.
"""

import copy
import dataclasses
import os
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from fedtiny_tff import plugins, tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition, keras_graphs
from fedtiny_tff.model_structure.definition import ModelDefinition
from fedtiny_tff.models import keras_archive, user_model_checks

_FILE = ".keras"
_REFUSED_FILES = (".h5", ".hdf5", ".pkl", ".pickle", ".pb", ".tflite")


def is_own(name: str) -> bool:
  """Whether a model is named by where it is to be found."""
  return bool(
    name.endswith((_FILE, *_REFUSED_FILES))
    or plugins.is_entry_point(name)
    or os.path.isdir(name)
  )


def load(
  name: str, input_shape: tuple[int, ...], num_classes: Optional[int], width: float
) -> ModelDefinition:
  """Admits a user's model.

  Args:
    name: Path of a `.keras` file, or `package.module:function`.
    input_shape: Shape of one example.
    num_classes: Number of classes.
    width: Must be 1: nobody knows which numbers to multiply.

  Returns:
    A definition. Training starts from a file's weights; those of an entry point are
    drawn from the run's seed.

  Raises:
    InputError: When it cannot be loaded, trained, pruned or exported.
  """
  if width != 1.0:
    raise InputError(
      f"width {width:g} cannot be applied to {name}, which is your own model: leave "
      "width out"
    )
  if _is_refused(name):
    raise InputError(
      f"model {name}: only the Keras format is read, because others can run code of "
      "their own; save it with model.save('FILE.keras')"
    )
  if name.endswith(_FILE):
    return _from_file(name, input_shape, num_classes)
  return _from_entry_point(name, input_shape, num_classes)


def _is_refused(name: str) -> bool:
  return name.endswith(_REFUSED_FILES) or os.path.isdir(name)


def _from_file(
  name: str, input_shape: tuple[int, ...], num_classes: Optional[int]
) -> ModelDefinition:
  model = keras_archive.read(pathlib.Path(name))
  weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
  build = _checked_build(name, model, tasks.CLASSIFY, input_shape, num_classes)
  user_model_checks.check_finite(
    name, ((layer, part) for layer, parts in weights.items() for part in parts)
  )

  def set_weights(fresh: tf.keras.Model, seed: int) -> None:
    del seed  # Nothing is drawn.
    for layer, values in weights.items():
      fresh.get_layer(layer).set_weights(values)

  found = definition.define_model(name, build)
  return _wrappable(dataclasses.replace(found, set_initial_weights=set_weights))


def _from_entry_point(
  name: str, input_shape: tuple[int, ...], num_classes: Optional[int]
) -> ModelDefinition:
  function = plugins.load_entry_point("model", name)
  # Names that Keras makes up must not depend on what was built before.
  tf.keras.backend.reset_uids()
  made = plugins.call_own("model", name, lambda: function(input_shape, num_classes))
  task = tasks.CLASSIFY
  if isinstance(made, ModelDefinition):
    task = made.task
    tf.keras.backend.reset_uids()
    model = plugins.call_own("model", name, made.build)
    _check_spec(name, made, model)
  elif isinstance(made, tf.keras.Model):
    model = made
  else:
    raise InputError(
      f"model {name}: returned {type(made).__name__}; return a tf.keras.Model or a "
      "ModelDefinition"
    )
  build = _checked_build(name, model, task, input_shape, num_classes)
  if isinstance(made, ModelDefinition):
    build = definition.without_learning_phase(build)
    found = dataclasses.replace(made, name=name, build=build)
  else:
    found = definition.define_model(name, build)

  def draw(fresh: tf.keras.Model, seed: int) -> None:
    # What the definition draws are kernels; layers may have other random variables.
    tf.keras.utils.set_random_seed(zlib.crc32(str(seed).encode()))
    fresh.set_weights(build().get_weights())
    found.set_initial_weights(fresh, seed)

  return _wrappable(dataclasses.replace(found, set_initial_weights=draw))


def from_keras(
  name: str,
  model: tf.keras.Model,
  task: tasks.Task,
  block_layers: Sequence[Sequence[str]] = (),
) -> ModelDefinition:
  """Admits a Keras model that is at hand.

  Args:
    name: What it is called in errors and reports.
    model: Sequential or functional, with an input of fixed shape.
    task: What it is for.
    block_layers: As in `definition.define_model`.

  Returns:
    A definition of which training starts from weights drawn from the run's seed.

  Raises:
    InputError: When it cannot be trained or pruned.
  """
  functional = user_model_checks.as_functional(name, model)
  ends = [
    tuple(tensor.shape)[1:] for tensor in (*functional.inputs, *functional.outputs)
  ]
  if any(None in shape for shape in ends):
    raise InputError(
      f"model {name}: has input {ends[0]} and output {ends[1]}; give tf.keras.Input "
      "every size of an example"
    )
  outputs = ends[1][-1] if ends[1] else None
  build = _checked_build(name, functional, task, ends[0], outputs)
  try:
    return _wrappable(definition.define_model(name, build, block_layers, task))
  except InputError:
    raise
  except ValueError as error:
    raise InputError(str(error)) from error


def _check_spec(name: str, made: ModelDefinition, model: tf.keras.Model) -> None:
  """Checks that a definition's prunable layers are in the model it builds."""
  kernels = {x.name: getattr(x, "kernel", None) for x in model.layers}
  for layer in made.spec.layers:
    kernel = kernels.get(layer.name)
    if kernel is None or tuple(kernel.shape) != layer.shape:
      raise InputError(
        f"model {name}: layer {layer.name!r} of its blocks is not the same at every "
        "build; give every layer a name"
      )


def _checked_build(
  name: str,
  model: tf.keras.Model,
  task: tasks.Task,
  input_shape: tuple[int, ...],
  num_classes: Optional[int],
) -> Callable[[], tf.keras.Model]:
  """Checks a model and returns what makes it anew, for inputs of fixed shape."""
  functional = user_model_checks.as_functional(name, model)
  user_model_checks.check_layers(name, functional)
  user_model_checks.check_input(name, functional, input_shape)
  config = functional.get_config()
  keras_archive.check_config(name, {"class_name": "Functional", "config": config})
  _fix_input(config, input_shape)
  if task.has_classes:
    _take_off_softmax(name, config)

  def build() -> tf.keras.Model:
    return tf.keras.Model.from_config(copy.deepcopy(config))

  with tf.Graph().as_default():
    built = plugins.call_own("model", name, build)
  user_model_checks.check_output(
    name, built, task.num_outputs(name, input_shape, num_classes), task
  )
  return build


def _fix_input(config: dict[str, Any], input_shape: tuple[int, ...]) -> None:
  """Gives the input every dimension's size, and lets the layers follow."""
  for layer in config["layers"]:
    layer.pop("build_config", None)
    if layer["class_name"] == "InputLayer":
      layer["config"]["batch_input_shape"] = (None, *input_shape)


def _take_off_softmax(name: str, config: dict[str, Any]) -> None:
  """Makes a model end in logits."""
  (output,) = config["output_layers"]
  last = next(layer for layer in config["layers"] if layer["name"] == output[0])
  activation = last["config"].get("activation")
  if isinstance(activation, dict):
    activation = str(activation.get("class_name")).lower()
  if activation == "sigmoid":
    raise InputError(
      f"model {name}: layer {last['name']!r} ({last['class_name']}) ends it in sigmoid; "
      "end it in logits or softmax, one for each class"
    )
  if last["class_name"] == "Softmax" or (
    last["class_name"] == "Activation" and activation == "softmax"
  ):
    ((before,),) = last["inbound_nodes"]
    config["layers"].remove(last)
    config["output_layers"] = [list(before[:3])]
  elif activation == "softmax":
    last["config"]["activation"] = "linear"


@keras_graphs.sparing_eager_models()
def _wrappable(found: ModelDefinition) -> ModelDefinition:
  """Returns a definition whose masks tfmot can apply.

  Raises:
    InputError: With what tfmot says.
  """
  plugins.call_own("model", found.name, lambda: tfmot_masking.vector_sizes(found))
  return found
