"""The variables of a Keras model as flat vectors, masked ones apart from the others.

For models that are known by their variables alone, as a finished model's file gives
them; a `ModelDefinition` is not needed.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights


@dataclasses.dataclass(frozen=True)
class VariableLayout:
  """Where each variable lies.

  Attributes:
    shapes: Of the variables, in their order.
    masked: Which of them are masked; these lie in `ModelWeights.prunable`, one after
      another, all others in `ModelWeights.dense`.
  """

  shapes: tuple[tuple[int, ...], ...]
  masked: tuple[bool, ...]

  @property
  def sizes(self) -> ModelWeights:
    """Lengths of the vectors; those of batch norm are empty."""
    numbers = [int(np.prod(shape)) for shape in self.shapes]
    pairs = list(zip(numbers, self.masked, strict=True))
    prunable = sum(number for number, masked in pairs if masked)
    return ModelWeights(prunable, sum(numbers) - prunable, 0, 0)

  def split(self, weights: ModelWeights) -> list[tf.Tensor]:
    """Cuts the vectors into tensors of the variables' shapes, in their order."""
    left = {True: weights.prunable, False: weights.dense}
    tensors = []
    for shape, masked in zip(self.shapes, self.masked, strict=True):
      size = int(np.prod(shape))
      tensors.append(tf.reshape(left[masked][:size], shape))
      left[masked] = left[masked][size:]
    return tensors


def lay_out(
  model: tf.keras.Model,
  masks: Mapping[str, Array],
  constants: Sequence[Array] = (),
) -> tuple[VariableLayout, ModelWeights, Array]:
  """Lays a model's variables out.

  Args:
    model: Float variables only.
    masks: Layer name to bool array in the layout of that layer's kernel.
    constants: What else there is; laid out as variables after the model's own.

  Returns:
    The layout; the vectors, NumPy float32; and the mask, bool [masked weights].
  """
  mask_of = {
    id(model.get_layer(name).kernel): np.asarray(mask, bool)
    for name, mask in masks.items()
  }
  variables = [*model.variables, *constants]
  layout = VariableLayout(
    tuple(tuple(variable.shape) for variable in variables),
    tuple(id(variable) in mask_of for variable in variables),
  )
  vectors: dict[bool, list[Array]] = {True: [], False: []}
  flat_masks = []
  for variable, masked in zip(variables, layout.masked, strict=True):
    vectors[masked].append(np.asarray(variable, np.float32).ravel())
    if masked:
      flat_masks.append(mask_of[id(variable)].ravel())
  nothing = np.zeros(0, np.float32)
  prunable, dense = (
    np.concatenate([nothing, *vectors[kind]]) for kind in (True, False)
  )
  weights = ModelWeights(prunable, dense, nothing, nothing)
  return layout, weights, np.concatenate([np.zeros(0, bool), *flat_masks])
