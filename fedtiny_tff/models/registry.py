"""The models by name."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import (
  definition,
  ds_cnn,
  mobilenet_v1,
  mobilenet_v2,
  plain_cnn,
  resnet,
  vgg,
)

# Far above what any machine holds; beyond it TensorFlow's shapes overflow.
_LARGEST_WIDTH = 1000.0


@dataclasses.dataclass(frozen=True)
class ModelEntry:
  """A named architecture.

  Attributes:
    network: (image [None, height, width, channels], classes, width multiplier) to
      logits [None, classes]; makes the layers, with the same names every time.
    block_layers: Prunable layers of each block, input to output.
    smallest_side: Least height and width of the image.
  """

  network: Callable[[tf.Tensor, int, float], tf.Tensor]
  block_layers: tuple[tuple[str, ...], ...]
  smallest_side: int = 1


MODELS: dict[str, ModelEntry] = {
  "resnet18": ModelEntry(resnet.resnet18, resnet.RESNET18_BLOCKS),
  "vgg11_bn": ModelEntry(vgg.vgg11_bn, vgg.BLOCKS, vgg.SMALLEST_SIDE),
  "resnet8": ModelEntry(resnet.resnet8, resnet.RESNET8_BLOCKS),
  "ds_cnn": ModelEntry(ds_cnn.ds_cnn, ds_cnn.BLOCKS),
  "mobilenet_v1_025": ModelEntry(mobilenet_v1.mobilenet_v1_025, mobilenet_v1.BLOCKS),
  "mobilenet_v1_sparse": ModelEntry(
    mobilenet_v1.mobilenet_v1_sparse, mobilenet_v1.BLOCKS
  ),
  "mobilenet_v2_sparse": ModelEntry(
    mobilenet_v2.mobilenet_v2_sparse, mobilenet_v2.BLOCKS
  ),
  "small_cnn": ModelEntry(plain_cnn.small_cnn, plain_cnn.SMALL_CNN_BLOCKS),
  "digits_cnn": ModelEntry(plain_cnn.digits_cnn, plain_cnn.DIGITS_CNN_BLOCKS),
}


def _check(
  name: str, input_shape: tuple[int, ...], num_classes: int, width: float
) -> None:
  if name not in MODELS:
    raise InputError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
  if not 0.0 < width <= _LARGEST_WIDTH:
    raise InputError(f"width must be in (0, {_LARGEST_WIDTH:g}], got {width:g}")
  if num_classes < 1:
    raise InputError(f"model {name!r} needs at least 1 class, got {num_classes}")
  problem = ""
  least = MODELS[name].smallest_side
  if len(input_shape) != 3:
    problem = "it needs (height, width, channels)"
  elif min(input_shape[:2]) < least or input_shape[2] < 1:
    problem = f"the smallest is {(least, least, 1)}"
  if problem:
    raise InputError(
      f"model {name!r} cannot be built for input shape {input_shape}: {problem}"
    )


def get_model(
  name: str, input_shape: tuple[int, ...], num_classes: int, width: float = 1.0
) -> definition.ModelDefinition:
  """Returns a named model for the given data.

  Args:
    name: Key of `MODELS`.
    input_shape: Shape of one example, (height, width, channels).
    num_classes: Number of logits.
    width: Multiplies every number of channels and hidden units; each is rounded
      half up to a whole number and is at least 1.

  Raises:
    InputError: When the name is unknown, the width is out of range or the model
      cannot be built for this input shape or number of classes.
  """
  _check(name, input_shape, num_classes, width)
  entry = MODELS[name]

  def build() -> tf.keras.Model:
    image = tf.keras.Input(input_shape, name="image")
    return tf.keras.Model(image, entry.network(image, num_classes, width), name=name)

  return definition.define_model(name, build, entry.block_layers)
