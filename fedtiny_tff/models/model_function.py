"""A model that a Python function makes, as TFF's users write them.

The function is called twice. What both models hold alike was loaded or fixed by it, and
training starts from that; what differs was drawn at random, and is drawn anew from the
plan's seed, so that runs repeat.
"""

import dataclasses
import inspect
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition
from fedtiny_tff.model_structure.definition import ModelDefinition
from fedtiny_tff.models import user_model, user_model_checks

# What `definition.initialize` draws.
_DRAWN = ("kernel", "depthwise_kernel", "pointwise_kernel")


def admit(
  model_fn: Callable[..., Any],
  task: tasks.Task,
  block_layers: Sequence[Sequence[str]] = (),
  *arguments: float,
) -> ModelDefinition:
  """Admits what a function makes.

  Args:
    model_fn: Returns a Keras model, or a `ModelDefinition` of its own task and blocks.
    task: What Keras models are for.
    block_layers: As in `definition.define_model`; for Keras models.
    arguments: For `model_fn`.

  Raises:
    InputError: When it fails, returns something else, or a model that cannot be
      trained or pruned.
  """
  name = _name(model_fn)
  made = _call(name, model_fn, arguments)
  if isinstance(made, ModelDefinition):
    if block_layers:
      raise InputError(
        f"model {name}: is a ModelDefinition, which has blocks of its own; leave the "
        "plan's blocks out"
      )
    return made
  _check_kind(name, made)
  found = user_model.from_keras(name, made, task, block_layers)
  again = _call(name, model_fn, arguments)
  return dataclasses.replace(
    found, set_initial_weights=_starting_weights(found, made, again)
  )


def takes_width(model_fn: Callable[..., Any]) -> bool:
  """Whether a function can be called with a width multiplier, by position."""
  try:
    inspect.signature(model_fn).bind(1.0)
  except (TypeError, ValueError):
    return False
  return True


def _name(model_fn: Callable[..., Any]) -> str:
  if isinstance(model_fn, tf.keras.Model) or not callable(model_fn):
    raise InputError(
      f"model_fn must be a function that returns a Keras model, got "
      f"{type(model_fn).__name__}; write lambda: model for one at hand"
    )
  return str(getattr(model_fn, "__name__", "model")).strip("<>")


def _call(name: str, model_fn: Callable[..., Any], arguments: Sequence[float]) -> Any:
  # Names that Keras makes up must not depend on what was built before.
  tf.keras.backend.reset_uids()
  try:
    return model_fn(*arguments)
  except InputError:
    raise
  except Exception as error:
    reason = f"{type(error).__name__}: {error}"
    raise InputError(
      f"model {name}: {' '.join(reason.split())}; call the function by itself to see where"
    ) from error


def _check_kind(name: str, made: Any) -> None:
  """Holds a result to a Keras model; TFF's own wrappers are named.

  Raises:
    InputError: Saying what to return.
  """
  if isinstance(made, tf.keras.Model):
    return
  kind = type(made).__name__
  if type(made).__module__.startswith("tensorflow_federated."):
    raise InputError(
      f"model {name}: is TFF's {kind}, whose layers and loss are hidden; return the "
      "Keras model that tff.learning.models.from_keras_model wraps (the loss is that of "
      "the task)"
    )
  raise InputError(f"model {name}: returned {kind}; return a tf.keras.Model")


def _starting_weights(
  found: ModelDefinition, made: tf.keras.Model, again: tf.keras.Model
) -> Callable[[tf.keras.Model, int], None]:
  """Returns what gives a fresh model the weights that training starts from."""
  first, second = (
    user_model_checks.as_functional(found.name, model) for model in (made, again)
  )
  fixed: dict[tuple[str, int], Array] = {}
  others_drawn = False
  for layer, twin in zip(first.layers, second.layers, strict=True):
    values = zip(layer.get_weights(), twin.get_weights(), strict=True)
    for index, (value, other) in enumerate(values):
      if value.shape == other.shape and np.array_equal(value, other):
        fixed[layer.name, index] = value
      else:
        kernels = [id(getattr(layer, each, None)) for each in _DRAWN]
        others_drawn = others_drawn or id(layer.weights[index]) not in kernels
  user_model_checks.check_finite(
    found.name, ((name, value) for (name, _), value in fixed.items())
  )

  def set_initial_weights(fresh: tf.keras.Model, seed: int) -> None:
    if others_drawn:
      # Keras has no other way to draw them. Python's and NumPy's state it need not change.
      states = random.getstate(), np.random.get_state()
      tf.keras.utils.set_random_seed(zlib.crc32(str(seed).encode()))
      random.setstate(states[0])
      np.random.set_state(states[1])
      fresh.set_weights(found.build().get_weights())
    definition.initialize(fresh, seed)
    for (name, index), value in fixed.items():
      if any(each.name == name for each in fresh.layers):
        fresh.get_layer(name).weights[index].assign(value)

  return set_initial_weights
