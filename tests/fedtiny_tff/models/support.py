"""Models and their profiles, built once per test process."""

import functools
from typing import Optional

import tensorflow as tf

from fedtiny_tff.model_structure import definition, model_profile
from fedtiny_tff.models import registry

# The smallest data that every architecture is tried with unless it needs more.
TINY = {name: (9, 5, 2) for name in registry.MODELS} | {"vgg11_bn": (35, 32, 2)}


@functools.cache
def get_model(
  name: str, shape: tuple[int, ...], classes: Optional[int], width: float = 1.0
) -> definition.ModelDefinition:
  """Returns a model of the registry."""
  return registry.get_model(name, shape, classes, width)


@functools.cache
def profile(
  name: str, shape: tuple[int, ...], classes: Optional[int], width: float = 1.0
) -> model_profile.ModelProfile:
  """Returns a model's sizes."""
  return model_profile.profile_model(get_model(name, shape, classes, width))


@functools.cache
def graph_model(
  name: str, shape: tuple[int, ...], classes: Optional[int], width: float = 1.0
) -> tf.keras.Model:
  """Returns a Keras model whose variables have shapes but no values."""
  with tf.Graph().as_default():
    return get_model(name, shape, classes, width).build()


def blocks(found: definition.ModelDefinition) -> tuple[tuple[str, ...], ...]:
  """Returns the names of the layers of each block."""
  names = [layer.name for layer in found.spec.layers]
  return tuple(tuple(names[i] for i in block) for block in found.spec.blocks)


def sizes(found: definition.ModelDefinition) -> dict[str, int]:
  """Returns the weights of each prunable layer."""
  return {layer.name: layer.size for layer in found.spec.layers}
