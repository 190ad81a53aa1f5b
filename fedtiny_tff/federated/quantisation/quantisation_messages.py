"""What the server keeps and what crosses the network when a model is adapted to int8.

As in `messages`, all types are static: bytes follow from the type alone.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.federated import messages, states
from fedtiny_tff.local_training.quantisation_training import QuantisedWeights
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_quantisation import QuantisedPlan, Ranges


class QuantisedState(NamedTuple):
  """What the server keeps from round to round.

  Attributes:
    model: The float weights beneath.
    ranges: Of the activations.
    round_index: int32, rounds finished, those before quantisation included.
  """

  model: messages.SparseModel
  ranges: Ranges
  round_index: tf.Tensor


class QuantisedUpdate(NamedTuple):
  """Everything a client sends in a round.

  Attributes:
    model: The trained weights.
    ranges: Of the activations.
    weight: float32, number of training examples.
    metrics: Training metrics summed over the client's steps.
  """

  model: messages.TrainedModel
  ranges: Ranges
  weight: tf.Tensor
  metrics: tasks.Metrics


def ranges_type(quantisers: int) -> tff.Type:
  """Type of the ranges of so many activations."""
  ends = tff.TensorType(np.float32, [quantisers])
  return tff.types.to_type(Ranges(ends, ends))


@dataclasses.dataclass(frozen=True)
class QuantisedTypes:
  """Types of a model's messages.

  Attributes:
    model: Of the SparseModel.
    ranges: Of the Ranges.
  """

  model: tff.Type
  ranges: tff.Type

  @property
  def state(self) -> tff.Type:
    """Type of a QuantisedState (unplaced)."""
    return tff.types.to_type(
      QuantisedState(self.model, self.ranges, tff.TensorType(np.int32))
    )

  @property
  def placed(self) -> tuple[tff.Type, tff.Type]:
    """Types of a state at the server and of references at the clients."""
    return (
      tff.FederatedType(self.state, tff.SERVER),
      tff.FederatedType(messages.reference_type(), tff.CLIENTS),
    )


def quantised_types(plan: QuantisedPlan, active: int) -> QuantisedTypes:
  """Returns the types of a model with so many unpruned weights."""
  sizes = tfmot_masking.vector_sizes(plan.definition)
  return QuantisedTypes(
    messages.sparse_model_type(sizes, active), ranges_type(plan.quantisers)
  )


def pack_state(
  quantised: QuantisedWeights, mask: Array, round_index: int
) -> QuantisedState:
  """Packs NumPy arrays into a state."""
  dense = states.ServerState(quantised.weights, mask, np.int32(round_index))
  ranges = Ranges(*(np.asarray(ends, np.float32) for ends in quantised.ranges))
  return QuantisedState(states.to_sparse(dense).model, ranges, np.int32(round_index))


def unpack_state(state: Any, prunable_size: int) -> QuantisedWeights:
  """Unpacks a state of so many prunable weights into NumPy arrays."""
  sparse = states.SparseState(state.model, state.round_index)
  ranges = Ranges(*(np.asarray(ends) for ends in state.ranges))
  return QuantisedWeights(states.to_dense(sparse, prunable_size).weights, ranges)
