"""How a round is wired around the client work.

    server state -> sparse model -> clients train -> weighted means -> server state
"""

from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated import messages, states
from fedtiny_tff.strategies import base


def build_pack(state_type: tff.Type) -> tff.Computation:
  """Builds SparseState to SparseModel, what clients receive."""

  @tff.tensorflow.computation(state_type)
  def pack(state: states.SparseState) -> messages.SparseModel:
    return state.model

  return pack


def hold_positions(
  client_work: tff.Computation, pack: tff.Computation, held: np.ndarray
) -> tuple[tff.Computation, tff.Computation]:
  """Makes positions a constant of the client work; then they need not travel.

  Only small computations are new: the client work, which holds the model's graph, is
  reused as it is, by us and by the worker.

  Args:
    client_work: (ClientReference, SparseModel, RoundInstruction) to ClientUpdate.
    pack: SparseState to SparseModel.
    held: uint8 [bytes], the positions that every participant holds.

  Returns:
    (ClientReference, HeldModel, RoundInstruction) to ClientUpdate, and SparseState to
    HeldModel, which fails when the state has other positions.
  """

  @tff.tensorflow.computation(pack.type_signature.parameter)
  def leave_out(state: states.SparseState) -> messages.HeldModel:
    same = tf.debugging.assert_equal(
      state.model.positions, held, "clients hold another mask than the server"
    )
    with tf.control_dependencies([same]):
      values = tf.identity(state.model.active_values)
    return messages.without_positions(state.model)._replace(active_values=values)

  held_type = leave_out.type_signature.result

  @tff.tensorflow.computation(held_type)
  def put_back(model: messages.HeldModel) -> messages.SparseModel:
    return messages.with_positions(model, tf.constant(held))

  reference, _, instruction_type = client_work.type_signature.parameter

  @tff.federated_computation(reference, held_type, instruction_type)
  def work(client: Any, model: Any, instruction: Any) -> Any:
    return client_work(client, put_back(model), instruction)

  return work, leave_out


def compose(
  client_work: tff.Computation,
  pack: tff.Computation,
  adjustment: Optional[base.Adjustment],
  state_type: tff.Type,
  prunable_size: int,
) -> tff.Computation:
  """Wires a round around the client work.

  Args:
    client_work: (ClientReference, model, RoundInstruction) to ClientUpdate.
    pack: SparseState to that model.
    adjustment: How the mask is moved, or None for a round without it.
    state_type: Type of the state.
    prunable_size: Prunable weights of the model.
  """
  update_type = client_work.type_signature.result
  instruction_type = client_work.type_signature.parameter[2]

  @tff.tensorflow.computation(state_type, update_type.model)
  def merge(
    state: states.SparseState, mean: messages.TrainedModel
  ) -> states.SparseState:
    variance = mean.second_moment - tf.square(mean.mean_offset)
    model = messages.SparseModel(
      mean.active_values,
      state.model.positions,
      mean.dense,
      state.model.batch_norm_mean + mean.mean_offset,
      tf.maximum(variance, 0.0),
    )
    return states.SparseState(model, state.round_index + 1)

  adjust = _build_adjust(
    adjustment, update_type, state_type, instruction_type, prunable_size
  )

  @tff.federated_computation(
    tff.FederatedType(state_type, tff.SERVER),
    tff.FederatedType(messages.reference_type(), tff.CLIENTS),
    tff.FederatedType(instruction_type, tff.SERVER),
  )
  def next_round(state: Any, clients: Any, instruction: Any) -> Any:
    model = tff.federated_broadcast(tff.federated_map(pack, state))
    received = tff.federated_broadcast(instruction)
    update = tff.federated_map(client_work, (clients, model, received))
    mean = tff.federated_mean(update.model, update.weight)
    merged = tff.federated_map(merge, (state, mean))
    if adjust is not None:
      merged = adjust(merged, update, instruction)
    return merged, tff.federated_sum(update.metrics)

  return next_round


def _build_adjust(
  adjustment: Optional[base.Adjustment],
  update_type: tff.Type,
  state_type: tff.Type,
  instruction_type: tff.Type,
  prunable_size: int,
) -> Any:
  """Builds the server's mask adjustment, or None for a round without one."""
  if adjustment is None:
    return None
  weighted_type = tff.types.to_type([update_type.statistics, np.float32])

  @tff.tensorflow.computation()
  def zero() -> Any:
    return adjustment.zero(), tf.zeros([], tf.float32)

  total_type = zero.type_signature.result

  @tff.tensorflow.computation(total_type, weighted_type)
  def accumulate(total: Any, sent: Any) -> Any:
    statistics, weight = sent
    return adjustment.accumulate(total[0], statistics, weight), total[1] + weight

  @tff.tensorflow.computation(total_type, total_type)
  def merge(left: Any, right: Any) -> Any:
    return tf.nest.map_structure(tf.add, tuple(left), tuple(right))

  @tff.tensorflow.computation(total_type)
  def report(total: Any) -> Any:
    return tf.nest.map_structure(lambda t: t / tf.maximum(total[1], 1e-30), total[0])

  mean_type = report.type_signature.result

  @tff.tensorflow.computation(state_type, mean_type, instruction_type)
  def apply(
    state: states.SparseState, mean: Any, instruction: messages.RoundInstruction
  ) -> states.SparseState:
    active = state.model.active_values.shape[0]
    weights, mask, _ = messages.unpack_model(state.model, prunable_size)
    prunable, mask = adjustment.apply(weights.prunable, mask, mean, instruction.counts)
    model = messages.pack_model(weights._replace(prunable=prunable), mask, active)
    return states.SparseState(model, state.round_index)

  def adjust(merged: Any, update: Any, instruction: Any) -> Any:
    sent = tff.federated_zip((update.statistics, update.weight))
    mean = tff.federated_aggregate(sent, zero(), accumulate, merge, report)
    return tff.federated_map(apply, (merged, mean, instruction))

  return adjust
