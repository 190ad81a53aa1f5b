"""Models put together so that the server learns sums only, or private ones.

A model is looked at as how far it moved: weights as they are, batch-norm statistics in
units of the global model's deviation, so that their lengths can be bounded without
knowing the scale of the data.

    clients: parts of an update -> clip -> integers
    server:  secure sum -> noise -> mean -> model
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.private_sums import private_means, secure_sums
from fedtiny_tff.protection import guards, secure_config
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.protection.privacy import Privacy

# Keeps channels without any spread from counting without bounds.
LEAST_VARIANCE = 1e-3
# Noise must not make a variance vanish: it may fall to this share in a round.
LEAST_VARIANCE_SHARE = 0.25


class ModelParts(NamedTuple):
  """How far a model moved.

  Attributes:
    weights: float32 active values and other trainable parameters.
    batch_norm: float32 running means and second moments, in units of deviations and
      variances.
  """

  weights: tuple[tf.Tensor, tf.Tensor]
  batch_norm: tuple[tf.Tensor, tf.Tensor]


def parts_of(
  trained: messages.TrainedModel,
  received: messages.ModelValues,
  accepted: tf.Tensor,
) -> ModelParts:
  """Returns how far a client's model moved; not at all where it does not count.

  Args:
    trained: What it reports.
    received: What it was sent.
    accepted: float32, whether it counts.
  """
  moved = messages.offsets(trained, received)
  variance = received.batch_norm_variance + LEAST_VARIANCE
  parts = ModelParts(
    (moved.active_values, moved.dense),
    (moved.mean_offset / tf.sqrt(variance), moved.second_moment / variance),
  )
  return guards.blank_unless(accepted, parts)


def model_from(
  model: messages.SparseModel, mean: ModelParts, is_noisy: bool
) -> messages.TrainedModel:
  """Returns the mean model.

  Args:
    model: From which it moved.
    mean: How far.
    is_noisy: Whether variances have to be held.
  """
  (values, dense), (mean_offset, second_moment) = mean.weights, mean.batch_norm
  unit = model.batch_norm_variance + LEAST_VARIANCE
  moved = messages.TrainedModel(
    values, dense, mean_offset * tf.sqrt(unit), second_moment * unit
  )
  trained = messages.moved_by(model, moved)
  if not is_noisy:
    return trained
  least = LEAST_VARIANCE_SHARE * model.batch_norm_variance
  second = tf.maximum(trained.second_moment, tf.square(trained.mean_offset) + least)
  return trained._replace(second_moment=second)


def count_parts(channels: int, votes: bool) -> int:
  """Counts the things that a round reveals.

  Args:
    channels: Of batch-norm layers.
    votes: Whether clients vote.
  """
  return 1 + (channels > 0) + votes


def initialize_clip_norms(privacy: Privacy) -> tff.Computation:
  """Builds () to the first clip norms of the parts of a model, at the server."""
  first = (privacy.clip_norm,) * len(ModelParts._fields)

  @tff.tensorflow.computation()
  def norms() -> Any:
    return tuple(tf.constant(each, tf.float32) for each in first)

  @tff.federated_computation()
  def initialize() -> Any:
    return tff.federated_eval(norms, tff.SERVER)

  return initialize


def model_mean(
  aggregation: Aggregation,
  state_type: tff.Type,
  update_type: tff.Type,
  values_type: tff.Type,
  parts: int,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  """Builds how models become one.

  Args:
    aggregation: With privacy, secure sums or both.
    state_type: Of the server's state, before the round.
    update_type: Of what a client sends.
    values_type: Of what it received.
    parts: Things that the round reveals, see `count_parts`.

  Returns:
    From state, received values and reports to the mean (TrainedModel) at the server and
    what is remembered of it, None for nothing.
  """

  @tff.tensorflow.computation(update_type.model, values_type, np.float32)
  def split(
    trained: messages.TrainedModel, received: messages.ModelValues, accepted: tf.Tensor
  ) -> ModelParts:
    return parts_of(trained, received, accepted)

  parts_type = split.type_signature.result
  is_noisy = aggregation.privacy is not None

  @tff.tensorflow.computation(state_type, parts_type)
  def join(state: states.SparseState, mean: ModelParts) -> messages.TrainedModel:
    return model_from(state.model, mean, is_noisy)

  if is_noisy:
    averaged = _private_parts(aggregation, state_type, parts_type, parts)
  else:
    averaged = _secure_parts(aggregation, parts_type)

  def merge(state: Any, received: Any, report: Any) -> tuple[Any, Any]:
    accepted = report.verdict.accepted
    split_up = tff.federated_map(split, (report.update.model, received, accepted))
    mean, kept = averaged(state, split_up, report.update.weight)
    return tff.federated_map(join, (state, mean)), kept

  return merge


def _private_parts(
  aggregation: Aggregation, state_type: tff.Type, parts_type: tff.Type, parts: int
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  releases = [
    _private_part(aggregation, name, getattr(parts_type, name), parts)
    for name in ModelParts._fields
  ]

  @tff.tensorflow.computation(state_type)
  def clip_norms(state: states.SparseState) -> Any:
    return state.aggregation

  @tff.tensorflow.computation(state_type)
  def round_index(state: states.SparseState) -> tf.Tensor:
    return state.round_index

  def averaged(state: Any, value: Any, weight: Any) -> tuple[Any, Any]:
    del weight
    norms = tff.federated_map(clip_norms, state)
    index = tff.federated_map(round_index, state)
    released = [
      release(norms[number], index, value[number])
      for number, release in enumerate(releases)
    ]
    means, after = zip(*released, strict=True)
    return tff.federated_zip(ModelParts(*means)), tff.federated_zip(tuple(after))

  return averaged


def _private_part(
  aggregation: Aggregation, name: str, part_type: tff.Type, parts: int
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  """Builds a part's mean: from clip norm, round index and values, with the next norm."""
  privacy, secure = aggregation.privacy, aggregation.secure
  assert privacy is not None
  if not secure_sums.count_values(part_type):
    nothing = _nothing(part_type)
    return lambda norm, index, value: (tff.federated_eval(nothing, tff.SERVER), norm)
  summed = None
  if secure is not None:
    grid = secure.grid(secure_config.MODEL_LIMIT)
    summed = secure_sums.SecureFloatSum(secure, grid)
  mean = private_means.private_mean(
    private_means.update_query(privacy, parts),
    privacy.expected_clients,
    part_type,
    summed,
  )
  seed = private_means.round_seed(private_means.noise_seed(privacy, name))
  return lambda norm, index, value: mean(norm, tff.federated_map(seed, index), value)


def _nothing(empty_type: tff.Type) -> tff.Computation:
  """Builds () to a structure of tensors without elements."""

  @tff.tensorflow.computation()
  def nothing() -> Any:
    return tff.types.type_to_py_container(
      tff.types.structure_from_tensor_type_tree(
        lambda tensor: tf.zeros(tensor.shape, tensor.dtype), empty_type
      ),
      empty_type,
    )

  return nothing


def _secure_parts(
  aggregation: Aggregation, parts_type: tff.Type
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  mean = secure_mean(aggregation, parts_type, secure_config.MODEL_LIMIT)
  return lambda state, value, weight: (mean(value, weight), None)


def secure_mean(
  aggregation: Aggregation, value_type: tff.Type, limit: float
) -> Callable[[Any, Any], Any]:
  """Builds a mean by secure sums: from values and numbers of examples to the server's.

  Args:
    aggregation: With secure sums.
    value_type: Structure of float32 tensors.
    limit: Largest magnitude of their elements.
  """
  secure = aggregation.secure
  assert secure is not None
  largest = secure.largest_examples

  @tff.tensorflow.computation(value_type, np.float32)
  def weigh(value: Any, weight: tf.Tensor) -> Any:
    share = tf.minimum(weight / largest, 1.0)
    return tf.nest.map_structure(lambda each: each * share, value), share

  weighed_type = weigh.type_signature.result

  @tff.tensorflow.computation(weighed_type[0], np.float32)
  def divide(total: Any, shares: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda each: each / tf.maximum(shares, 1e-30), total)

  sum_values = secure_sums.secure_sum(secure, secure.grid(limit), weighed_type[0])
  sum_shares = secure_sums.secure_sum(secure, secure.wide_grid, weighed_type[1])

  def mean(value: Any, weight: Any) -> Any:
    weighed = tff.federated_map(weigh, (value, weight))
    return tff.federated_map(divide, (sum_values(weighed[0]), sum_shares(weighed[1])))

  return mean
