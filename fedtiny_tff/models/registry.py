"""The models by name."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import definition, digits_cnn, resnet8


@dataclasses.dataclass(frozen=True)
class ModelEntry:
  """A named architecture.

  Attributes:
    build: (input_shape, num_classes) to a Keras model.
    block_layers: Prunable layers of each block, input to output.
  """

  build: Callable[[tuple[int, ...], int], tf.keras.Model]
  block_layers: tuple[tuple[str, ...], ...]


MODELS: dict[str, ModelEntry] = {
  "digits_cnn": ModelEntry(digits_cnn.build, digits_cnn.BLOCK_LAYERS),
  "resnet8": ModelEntry(resnet8.build, resnet8.BLOCK_LAYERS),
}


def get_model(
  name: str, input_shape: tuple[int, ...], num_classes: int
) -> definition.ModelDefinition:
  """Returns a named model for the given data.

  Args:
    name: Key of `MODELS`.
    input_shape: Shape of one example.
    num_classes: Number of logits.

  Raises:
    InputError: When the name is unknown or the model cannot be built for this
      input shape.
  """
  if name not in MODELS:
    raise InputError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
  entry = MODELS[name]
  try:
    return definition.define_model(
      name, lambda: entry.build(input_shape, num_classes), entry.block_layers
    )
  except InputError:
    raise
  except ValueError as error:
    raise InputError(
      f"model {name!r} cannot be built for input shape {input_shape}: "
      f"{str(error).splitlines()[0]}"
    ) from error
