"""Which of a model's prunable kernels a run prunes, by what the zeros are for."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import keras_graphs
from fedtiny_tff.model_structure.definition import ModelDefinition


def _any(model_definition: ModelDefinition) -> ModelDefinition:
  """Prunes every prunable layer: zeros save bytes wherever they are."""
  return model_definition


def _xnnpack(model_definition: ModelDefinition) -> ModelDefinition:
  """Prunes the 1×1 convolutions of stride 1, the only kernels that skip zeros on ARM.

  Source: `xnn_check_nchw_compatibility` in src/subgraph.c of
  https://github.com/google/XNNPACK.
  """
  names = _pointwise_layers(model_definition)
  if not names:
    raise InputError(
      f"model {model_definition.name!r} has no prunable 1×1 convolution of stride 1; "
      "choose another, or prune_for=any"
    )
  spec = model_definition.spec.restricted_to(names)
  return dataclasses.replace(model_definition, spec=spec)


@keras_graphs.sparing_eager_models()
def _pointwise_layers(model_definition: ModelDefinition) -> frozenset[str]:
  with tf.Graph().as_default():
    model = model_definition.build()
    return frozenset(
      layer.name
      for layer in (model.get_layer(x.name) for x in model_definition.spec.layers)
      if type(layer) is tf.keras.layers.Conv2D
      and (layer.kernel_size, layer.strides, layer.groups) == ((1, 1), (1, 1), 1)
    )


PRUNE_FOR: dict[str, Callable[[ModelDefinition], ModelDefinition]] = {
  "any": _any,
  "xnnpack": _xnnpack,
}


def prune_for(model_definition: ModelDefinition, purpose: str) -> ModelDefinition:
  """Returns a model of which only what serves a purpose is pruned.

  Args:
    model_definition: The model; blocks that lose all their layers are dropped.
    purpose: Key of `PRUNE_FOR`.

  Raises:
    InputError: When nothing would be left to prune.
  """
  return PRUNE_FOR[purpose](model_definition)
