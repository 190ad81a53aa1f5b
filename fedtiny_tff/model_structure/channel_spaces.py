"""Which axes of a model's variables run along the same channels.

A *channel space* is a set of channels that can only be kept or dropped wherever they
pass: in the kernels that make them, in the batch norms, depthwise kernels and sums they
go through, and in the kernels that read them. Layers that leave channels apart go on
with the space of their input, a sum joins the spaces of its inputs, a convolution or
dense layer begins a new one. The model's inputs and outputs are spaces that stay whole.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import keras_graphs
from fedtiny_tff.model_structure.definition import ModelDefinition

# Variables that are not trained, and the vectors that they lie in.
_STATISTICS = {
  "moving_mean": "batch_norm_mean",
  "moving_variance": "batch_norm_variance",
}


class Axis(NamedTuple):
  """An axis that runs along channels; place = repeat * channels + channel.

  Attributes:
    space: Index of the channel space.
    repeats: Positions that a Flatten has laid side by side; 1 without.
  """

  space: int
  repeats: int = 1


@dataclasses.dataclass(frozen=True)
class ChannelVariable:
  """A variable, and the channels along its axes.

  Attributes:
    layer: Name of its layer.
    name: Attribute of the layer.
    vector: Field of `ModelWeights` that it lies in.
    shape: Its shape.
    axes: For each axis the channels along it; None for positions of a kernel.
    makes_channels: Whether those of its last axis are made by it.
  """

  layer: str
  name: str
  vector: str
  shape: tuple[int, ...]
  axes: tuple[Optional[Axis], ...]
  makes_channels: bool = False

  @property
  def size(self) -> int:
    """Number of its values."""
    return math.prod(self.shape)

  @property
  def made_space(self) -> Optional[int]:
    """Index of the space that it makes the channels of; None if it makes none."""
    axis = self.axes[-1]
    return axis.space if self.makes_channels and axis is not None else None


@dataclasses.dataclass(frozen=True)
class ChannelSpaces:
  """The channels of a model.

  Attributes:
    channels: Number of channels of each space.
    is_whole: Whether the space keeps all of them, whatever is reduced.
    variables: Every variable, in the order in which `ModelWeights` holds those of each
      vector.
  """

  channels: tuple[int, ...]
  is_whole: tuple[bool, ...]
  variables: tuple[ChannelVariable, ...]


@keras_graphs.sparing_eager_models()
def find_spaces(model_definition: ModelDefinition) -> ChannelSpaces:
  """Follows a model's channels from its inputs to its outputs.

  Raises:
    InputError: Naming a layer of which it is not known what it does to channels.
  """
  with tf.Graph().as_default():
    model = model_definition.build()
    kernels = [layer.name for layer in model_definition.spec.layers]
    return _Analysis(kernels).run(model)


class _Analysis:
  """What is known of the layers visited so far."""

  def __init__(self, prunable_layers: Sequence[str]):
    """Takes the names of the layers whose kernels lie in the prunable vector."""
    self._prunable = list(prunable_layers)
    self._parents: list[int] = []
    self._channels: list[int] = []
    self._is_whole: list[bool] = []
    self._outputs: dict[str, Axis] = {}
    self._variables: list[ChannelVariable] = []

  def run(self, model: tf.keras.Model) -> ChannelSpaces:
    """Visits every layer after those that it reads."""
    for layer in model.layers:
      inputs = [self._outputs[each.name] for each in _layers_before(layer)]
      rule = _RULES.get(type(layer))
      if rule is None or getattr(layer, "data_format", None) == "channels_first":
        raise refusal(layer)
      known = len(self._variables)
      self._outputs[layer.name] = rule(self, layer, inputs)
      if len(self._variables) - known != len(layer.weights):
        raise refusal(layer)
    for name in model.output_names:
      self._is_whole[self.root(self._outputs[name].space)] = True
    return self._result()

  def begin(self, channels: int, is_whole: bool = False) -> Axis:
    """Returns a new space."""
    self._parents.append(len(self._parents))
    self._channels.append(channels)
    self._is_whole.append(is_whole)
    return Axis(self._parents[-1])

  def root(self, space: int) -> int:
    """Returns the first of the spaces that were joined with one."""
    while self._parents[space] != space:
      space = self._parents[space]
    return space

  def is_whole(self, axis: Axis) -> bool:
    """Tells whether all channels along an axis are sure to be kept."""
    return self._is_whole[self.root(axis.space)]

  def join(self, axes: Sequence[Axis]) -> Axis:
    """Makes one space of several, of equal numbers of channels."""
    roots = sorted({self.root(axis.space) for axis in axes})
    for root in roots[1:]:
      self._parents[root] = roots[0]
      self._is_whole[roots[0]] |= self._is_whole[root]
    return axes[0]._replace(space=roots[0])

  def hold(
    self,
    layer: tf.keras.layers.Layer,
    name: str,
    *along: Optional[Axis],
    makes_channels: bool = False,
  ) -> None:
    """Notes a variable, if the layer has it; channels run along its last axes."""
    variable = getattr(layer, name, None)
    if variable is None:
      return
    shape = tuple(variable.shape.as_list())
    axes = (None,) * (len(shape) - len(along)) + along
    is_prunable = name == "kernel" and layer.name in self._prunable
    self._variables.append(
      ChannelVariable(
        layer.name,
        name,
        "prunable" if is_prunable else _STATISTICS.get(name, "dense"),
        shape,
        axes,
        makes_channels,
      )
    )

  def _result(self) -> ChannelSpaces:
    """Numbers the spaces that are left in order of appearance."""
    roots = sorted({self.root(space) for space in range(len(self._parents))})
    numbers = {root: number for number, root in enumerate(roots)}

    def numbered(axis: Optional[Axis]) -> Optional[Axis]:
      return axis and axis._replace(space=numbers[self.root(axis.space)])

    variables = [
      dataclasses.replace(each, axes=tuple(map(numbered, each.axes)))
      for each in self._variables
    ]
    prunable = [each for each in variables if each.vector == "prunable"]
    prunable.sort(key=lambda each: self._prunable.index(each.layer))
    others = (each for each in variables if each.vector != "prunable")
    return ChannelSpaces(
      tuple(self._channels[root] for root in roots),
      tuple(self._is_whole[root] for root in roots),
      (*prunable, *others),
    )


def refusal(layer: tf.keras.layers.Layer) -> InputError:
  """Returns the error for a layer that no rule fits."""
  return InputError(
    f"layer {layer.name!r} ({type(layer).__name__}): what it does to channels is not "
    "known, so that none can be taken out; choose another model or strategy"
  )


def _layers_before(layer: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
  nodes = layer.inbound_nodes
  if len(nodes) != 1:
    raise refusal(layer)
  before = nodes[0].inbound_layers
  return list(before) if isinstance(before, list | tuple) else [before]


_Rule = Callable[[_Analysis, tf.keras.layers.Layer, list[Axis]], Axis]


def _input(spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]) -> Axis:
  del inputs
  return spaces.begin(layer.output.shape[-1], is_whole=True)


def _kernel(
  spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]
) -> Axis:
  """Reads all channels of its input and makes new ones: convolution and dense layer."""
  if getattr(layer, "groups", 1) != 1:
    raise refusal(layer)
  made = spaces.begin(layer.output.shape[-1])
  spaces.hold(layer, "kernel", inputs[0], made, makes_channels=True)
  spaces.hold(layer, "bias", made)
  return made


def _depthwise(
  spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]
) -> Axis:
  if layer.depth_multiplier != 1:
    raise refusal(layer)
  spaces.hold(layer, "depthwise_kernel", inputs[0], None)
  spaces.hold(layer, "bias", inputs[0])
  return inputs[0]


def _batch_norm(
  spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]
) -> Axis:
  if list(layer.axis) != [len(layer.output.shape) - 1]:
    raise refusal(layer)
  for name in ("gamma", "beta", "moving_mean", "moving_variance"):
    spaces.hold(layer, name, inputs[0])
  return inputs[0]


def _flatten(
  spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]
) -> Axis:
  del spaces
  positions = layer.input.shape[1:-1].num_elements()
  return inputs[0]._replace(repeats=inputs[0].repeats * positions)


def _add(spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]) -> Axis:
  lengths = {each.shape[-1] for each in layer.input}
  if len(lengths) > 1 or len({axis.repeats for axis in inputs}) > 1:
    raise refusal(layer)
  return spaces.join(inputs)


def _concatenate(
  spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]
) -> Axis:
  """Lays the model's inputs side by side: of these all channels are kept."""
  if not all(spaces.is_whole(axis) for axis in inputs):
    raise refusal(layer)
  return spaces.begin(layer.output.shape[-1], is_whole=True)


def _same(spaces: _Analysis, layer: tf.keras.layers.Layer, inputs: list[Axis]) -> Axis:
  del spaces, layer
  return inputs[0]


_RULES: dict[type, _Rule] = {
  tf.keras.layers.InputLayer: _input,
  tf.keras.layers.Conv2D: _kernel,
  tf.keras.layers.Dense: _kernel,
  tf.keras.layers.DepthwiseConv2D: _depthwise,
  tf.keras.layers.BatchNormalization: _batch_norm,
  tf.keras.layers.Flatten: _flatten,
  tf.keras.layers.Add: _add,
  tf.keras.layers.Concatenate: _concatenate,
  tf.keras.layers.ReLU: _same,
  tf.keras.layers.MaxPooling2D: _same,
  tf.keras.layers.AveragePooling2D: _same,
  tf.keras.layers.GlobalAveragePooling2D: _same,
  tf.keras.layers.GlobalMaxPooling2D: _same,
  tf.keras.layers.ZeroPadding2D: _same,
}
