"""Where a Keras model's variables lie in the vectors that rounds work on.

Keras orders a model's variables by layer, `ModelWeights` by what becomes of them. The
layout leads from one to the other, so that weights can be handed over in Keras's order.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition, keras_graphs


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a variable lies.

  Attributes:
    vector: Field of `ModelWeights`.
    start: Index of its first value there.
    shape: Its shape.
  """

  vector: str
  start: int
  shape: tuple[int, ...]

  @property
  def slice(self) -> slice:
    """Its values within the vector."""
    return slice(self.start, self.start + math.prod(self.shape))


@dataclasses.dataclass(frozen=True)
class KerasLayout:
  """Where all variables lie, in Keras's order.

  Attributes:
    trainable: Places of `model.trainable_variables`.
    non_trainable: Places of `model.non_trainable_variables`.
  """

  trainable: tuple[Place, ...]
  non_trainable: tuple[Place, ...]

  def read(self, weights: ModelWeights) -> tuple[list[Array], list[Array]]:
    """Returns the values of trainable and of other variables, float32.

    Args:
      weights: Flat vectors, NumPy arrays.
    """
    trainable, others = (
      [
        np.array(getattr(weights, place.vector)[place.slice]).reshape(place.shape)
        for place in places
      ]
      for places in (self.trainable, self.non_trainable)
    )
    return trainable, others

  def write(
    self, trainable: Sequence[Array], non_trainable: Sequence[Array]
  ) -> ModelWeights:
    """Returns flat vectors, float32 NumPy arrays.

    Args:
      trainable: Values of `model.trainable_variables`.
      non_trainable: Values of `model.non_trainable_variables`.

    Raises:
      InputError: When they are of another model, or not finite.
    """
    places = (*self.trainable, *self.non_trainable)
    values = [np.asarray(each, np.float32) for each in (*trainable, *non_trainable)]
    found, wanted = [each.shape for each in values], [each.shape for each in places]
    if found != wanted:
      raise InputError(
        f"model weights of shapes {found} are not this model's, {wanted}; take them from "
        "a model that the same model_fn has made"
      )
    if not all(np.isfinite(each).all() for each in values):
      raise InputError("model weights hold NaN or infinite values; train them anew")
    sizes = dict.fromkeys(ModelWeights._fields, 0)
    for place in places:
      sizes[place.vector] = max(sizes[place.vector], place.slice.stop)
    vectors = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    for place, value in zip(places, values, strict=True):
      vectors[place.vector][place.slice] = value.ravel()
    return ModelWeights(**vectors)


@keras_graphs.sparing_eager_models()
def lay_out(model_definition: definition.ModelDefinition) -> KerasLayout:
  """Finds where the variables of a definition's model lie."""
  with tf.Graph().as_default():
    plain = model_definition.build()
    masked = tfmot_masking.MaskedModel(model_definition)
    place_of: dict[int, Place] = {}
    for vector, variables in masked.variables_of_vectors.items():
      start = 0
      for variable in variables:
        place = Place(vector, start, tuple(variable.shape.as_list()))
        place_of[id(variable)] = place
        start = place.slice.stop
    twins = {
      layer.name: layer.weights
      for layer in map(tfmot_masking.unwrapped, masked.model.layers)
    }
    places = {
      id(variable): place_of[id(twin)]
      for layer in plain.layers
      if layer.weights
      for variable, twin in zip(layer.weights, twins[layer.name], strict=True)
    }
    return KerasLayout(
      tuple(places[id(each)] for each in plain.trainable_variables),
      tuple(places[id(each)] for each in plain.non_trainable_variables),
    )
