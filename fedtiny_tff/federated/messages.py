"""What crosses the network, and how many bytes it is.

All types are static, so the bytes of an exchange follow from the type alone.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import guards
from fedtiny_tff.sparsity import packing, positions
from fedtiny_tff.strategies.adjustment import Adjustment
from fedtiny_tff.tasks import Metrics


class SparseModel(NamedTuple):
  """A model as it travels to a client.

  Attributes:
    active_values: float32 [active weights], in order of position.
    positions: uint8 [bytes], where the active weights are, see `positions`.
    dense: float32 [other trainable parameters].
    batch_norm_mean: float32 [BN channels].
    batch_norm_variance: float32 [BN channels].
  """

  active_values: tf.Tensor
  positions: tf.Tensor
  dense: tf.Tensor
  batch_norm_mean: tf.Tensor
  batch_norm_variance: tf.Tensor


class ModelValues(NamedTuple):
  """A `SparseModel` less its positions: all that clients need that hold the mask.

  Attributes:
    active_values: float32 [active weights], in order of position.
    dense: float32 [other trainable parameters].
    batch_norm_mean: float32 [BN channels].
    batch_norm_variance: float32 [BN channels].
  """

  active_values: tf.Tensor
  dense: tf.Tensor
  batch_norm_mean: tf.Tensor
  batch_norm_variance: tf.Tensor


class UnpackedModel(NamedTuple):
  """A sparse model laid out dense.

  Attributes:
    weights: Flat vectors.
    mask: bool [prunable weights].
    places: int64 [active weights], where the mask is True.
  """

  weights: ModelWeights
  mask: tf.Tensor
  places: tf.Tensor


class RoundInstruction(NamedTuple):
  """What the server decides for a round.

  Attributes:
    round_index: int32, from 0; seeds the clients' randomness.
    learning_rate: float32.
    counts: int32 [layers of the active block], weights, or groups of them, to move;
      empty in a round without adjustment.
  """

  round_index: tf.Tensor
  learning_rate: tf.Tensor
  counts: tf.Tensor


class TrainedModel(NamedTuple):
  """A client's model as it travels back; the server knows the positions.

  BN statistics are sent about the global mean, so that averaging them keeps the
  variance between clients without cancellation.

  Attributes:
    active_values: float32 [active weights]; empty where the adjustment
      `replaces_weights`.
    dense: float32 [other trainable parameters].
    mean_offset: float32 [BN channels], local minus global running mean.
    second_moment: float32 [BN channels], local variance plus squared offset.
  """

  active_values: tf.Tensor
  dense: tf.Tensor
  mean_offset: tf.Tensor
  second_moment: tf.Tensor


class ClientUpdate(NamedTuple):
  """Everything a client sends in a round.

  Attributes:
    model: The trained model.
    weight: float32, number of training examples.
    metrics: Training metrics summed over the client's steps.
    statistics: What the strategy asks for at an adjustment; otherwise empty.
  """

  model: TrainedModel
  weight: tf.Tensor
  metrics: Metrics
  statistics: tuple[Any, ...]


class ClientReport(NamedTuple):
  """What the server has of a client after it has looked at it.

  Attributes:
    update: What the client sent; zeros where it does not count.
    verdict: Whether it counts, and if not, why.
  """

  update: ClientUpdate
  verdict: guards.Verdict


class RoundSums(NamedTuple):
  """What a round adds up over its clients.

  Attributes:
    metrics: Of those that count.
    verdict: How many count, and how many do not for which reason.
  """

  metrics: Metrics
  verdict: guards.Verdict


class RoundMetrics(NamedTuple):
  """The same, without structure; all float32.

  Attributes:
    loss_sum: See `Metrics`.
    correct: See `Metrics`.
    examples: See `Metrics`.
    accepted: See `guards.Verdict`.
    not_finite: See `guards.Verdict`.
    wrong_count: See `guards.Verdict`.
    outlandish: See `guards.Verdict`.
  """

  loss_sum: np.float32
  correct: np.float32
  examples: np.float32
  accepted: np.float32
  not_finite: np.float32
  wrong_count: np.float32
  outlandish: np.float32


def offsets(trained: TrainedModel, received: ModelValues) -> TrainedModel:
  """Returns how far each part of a model moved.

  Args:
    trained: What a client reports; without active values these did not move.
    received: What it was sent.
  """
  values = trained.active_values
  if values.shape[0] == received.active_values.shape[0]:
    values = values - received.active_values
  return TrainedModel(
    values,
    trained.dense - received.dense,
    trained.mean_offset,
    trained.second_moment - received.batch_norm_variance,
  )


def moved_by(model: SparseModel, moved: TrainedModel) -> TrainedModel:
  """Returns what a model became; the inverse of `offsets`.

  Args:
    model: Before.
    moved: How far each part of it moved.
  """
  values = moved.active_values
  if values.shape[0] == model.active_values.shape[0]:
    values = values + model.active_values
  return TrainedModel(
    values,
    moved.dense + model.dense,
    moved.mean_offset,
    moved.second_moment + model.batch_norm_variance,
  )


def pack_model(weights: ModelWeights, mask: tf.Tensor, active: int) -> SparseModel:
  """Turns dense vectors into their sparse form with `active` values."""
  code = positions.smallest_code(mask.shape[0], active)
  return SparseModel(
    packing.gather_active(weights.prunable, mask, active),
    code.encode(mask),
    weights.dense,
    weights.batch_norm_mean,
    weights.batch_norm_variance,
  )


def unpack_model(model: SparseModel, size: int) -> UnpackedModel:
  """Turns a sparse model back into dense vectors of `size`."""
  code = positions.smallest_code(size, model.active_values.shape[0])
  places = code.decode(model.positions)
  weights = ModelWeights(
    packing.scatter(model.active_values, places, size),
    model.dense,
    model.batch_norm_mean,
    model.batch_norm_variance,
  )
  return UnpackedModel(weights, positions.mask_at(places, size), places)


def without_positions(model: SparseModel) -> ModelValues:
  """Leaves out where the active weights are."""
  return ModelValues(*(getattr(model, name) for name in ModelValues._fields))


def with_positions(values: ModelValues, positions_: tf.Tensor) -> SparseModel:
  """Puts back where the active weights are."""
  return SparseModel(positions=positions_, **values._asdict())


def _vector(dtype: type, *shape: int) -> tff.TensorType:
  return tff.TensorType(dtype, shape)


def positions_type(sizes: ModelWeights, active: int) -> tff.Type:
  """Type of what says where the active weights are."""
  code = positions.smallest_code(sizes.prunable, active)
  return _vector(np.uint8, code.encoded_bytes)


def sparse_model_type(sizes: ModelWeights, active: int) -> tff.Type:
  """Type of a model on its way to a client."""
  return tff.types.to_type(
    SparseModel(
      _vector(np.float32, active),
      positions_type(sizes, active),
      _vector(np.float32, sizes.dense),
      _vector(np.float32, sizes.batch_norm_mean),
      _vector(np.float32, sizes.batch_norm_variance),
    )
  )


def reference_type() -> tff.Type:
  """Type of what says where a client's records lie."""
  return tff.types.to_type(ClientReference(*([tff.TensorType(np.int64)] * 4)))


def model_values_type(sizes: ModelWeights, active: int) -> tff.Type:
  """Type of a model's values on their way to a client."""
  return tff.types.to_type(
    ModelValues(
      _vector(np.float32, active),
      _vector(np.float32, sizes.dense),
      _vector(np.float32, sizes.batch_norm_mean),
      _vector(np.float32, sizes.batch_norm_variance),
    )
  )


def instruction_type(adjusted_layers: int) -> tff.Type:
  """Type of what the server decides for a round that adjusts so many layers."""
  return tff.types.to_type(
    RoundInstruction(
      tff.TensorType(np.int32),
      tff.TensorType(np.float32),
      _vector(np.int32, adjusted_layers),
    )
  )


def statistics_type(adjustment: Adjustment) -> tff.Type:
  """Type of what clients send for an adjustment beside their model."""
  return tff.types.to_type(
    tf.nest.map_structure(
      lambda spec: _vector(spec.dtype.as_numpy_dtype, *spec.shape.as_list()),
      adjustment.statistics_specs(),
    )
  )


def client_update_type(
  sizes: ModelWeights, active: int, statistics: tff.Type
) -> tff.Type:
  """Type of everything a client sends in a round.

  Args:
    sizes: Vector lengths of the model.
    active: Weights that it sends by themselves.
    statistics: What the strategy asks for; an empty structure in ordinary rounds.
  """
  trained = TrainedModel(
    _vector(np.float32, active),
    _vector(np.float32, sizes.dense),
    _vector(np.float32, sizes.batch_norm_mean),
    _vector(np.float32, sizes.batch_norm_variance),
  )
  weight = tff.TensorType(np.float32)
  metrics = Metrics(*([tff.TensorType(np.float32)] * len(Metrics._fields)))
  return tff.types.to_type(ClientUpdate(trained, weight, metrics, statistics))


def size_bytes(message_type: tff.Type) -> int:
  """Counts the payload of a message from its type.

  Args:
    message_type: Tensors of static shape, in any structure, with or without a
      placement.

  Raises:
    ValueError: When a shape is not static.
  """
  if isinstance(message_type, tff.FederatedType):
    return size_bytes(message_type.member)
  if isinstance(message_type, tff.StructType):
    return sum(size_bytes(element) for element in message_type.children())
  if not isinstance(message_type, tff.TensorType) or message_type.shape is None:
    raise ValueError(f"not a message of static size: {message_type}")
  if any(dimension is None for dimension in message_type.shape):
    raise ValueError(f"not a message of static size: {message_type}")
  return int(math.prod(message_type.shape)) * np.dtype(message_type.dtype).itemsize
