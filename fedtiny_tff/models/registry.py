"""The models by name; each is imported when it is built."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from fedtiny_tff import suggestions
from fedtiny_tff.errors import InputError
from fedtiny_tff.plugins import Deferred

if TYPE_CHECKING:  # TensorFlow takes seconds to import and command lines read this.
  import tensorflow as tf

  from fedtiny_tff import tasks
  from fedtiny_tff.model_structure import definition

# Far above what any machine holds; beyond it TensorFlow's shapes overflow.
_LARGEST_WIDTH = 1000.0


@dataclasses.dataclass(frozen=True)
class ModelEntry:
  """A named architecture.

  Attributes:
    network: (inputs [None, ...], number of outputs, width multiplier) to outputs
      [None, outputs]; makes the layers, with the same names every time.
    blocks: Where `block_layers` are.
    smallest_side: Least height and width of the image; None where examples need not
      be images.
    task_name: Key of `tasks.TASKS`.
  """

  network: Callable[["tf.Tensor", int, float], "tf.Tensor"]
  blocks: Deferred
  smallest_side: Optional[int] = 1
  task_name: str = "classify"

  @property
  def block_layers(self) -> tuple[tuple[str, ...], ...]:
    """Prunable layers of each block, input to output."""
    layers: tuple[tuple[str, ...], ...] = self.blocks.load()
    return layers

  @property
  def task(self) -> "tasks.Task":
    """What the model is for."""
    from fedtiny_tff import tasks  # noqa: PLC0415

    return tasks.TASKS[self.task_name]


MODELS: dict[str, ModelEntry] = {
  "resnet18": ModelEntry(
    Deferred("fedtiny_tff.models.resnet:resnet18"),
    Deferred("fedtiny_tff.models.resnet:RESNET18_BLOCKS"),
  ),
  "vgg11_bn": ModelEntry(
    Deferred("fedtiny_tff.models.vgg:vgg11_bn"),
    Deferred("fedtiny_tff.models.vgg:BLOCKS"),
    # Each of five max-poolings halves, rounding down, and must find two rows and columns.
    smallest_side=32,
  ),
  "resnet8": ModelEntry(
    Deferred("fedtiny_tff.models.resnet:resnet8"),
    Deferred("fedtiny_tff.models.resnet:RESNET8_BLOCKS"),
  ),
  "ds_cnn": ModelEntry(
    Deferred("fedtiny_tff.models.ds_cnn:ds_cnn"),
    Deferred("fedtiny_tff.models.ds_cnn:BLOCKS"),
  ),
  "mobilenet_v1_025": ModelEntry(
    Deferred("fedtiny_tff.models.mobilenet_v1:mobilenet_v1_025"),
    Deferred("fedtiny_tff.models.mobilenet_v1:BLOCKS"),
  ),
  "mobilenet_v1_sparse": ModelEntry(
    Deferred("fedtiny_tff.models.mobilenet_v1:mobilenet_v1_sparse"),
    Deferred("fedtiny_tff.models.mobilenet_v1:BLOCKS"),
  ),
  "mobilenet_v2_sparse": ModelEntry(
    Deferred("fedtiny_tff.models.mobilenet_v2:mobilenet_v2_sparse"),
    Deferred("fedtiny_tff.models.mobilenet_v2:BLOCKS"),
  ),
  "small_cnn": ModelEntry(
    Deferred("fedtiny_tff.models.plain_cnn:small_cnn"),
    Deferred("fedtiny_tff.models.plain_cnn:SMALL_CNN_BLOCKS"),
  ),
  "digits_cnn": ModelEntry(
    Deferred("fedtiny_tff.models.plain_cnn:digits_cnn"),
    Deferred("fedtiny_tff.models.plain_cnn:DIGITS_CNN_BLOCKS"),
  ),
  "autoencoder": ModelEntry(
    Deferred("fedtiny_tff.models.autoencoder:autoencoder"),
    Deferred("fedtiny_tff.models.autoencoder:BLOCKS"),
    smallest_side=None,
    task_name="reconstruct",
  ),
}


def _shape_problem(entry: ModelEntry, input_shape: tuple[int, ...]) -> str:
  """Says why a model cannot be built for a shape; empty when it can."""
  least = entry.smallest_side
  if least is None:
    if not input_shape or min(input_shape) < 1:
      return "it needs one dimension or more, each of at least 1"
  elif len(input_shape) != 3:
    return (
      "it needs (height, width, channels); give examples such a shape (rows and windows "
      "of tables by --feature_shape), or take a model of your own, which may have any"
    )
  elif min(input_shape[:2]) < least or input_shape[2] < 1:
    return f"the smallest is {(least, least, 1)}"
  return ""


def _entry(name: str) -> ModelEntry:
  if name not in MODELS:
    raise InputError(
      f"unknown model {name!r}: choose one of {', '.join(MODELS)}"
      f"{suggestions.question(name, MODELS)}"
    )
  return MODELS[name]


def is_own(name: str) -> bool:
  """Whether a model is the user's, named by where it is to be found."""
  from fedtiny_tff.models import user_model  # noqa: PLC0415

  return name not in MODELS and user_model.is_own(name)


def task_of(name: str) -> "tasks.Task":
  """Returns what a model is for, before it is built.

  A user's model counts as classifying here; its definition has the last word.

  Raises:
    InputError: When the name is unknown.
  """
  from fedtiny_tff import tasks  # noqa: PLC0415

  return tasks.CLASSIFY if is_own(name) else _entry(name).task


def get_model(
  name: str,
  input_shape: tuple[int, ...],
  num_classes: Optional[int] = None,
  width: float = 1.0,
) -> "definition.ModelDefinition":
  """Returns a named model for the given data.

  Args:
    name: Key of `MODELS`; or the user's own, see `user_model.load`.
    input_shape: Shape of one example, (height, width, channels) for images.
    num_classes: Number of logits. Of no use to a model without classes, whatever
      the data set has: it is ignored.
    width: Multiplies every number of channels and hidden units; each is rounded
      half up to a whole number and is at least 1.

  Raises:
    InputError: When the name is unknown, the width is out of range or the model
      cannot be built for this input shape or number of classes.
  """
  import tensorflow as tf  # noqa: PLC0415

  from fedtiny_tff.model_structure import definition  # noqa: PLC0415
  from fedtiny_tff.models import user_model  # noqa: PLC0415

  if is_own(name):
    return user_model.load(name, input_shape, num_classes, width)
  entry = _entry(name)
  if not 0.0 < width <= _LARGEST_WIDTH:
    raise InputError(f"width must be in (0, {_LARGEST_WIDTH:g}], got {width:g}")
  problem = _shape_problem(entry, input_shape)
  if problem:
    raise InputError(
      f"model {name!r} cannot be built for input shape {input_shape}: {problem}"
    )
  outputs = entry.task.num_outputs(name, input_shape, num_classes)

  def build() -> "tf.keras.Model":
    inputs = tf.keras.Input(input_shape, name="image")
    return tf.keras.Model(inputs, entry.network(inputs, outputs, width), name=name)

  return definition.define_model(name, build, entry.block_layers, entry.task)
