"""What the server keeps from round to round.

Rounds work on the sparse form: TFF's runtime takes and gives it in a fraction of the
time of dense vectors, and an ordinary round only replaces values in it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.arrays import Array
from fedtiny_tff.federated import messages
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights


class ServerState(NamedTuple):
  """Everything a round starts from, laid out dense: NumPy arrays of the driver.

  Attributes:
    weights: Dense vectors of the global model, zero where pruned.
    mask: bool [prunable weights].
    round_index: int32, rounds finished.
    memory: What the strategy remembers from one adjustment to the next.
    aggregation: What the aggregation remembers from round to round; empty before the
      first round, and where it remembers nothing.
  """

  weights: ModelWeights
  mask: Array
  round_index: np.int32
  memory: tuple[Array, ...] = ()
  aggregation: tuple[Array, ...] = ()


class SparseState(NamedTuple):
  """The same as rounds take and give it.

  Attributes:
    model: The global model.
    round_index: int32, rounds finished.
    memory: The strategy's, in rounds that adjust masks; empty in others, which neither
      read nor change it.
    aggregation: The aggregation's, any structure.
  """

  model: messages.SparseModel
  round_index: tf.Tensor
  memory: tuple[tf.Tensor, ...] = ()
  aggregation: Any = ()


def sparse_state_type(
  sizes: ModelWeights,
  active: int,
  memory: Sequence[Array] = (),
  aggregation: Optional[tff.Type] = None,
) -> tff.Type:
  """Type of a sparse state (unplaced).

  Args:
    sizes: Vector lengths of the model.
    active: Unpruned weights.
    memory: Arrays like those that the strategy remembers.
    aggregation: Type of what the aggregation remembers, if it does.
  """
  model = messages.sparse_model_type(sizes, active)
  kept = tuple(tff.TensorType(each.dtype.type, each.shape) for each in memory)
  remembered = () if aggregation is None else aggregation
  return tff.types.to_type(
    SparseState(model, tff.TensorType(np.int32), kept, remembered)
  )


def to_sparse(state: ServerState) -> SparseState:
  """Packs a state, without the strategy's memory.

  Args:
    state: NumPy arrays; weights are zero where pruned.
  """
  weights = ModelWeights(*(tf.constant(vector, tf.float32) for vector in state.weights))
  active = int(np.count_nonzero(state.mask))
  packed = messages.pack_model(weights, tf.constant(state.mask, tf.bool), active)
  model = messages.SparseModel(*(part.numpy() for part in packed))
  return SparseState(model, np.int32(state.round_index))


def to_dense(state: SparseState, size: int) -> ServerState:
  """Unpacks a state of `size` prunable weights into NumPy arrays."""
  model = messages.SparseModel(*(tf.constant(np.asarray(part)) for part in state.model))
  unpacked = messages.unpack_model(model, size)
  weights = ModelWeights(*(vector.numpy() for vector in unpacked.weights))
  return ServerState(weights, unpacked.mask.numpy(), np.int32(state.round_index))
