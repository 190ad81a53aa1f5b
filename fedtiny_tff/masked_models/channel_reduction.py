"""A physically smaller model inside a larger one: the same layers, fewer channels.

Of each channel space (`channel_spaces`) as many channels are kept as the small model
has. `kept` says which: for one space after the other, but for those that stay whole,
indices in ascending order. Everything here is TensorFlow ops, eager or in a graph.
"""

import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import channel_spaces
from fedtiny_tff.model_structure.channel_spaces import ChannelSpaces, ChannelVariable
from fedtiny_tff.model_structure.definition import ModelDefinition
from fedtiny_tff.sparsity import packing


class Reduction:
  """How a small model's variables lie in those of the full one.

  Attributes:
    full: The model that channels are chosen from.
    definition: The small model.
  """

  def __init__(self, full: ModelDefinition, definition: ModelDefinition):
    """Compares the two.

    Args:
      full: The model that channels are chosen from.
      definition: The same architecture with fewer channels.

    Raises:
      InputError: When a layer is of a kind that channels cannot be followed through,
        or the small model is not the full one with fewer channels.
    """
    self.full = full
    self.definition = definition
    self._spaces = channel_spaces.find_spaces(full)
    small = channel_spaces.find_spaces(definition)
    _check(self._spaces, small, definition)
    self._counts = small.channels

  def reduce(self, weights: ModelWeights) -> tuple[ModelWeights, tf.Tensor]:
    """Chooses channels; returns the small model's weights, and which are kept."""
    kept = self.choose(weights)
    return self.gather(weights, kept), kept

  def choose(self, weights: ModelWeights) -> tf.Tensor:
    """Keeps in each space the channels of largest norm.

    A channel's norm is the Euclidean norm of the weights that make it, summed over all
    kernels that do: several where their outputs are added. What is not a number counts
    as 0; of equal norms the one at the lower index wins.

    Args:
      weights: Of the full model.

    Returns:
      `kept`, int32.
    """
    norms = [tf.zeros([count], tf.float64) for count in self._spaces.channels]
    for variable, start in self._placed():
      space = variable.made_space
      if space is None:
        continue
      kernel = getattr(weights, variable.vector)[start : start + variable.size]
      columns = tf.reshape(tf.cast(kernel, tf.float64), [-1, variable.shape[-1]])
      # Squares of small float32 weights are zero in float32.
      norms[space] += tf.sqrt(tf.reduce_sum(tf.square(columns), axis=0))
    chosen = [tf.zeros([0], tf.int32)]
    for space in self._chosen_spaces:
      norm = norms[space]
      score = tf.where(tf.math.is_nan(norm), tf.zeros_like(norm), norm)
      best = tf.math.top_k(score, k=self._counts[space]).indices
      chosen.append(tf.sort(best))
    return tf.concat(chosen, 0)

  def gather(self, weights: ModelWeights, kept: tf.Tensor) -> ModelWeights:
    """Takes the small model's weights out of the full model's."""
    pairs = zip(weights, self._places(kept), strict=True)
    return ModelWeights(*(tf.gather(vector, places) for vector, places in pairs))

  def scatter(
    self, weights: ModelWeights, kept: tf.Tensor, small: ModelWeights
  ) -> ModelWeights:
    """Puts the small model's weights back; all others stay as they are.

    Args:
      weights: Of the full model.
      kept: The channels that the small model has.
      small: Its weights.
    """
    return ModelWeights(
      *(
        tf.tensor_scatter_nd_update(vector, places[:, tf.newaxis], values)
        for vector, places, values in zip(
          weights, self._places(kept), small, strict=True
        )
      )
    )

  def mask(self, kept: tf.Tensor) -> tf.Tensor:
    """Returns where in the full model the small one's prunable weights are.

    Returns:
      bool [prunable weights of the full model].
    """
    places = self._places(kept).prunable
    return packing.scatter(tf.ones_like(places, tf.bool), places, self.full.spec.size)

  @property
  def _chosen_spaces(self) -> list[int]:
    return [i for i, is_whole in enumerate(self._spaces.is_whole) if not is_whole]

  def _placed(self) -> Iterator[tuple[ChannelVariable, int]]:
    """Yields every variable of the full model and where it begins in its vector."""
    ends = dict.fromkeys(ModelWeights._fields, 0)
    for variable in self._spaces.variables:
      yield variable, ends[variable.vector]
      ends[variable.vector] += variable.size

  def _places(self, kept: tf.Tensor) -> ModelWeights:
    """Returns where in each full vector the small one's values are, int32."""
    chosen = self._chosen_spaces
    parts = tf.split(kept, [self._counts[space] for space in chosen]) if chosen else []
    channels = dict(zip(chosen, parts, strict=True))
    places: dict[str, list[tf.Tensor]] = {
      name: [tf.zeros([0], tf.int32)] for name in ModelWeights._fields
    }
    for variable, start in self._placed():
      index = tf.zeros([], tf.int32)
      for length, axis in zip(variable.shape, variable.axes, strict=True):
        along = tf.range(length)
        if axis is not None and axis.space in channels:
          firsts = tf.range(axis.repeats) * self._spaces.channels[axis.space]
          along = tf.reshape(firsts[:, tf.newaxis] + channels[axis.space], [-1])
        index = index[..., tf.newaxis] * length + along
      places[variable.vector].append(start + tf.reshape(index, [-1]))
    return ModelWeights(*(tf.concat(found, 0) for found in places.values()))


def _check(
  full: ChannelSpaces, small: ChannelSpaces, definition: ModelDefinition
) -> None:
  """Makes sure that one model is the other with fewer channels.

  Raises:
    InputError: When they have other layers, or channels that do not fit.
  """
  reason = ""
  shared = [list(map(_without_channels, spaces.variables)) for spaces in (full, small)]
  if shared[0] != shared[1] or full.is_whole != small.is_whole:
    reason = "its layers are joined in another way than the wider model's"
  for number, (most, count) in enumerate(
    zip(full.channels, small.channels, strict=False)
  ):
    if count > most or (full.is_whole[number] and count != most):
      reason = reason or f"{count} channels cannot be chosen from {most}"
  if reason:
    raise InputError(
      f"model {definition.name!r} so narrow cannot be cut out of the wider one: "
      f"{reason}; raise the target density or choose another model"
    )


def _without_channels(variable: ChannelVariable) -> ChannelVariable:
  """Returns a variable with lengths only where no channels run."""
  pairs = zip(variable.shape, variable.axes, strict=True)
  shape = tuple(0 if axis else length for length, axis in pairs)
  return dataclasses.replace(variable, shape=shape)
