"""How a round is wired around the client work.

    server state -> sparse model -> clients train -> weighted means -> server state
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated import client_work as client_work_lib
from fedtiny_tff.federated import messages, states
from fedtiny_tff.strategies.adjustment import Adjustment, ServerModel


def _build_positions(
  state_type: tff.Type, held: Optional[np.ndarray]
) -> Callable[[Any], Any]:
  """Builds how clients come to know where the active weights are.

  Args:
    state_type: Type of the state.
    held: uint8 [bytes], the positions that every participant holds: a constant that
      each evaluates by itself, so that nothing travels. None to broadcast them.

  Returns:
    From the state at the server to positions at the clients.
  """
  if held is not None:

    @tff.tensorflow.computation()
    def hold() -> tf.Tensor:
      return tf.constant(held)

    return lambda state: tff.federated_eval(hold, tff.CLIENTS)

  @tff.tensorflow.computation(state_type)
  def positions(state: states.SparseState) -> tf.Tensor:
    return state.model.positions

  return lambda state: tff.federated_broadcast(tff.federated_map(positions, state))


def _build_values(state_type: tff.Type, held: Optional[np.ndarray]) -> tff.Computation:
  """Builds SparseState to ModelValues; fails for other positions than those held."""

  @tff.tensorflow.computation(state_type)
  def values(state: states.SparseState) -> messages.ModelValues:
    sent = messages.without_positions(state.model)
    if held is None:
      return sent
    same = tf.debugging.assert_equal(
      state.model.positions, held, "clients hold another mask than the server"
    )
    with tf.control_dependencies([same]):
      return sent._replace(active_values=tf.identity(sent.active_values))

  return values


def compose(
  work: client_work_lib.ClientWork,
  state_type: tff.Type,
  prunable_size: int,
  active_after: int,
  held_positions: Optional[np.ndarray] = None,
) -> tff.Computation:
  """Wires a round around the client work.

  Args:
    work: What clients compute, and how the mask is moved afterwards.
    state_type: Type of the state.
    prunable_size: Prunable weights of the model.
    active_after: Unpruned weights after the round; fewer than before where an
      adjustment shrinks the model.
    held_positions: uint8 [bytes], where every participant holds the mask already;
      None for positions to travel.

  Returns:
    (SparseState@SERVER, {ClientReference}@CLIENTS, RoundInstruction@SERVER) to
    (SparseState@SERVER, Metrics@SERVER).
  """
  update_type = work.computation.type_signature.result
  instruction_type = work.computation.type_signature.parameter[3]
  values = _build_values(state_type, held_positions)
  place_positions = _build_positions(state_type, held_positions)
  replaces = work.adjustment is not None and work.adjustment.replaces_weights

  @tff.tensorflow.computation(state_type, update_type.model)
  def merge(
    state: states.SparseState, mean: messages.TrainedModel
  ) -> states.SparseState:
    variance = mean.second_moment - tf.square(mean.mean_offset)
    model = messages.SparseModel(
      state.model.active_values if replaces else mean.active_values,
      state.model.positions,
      mean.dense,
      state.model.batch_norm_mean + mean.mean_offset,
      tf.maximum(variance, 0.0),
    )
    return states.SparseState(model, state.round_index + 1, state.memory)

  adjust = _build_adjust(
    work.adjustment,
    update_type,
    state_type,
    instruction_type,
    _Sizes(prunable_size, active_after),
  )

  @tff.federated_computation(
    tff.FederatedType(state_type, tff.SERVER),
    tff.FederatedType(messages.reference_type(), tff.CLIENTS),
    tff.FederatedType(instruction_type, tff.SERVER),
  )
  def next_round(state: Any, clients: Any, instruction: Any) -> Any:
    received = tff.federated_broadcast(tff.federated_map(values, state))
    positions = place_positions(state)
    told = tff.federated_broadcast(instruction)
    update = tff.federated_map(
      work.computation, (clients, received, positions, told)
    )
    mean = tff.federated_mean(update.model, update.weight)
    merged = tff.federated_map(merge, (state, mean))
    if adjust is not None:
      merged = adjust(merged, update, instruction)
    return merged, tff.federated_sum(update.metrics)

  return next_round


class _Sizes(NamedTuple):
  """How many prunable weights there are, and how many are active after an adjustment."""

  prunable: int
  active_after: int


def _build_adjust(
  adjustment: Optional[Adjustment],
  update_type: tff.Type,
  state_type: tff.Type,
  instruction_type: tff.Type,
  sizes: _Sizes,
) -> Any:
  """Builds the server's mask adjustment, or None for a round without one."""
  if adjustment is None:
    return None
  if not adjustment.statistics_specs():
    apply_alone = _build_apply(adjustment, state_type, (), instruction_type, sizes)
    return lambda merged, update, instruction: tff.federated_map(
      apply_alone, (merged, instruction)
    )
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
  apply = _build_apply(adjustment, state_type, mean_type, instruction_type, sizes)

  def adjust(merged: Any, update: Any, instruction: Any) -> Any:
    sent = tff.federated_zip((update.statistics, update.weight))
    mean = tff.federated_aggregate(sent, zero(), accumulate, merge, report)
    return tff.federated_map(apply, (merged, mean, instruction))

  return adjust


def _build_apply(
  adjustment: Adjustment,
  state_type: tff.Type,
  mean_type: Any,
  instruction_type: tff.Type,
  sizes: _Sizes,
) -> tff.Computation:
  """Builds (SparseState, mean, RoundInstruction) to SparseState.

  Without statistics (`mean_type` is empty) there is no mean among the arguments.
  """

  def moved(
    state: states.SparseState, mean: Any, instruction: messages.RoundInstruction
  ) -> states.SparseState:
    weights, mask, _ = messages.unpack_model(state.model, sizes.prunable)
    before = ServerModel(weights, mask, tuple(state.memory))
    after = adjustment.apply(before, mean, instruction.counts, instruction.round_index)
    model = messages.pack_model(after.weights, after.mask, sizes.active_after)
    return states.SparseState(model, state.round_index, after.memory)

  if isinstance(mean_type, tuple):

    @tff.tensorflow.computation(state_type, instruction_type)
    def apply_alone(
      state: states.SparseState, instruction: messages.RoundInstruction
    ) -> states.SparseState:
      return moved(state, (), instruction)

    return apply_alone

  @tff.tensorflow.computation(state_type, mean_type, instruction_type)
  def apply(
    state: states.SparseState, mean: Any, instruction: messages.RoundInstruction
  ) -> states.SparseState:
    return moved(state, mean, instruction)

  return apply
