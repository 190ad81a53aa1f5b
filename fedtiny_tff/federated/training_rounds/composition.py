"""How a round is wired around the client work.

A round: server state -> sparse model -> clients train -> weighted means -> server state
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.arrays import Array
from fedtiny_tff.federated import aggregation as aggregation_lib
from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.private_sums import hidden_votes, releases, secure_sums
from fedtiny_tff.federated.training_rounds import client_work as client_work_lib
from fedtiny_tff.protection import aggregation_config
from fedtiny_tff.strategies.adjustment import Adjustment, ServerModel


def _build_positions(
  state_type: tff.Type, held: Optional[Array]
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


def _build_values(state_type: tff.Type, held: Optional[Array]) -> tff.Computation:
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
  held_positions: Optional[Array] = None,
  aggregation: aggregation_config.Aggregation = aggregation_config.WEIGHTED_MEAN,
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
    aggregation: How reports are put together.

  Returns:
    (SparseState@SERVER, {what the client work takes first}@CLIENTS,
    RoundInstruction@SERVER) to (SparseState@SERVER, RoundSums@SERVER).
  """
  report_type = work.computation.type_signature.result
  instruction_type = work.computation.type_signature.parameter[3]
  values = _build_values(state_type, held_positions)
  place_positions = _build_positions(state_type, held_positions)
  merge_model = _build_merge(
    state_type,
    report_type.update,
    work.computation.type_signature.parameter[1],
    work.adjustment is not None and work.adjustment.replaces_weights,
    aggregation,
    _count_parts(work, report_type.update),
  )
  sums_type = messages.RoundSums(report_type.update.metrics, report_type.verdict)
  add_up = secure_sums.sum_of(aggregation.secure, tff.types.to_type(sums_type))
  adjust = _build_adjust(
    work.adjustment,
    report_type.update,
    state_type,
    instruction_type,
    _Sizes(prunable_size, active_after),
    aggregation,
    _count_parts(work, report_type.update),
  )

  @tff.federated_computation(
    tff.FederatedType(state_type, tff.SERVER),
    tff.FederatedType(work.computation.type_signature.parameter[0], tff.CLIENTS),
    tff.FederatedType(instruction_type, tff.SERVER),
  )
  def next_round(state: Any, clients: Any, instruction: Any) -> Any:
    received = tff.federated_broadcast(tff.federated_map(values, state))
    positions = place_positions(state)
    told = tff.federated_broadcast(instruction)
    report = tff.federated_map(work.computation, (clients, received, positions, told))
    merged = merge_model(state, received, report)
    if adjust is not None:
      merged = adjust(merged, report, instruction)
    sums = messages.RoundSums(report.update.metrics, report.verdict)
    return merged, add_up(tff.federated_zip(sums))

  return next_round


def _count_parts(work: client_work_lib.ClientWork, update_type: tff.Type) -> int:
  """Counts the things that a round reveals of a client."""
  votes = work.adjustment is not None and bool(work.adjustment.statistics_specs())
  channels = secure_sums.count_values(update_type.model.mean_offset)
  return releases.count_parts(channels, votes)


def _build_merge(
  state_type: tff.Type,
  update_type: tff.Type,
  values_type: tff.Type,
  replaces: bool,
  aggregation: aggregation_config.Aggregation,
  parts: int,
) -> Callable[[Any, Any, Any], Any]:
  """Builds how clients' models become the server's.

  Args:
    state_type: Type of the state.
    update_type: Of what a client sends.
    values_type: Of what it received.
    replaces: Whether its active values travel elsewhere.
    aggregation: How models are put together.
    parts: Things that the round reveals.

  Returns:
    From state, received values and reports to the state with the new model.
  """
  model_type = update_type.model

  def with_mean(
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
    return state._replace(model=model, round_index=state.round_index + 1)

  @tff.tensorflow.computation(state_type, model_type)
  def merge(
    state: states.SparseState, mean: messages.TrainedModel
  ) -> states.SparseState:
    return with_mean(state, mean)

  if aggregation.hides_reports:
    mean = releases.model_mean(aggregation, state_type, update_type, values_type, parts)
    return _build_hidden_merge(state_type, merge, mean)
  if aggregation.name == aggregation_config.ROBUST:
    return _build_robust_merge(state_type, model_type, values_type, with_mean)
  if aggregation.is_stacked:
    stacked = aggregation_lib.stacked_mean(aggregation, model_type)
    return lambda state, received, report: tff.federated_map(
      merge, (state, stacked(report.update.model, report.verdict.accepted))
    )
  return lambda state, received, report: tff.federated_map(
    merge, (state, tff.federated_mean(report.update.model, report.update.weight))
  )


def _build_hidden_merge(
  state_type: tff.Type,
  merge: tff.Computation,
  mean: Callable[[Any, Any, Any], tuple[Any, Any]],
) -> Callable[[Any, Any, Any], Any]:
  """Builds the merge of a mean that remembers something of its own, or nothing."""
  kept_type = state_type.aggregation

  @tff.tensorflow.computation(state_type, kept_type)
  def with_kept(state: states.SparseState, kept: Any) -> states.SparseState:
    return state._replace(aggregation=kept)

  def merge_reports(state: Any, received: Any, report: Any) -> Any:
    trained, kept = mean(state, received, report)
    merged = tff.federated_map(merge, (state, trained))
    if kept is None:
      return merged
    return tff.federated_map(with_kept, (merged, kept))

  return merge_reports


def _build_robust_merge(
  state_type: tff.Type,
  model_type: tff.Type,
  values_type: tff.Type,
  with_mean: Callable[[Any, Any], states.SparseState],
) -> Callable[[Any, Any, Any], Any]:
  """Builds the merge by TFF's zeroing and clipping of how far clients moved."""
  process = aggregation_lib.robust_process(model_type)
  moved = aggregation_lib.offsets_computation(model_type, values_type)
  kept_type = process.state_type.member

  @tff.tensorflow.computation(state_type)
  def kept(state: states.SparseState) -> Any:
    return state.aggregation

  @tff.tensorflow.computation(state_type, model_type, kept_type)
  def merge(
    state: states.SparseState, mean: messages.TrainedModel, new: Any
  ) -> states.SparseState:
    trained = messages.moved_by(state.model, mean)
    return with_mean(state, trained)._replace(aggregation=new)

  def merge_reports(state: Any, received: Any, report: Any) -> Any:
    accepted = report.verdict.accepted
    offsets = tff.federated_map(moved, (report.update.model, received, accepted))
    output = process.next(tff.federated_map(kept, state), offsets, report.update.weight)
    return tff.federated_map(merge, (state, output.result, output.state))

  return merge_reports


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
  aggregation: aggregation_config.Aggregation,
  parts: int,
) -> Any:
  """Builds the server's mask adjustment, or None for a round without one."""
  if adjustment is None:
    return None
  if not adjustment.statistics_specs():
    apply_alone = _build_apply(adjustment, state_type, (), instruction_type, sizes)
    return lambda merged, report, instruction: tff.federated_map(
      apply_alone, (merged, instruction)
    )
  if aggregation.hides_reports:
    vote_mean = hidden_votes.vote_mean(aggregation, adjustment, update_type, parts)
  else:
    vote_mean = aggregation_lib.vote_mean(
      aggregation, adjustment, update_type.statistics
    )

  @tff.tensorflow.computation()
  def zero() -> Any:
    return adjustment.zero()

  apply = _build_apply(
    adjustment, state_type, zero.type_signature.result, instruction_type, sizes
  )

  def adjust(merged: Any, report: Any, instruction: Any) -> Any:
    mean = vote_mean(report, instruction)
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
    return state._replace(model=model, memory=after.memory)

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
