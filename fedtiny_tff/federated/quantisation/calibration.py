"""Activation ranges from the clients: what integer files need, and nothing more.

The server sends the finished model; every client computes it on its own training
examples and sends back the smallest and the largest value of each activation tensor.
For percentiles the server sends the joint ranges out, and gets counts of values per
part of each range. The server sees minima, maxima and sums of counts over the clients
of the cohort.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages
from fedtiny_tff.masked_models import activation_ranges
from fedtiny_tff.masked_models.activation_ranges import BINS, Ranges
from fedtiny_tff.masked_models.variable_layout import VariableLayout

# From inputs, float32 [n, ...], and the model's variables to its activation tensors.
ModelActivations = Callable[[tf.Tensor, Sequence[tf.Tensor]], Sequence[tf.Tensor]]


class RangesAndCounts(NamedTuple):
  """What the server learns where percentiles are wanted.

  Attributes:
    ranges: Joint ranges of all clients.
    counts: int64 [tensors, BINS], summed over all clients.
  """

  ranges: Ranges
  counts: tf.Tensor


@dataclasses.dataclass(frozen=True)
class MeasuredModel:
  """A model whose activations clients measure.

  Attributes:
    activations: Computes them in the graph it is called in.
    tensors: How many there are.
    layout: Of the model's variables.
    active: Unpruned weights among the masked variables.
  """

  activations: ModelActivations
  tensors: int
  layout: VariableLayout
  active: int

  @property
  def message_type(self) -> tff.Type:
    """Type of the model on its way to a client, a `SparseModel`."""
    return messages.sparse_model_type(self.layout.sizes, self.active)


@dataclasses.dataclass(frozen=True)
class FederatedCalibration:
  """A calibration and what it costs a client.

  Attributes:
    computation: (SparseModel@SERVER, {ClientReference}@CLIENTS) to Ranges@SERVER, or
      to RangesAndCounts@SERVER with counts.
    upload_bytes: Sent by a client.
    download_bytes: Received by a client.
  """

  computation: tff.Computation
  upload_bytes: int
  download_bytes: int


def ranges_type(tensors: int) -> tff.Type:
  """Type of the ranges of so many tensors."""
  vector = tff.TensorType(np.float32, [tensors])
  return tff.types.to_type(Ranges(vector, vector))


def build_calibration(
  model: MeasuredModel,
  store: client_store.ClientStore,
  *,
  samples: int,
  batch_size: int,
  counts: bool,
) -> FederatedCalibration:
  """Builds the measurement of activation ranges.

  Args:
    model: The model.
    store: Where clients read their records.
    samples: The first so many of a client's training examples count; 0 is all.
    batch_size: Examples at a time; has no influence on the result.
    counts: Whether values are counted too.
  """
  measure = _build_measure(model, store, samples, batch_size)
  count = _build_count(model, store, samples, batch_size)
  upload = measure.type_signature.result
  download = model.message_type

  @tff.federated_computation(
    tff.FederatedType(download, tff.SERVER),
    tff.FederatedType(messages.reference_type(), tff.CLIENTS),
  )
  def ranges_only(sent: Any, clients: Any) -> Any:
    found = tff.federated_map(measure, (clients, tff.federated_broadcast(sent)))
    return _joint(found)

  @tff.federated_computation(
    tff.FederatedType(download, tff.SERVER),
    tff.FederatedType(messages.reference_type(), tff.CLIENTS),
  )
  def ranges_and_counts(sent: Any, clients: Any) -> Any:
    received = tff.federated_broadcast(sent)
    ranges = _joint(tff.federated_map(measure, (clients, received)))
    within = tff.federated_broadcast(ranges)
    counted = tff.federated_map(count, (clients, received, within))
    return tff.federated_zip(RangesAndCounts(ranges, tff.federated_sum(counted)))

  sizes = [messages.size_bytes(upload), messages.size_bytes(download)]
  if not counts:
    return FederatedCalibration(ranges_only, *sizes)
  sizes[0] += messages.size_bytes(count.type_signature.result)
  sizes[1] += messages.size_bytes(upload)
  return FederatedCalibration(ranges_and_counts, *sizes)


def _joint(found: Any) -> Any:
  """Returns the ranges that cover those of all clients, at the server."""
  return tff.federated_zip(
    Ranges(tff.federated_min(found.minimum), tff.federated_max(found.maximum))
  )


def _client_side(
  model: MeasuredModel,
  store: client_store.ClientStore,
  samples: int,
  client: client_store.ClientReference,
  sent: messages.SparseModel,
) -> tuple[activation_ranges.Activations, tf.Tensor]:
  """Returns a client's activations, as a function of its records, and the records."""
  unpacked = messages.unpack_model(sent, model.layout.sizes.prunable)
  variables = model.layout.split(unpacked.weights)
  count = client.training_examples
  if samples:
    count = tf.minimum(count, samples)

  def activations(records: tf.Tensor) -> Sequence[tf.Tensor]:
    inputs, _ = store.decode(records)
    return model.activations(inputs, variables)

  return activations, store.read(client.first_record, count)


def _build_measure(
  model: MeasuredModel, store: client_store.ClientStore, samples: int, batch_size: int
) -> tff.Computation:
  """Builds (ClientReference, SparseModel) to Ranges."""
  side = functools.partial(_client_side, model, store, samples)

  @tff.tensorflow.computation(messages.reference_type(), model.message_type)
  def measure(
    client: client_store.ClientReference, sent: messages.SparseModel
  ) -> Ranges:
    activations, records = side(client, sent)
    return activation_ranges.measure(activations, model.tensors, records, batch_size)

  return measure


def _build_count(
  model: MeasuredModel, store: client_store.ClientStore, samples: int, batch_size: int
) -> tff.Computation:
  """Builds (ClientReference, SparseModel, Ranges) to counts."""
  side = functools.partial(_client_side, model, store, samples)

  @tff.tensorflow.computation(
    messages.reference_type(), model.message_type, ranges_type(model.tensors)
  )
  def count(
    client: client_store.ClientReference, sent: messages.SparseModel, ranges: Ranges
  ) -> tf.Tensor:
    activations, records = side(client, sent)
    counted = activation_ranges.count(activations, ranges, records, batch_size)
    return tf.ensure_shape(counted, [model.tensors, BINS])

  return count
