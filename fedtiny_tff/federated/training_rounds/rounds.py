"""A federated round, composed once for every strategy.

    server state -> sparse model -> clients train -> weighted means -> server state

Rounds that adjust masks carry statistics and are computations of their own, one
per block, over the same state; so ordinary rounds send nothing for them. Where every
participant provably holds the mask, it is a constant of the round's computation and
positions do not travel.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.arrays import Array
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import aggregation as aggregation_lib
from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.private_sums import releases
from fedtiny_tff.federated.training_rounds import client_work, composition, traffic
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition, keras_graphs
from fedtiny_tff.protection import aggregation_config, poisoning
from fedtiny_tff.sparsity import positions, schedules
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.adjustment import Adjustment


class _Key(NamedTuple):
  """What computations differ by.

  Attributes:
    block: The one that is adjusted, or None.
    active: Unpruned weights before the round.
    active_after: Unpruned weights after it.
  """

  block: Optional[int]
  active: int
  active_after: int


@dataclasses.dataclass(frozen=True)
class RoundComputation:
  """One round as a TFF computation, and what its messages weigh.

  Attributes:
    next: (SparseState@SERVER, {ClientReference}@CLIENTS, RoundInstruction@SERVER)
      to (SparseState@SERVER, RoundSums@SERVER).
    prunable_size: Prunable weights of the model.
    download_bytes: Payload each client receives.
    upload_bytes: Payload each client sends.
    position_bytes: The part of the download that says where active weights are.
    secure_extra_bytes: The part of the upload that secure aggregation adds.
    uses_memory: Whether the round reads and changes what the strategy remembers.
    initialize: () to what the aggregation remembers before the first round, at the
      server; None where it remembers nothing.
  """

  next: tff.Computation
  prunable_size: int
  download_bytes: int
  upload_bytes: int
  position_bytes: int
  secure_extra_bytes: int = 0
  uses_memory: bool = False
  initialize: Optional[tff.Computation] = None

  def run(
    self,
    state: states.ServerState,
    clients: Sequence[Any],
    instruction: messages.RoundInstruction,
  ) -> tuple[states.ServerState, messages.RoundMetrics]:
    """Runs the round in the current TFF context; states are dense NumPy arrays.

    Nothing is usable of a state to which no client's report contributed: look at
    `RoundMetrics.accepted` first.
    """
    sparse = states.to_sparse(state)
    if self.uses_memory:
      sparse = sparse._replace(memory=state.memory)
    if self.initialize is not None:
      known = self.initialize()
      kept = state.aggregation or tuple(tf.nest.flatten(known))
      sparse = sparse._replace(aggregation=tf.nest.pack_sequence_as(known, kept))
    result, sums = self.next(sparse, list(clients), instruction)
    new_state = states.to_dense(
      states.SparseState(result.model, result.round_index), self.prunable_size
    )
    memory, aggregation = state.memory, state.aggregation
    if self.uses_memory:
      memory = tuple(np.asarray(each) for each in result.memory)
    if self.initialize is not None:
      aggregation = tuple(map(np.asarray, tf.nest.flatten(result.aggregation)))
    return (
      new_state._replace(memory=memory, aggregation=aggregation),
      messages.RoundMetrics(*sums.metrics, *sums.verdict),
    )


class RoundBuilder:
  """Builds a run's round computations, each once, when first needed."""

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    store: client_store.ClientStore,
    config: training.TrainingConfig,
    strategy: base.Strategy,
    events: Sequence[schedules.AdjustmentEvent],
    *,
    active_count: int,
    seed: int,
    all_clients_every_round: bool = False,
    memory: Sequence[Array] = (),
    aggregation: aggregation_config.Aggregation = aggregation_config.WEIGHTED_MEAN,
    poisoned: poisoning.Poisoning = poisoning.NOBODY,
    build_work: Optional[Callable[..., tff.Computation]] = None,
    slots_for: Sequence[schedules.AdjustmentEvent] = (),
  ):
    """Fixes everything static.

    Args:
      model_definition: Model and blocks.
      store: Where clients read their records.
      config: Local training.
      strategy: Pruning method.
      events: Every adjustment of the run.
      active_count: Unpruned weights before the first round; constant over the run,
        unless events shrink the model.
      seed: Seed of the run.
      all_clients_every_round: Whether no client ever misses a round; then a mask
        that a round has sent once is held by all until it is adjusted.
      memory: Arrays like those that the strategy remembers.
      aggregation: How clients' reports are put together.
      poisoned: Which clients misbehave, and how.
      build_work: Makes what stands for the clients' work where they computed
        elsewhere (`received_work.build_received_work`); None lets clients compute.
      slots_for: Events that clients' reports have room for, these and maybe more, where
        clients were told before it was known which they will be; by default `events`.
    """
    self._build_work = build_work or client_work.build_client_work
    self._definition = model_definition
    self._store = store
    self._config = config
    self._strategy = strategy
    self._events = {event.round_index: event for event in events}
    self._slots_for = tuple(slots_for or events)
    self._client_options = client_work.ClientOptions(
      strategy.client_penalty(model_definition.spec, self.events),
      strategy.layer_transform,
      poisoned,
    )
    self._aggregation = aggregation
    self._active_count = active_count
    self._memory = tuple(memory)
    self._seed = seed
    self._sizes = tfmot_masking.vector_sizes(model_definition)
    self._all_clients_every_round = all_clients_every_round
    self._work_by_key: dict[_Key, client_work.ClientWork] = {}
    self._by_key: dict[_Key, RoundComputation] = {}
    self._held: Optional[tuple[Array, RoundComputation]] = None

  @property
  def events(self) -> tuple[schedules.AdjustmentEvent, ...]:
    """Every adjustment of the run, in order."""
    return tuple(self._events[number] for number in sorted(self._events))

  def active_count(self, round_index: int) -> int:
    """Returns how many weights are unpruned at the start of a round."""
    past = (event for r, event in self._events.items() if r < round_index)
    return self._active_count - sum(
      sum(event.removed(self._definition.spec)) for event in past
    )

  def state_type(self, round_index: int) -> tff.Type:
    """Returns the type of the state that a round takes (unplaced)."""
    event = self.event(round_index)
    return self._state_type(
      self.active_count(round_index), event.block if event else None
    )

  def _state_type(self, active: int, block: Optional[int]) -> tff.Type:
    memory = self._memory if block is not None else ()
    initialize = self._initialize(active)
    kept = None if initialize is None else initialize.type_signature.result.member
    return states.sparse_state_type(self._sizes, active, memory, kept)

  def _initialize(self, active: int) -> Optional[tff.Computation]:
    """Returns () to what the aggregation remembers before the first round, if it does.

    That is of one type, whatever the number of active weights.
    """
    if self._aggregation.privacy is not None:
      return releases.initialize_clip_norms(self._aggregation.privacy)
    if self._aggregation.name != aggregation_config.ROBUST:
      return None
    update = messages.client_update_type(self._sizes, active, tff.types.to_type(()))
    return aggregation_lib.robust_process(update.model).initialize

  def event(self, round_index: int) -> Optional[schedules.AdjustmentEvent]:
    """Returns the adjustment at the end of a round, if there is one."""
    return self._events.get(round_index)

  def instruction(
    self, round_index: int, learning_rate: float
  ) -> messages.RoundInstruction:
    """Returns what the server says at the start of a round."""
    event = self.event(round_index)
    return messages.RoundInstruction(
      np.int32(round_index),
      np.float32(learning_rate),
      np.asarray(event.counts if event else (), np.int32),
    )

  def initial_aggregation(self) -> tuple[Array, ...]:
    """Returns what the aggregation remembers before the first round, flat.

    Runs in the current TFF context, where the aggregation remembers anything.
    """
    initialize = self._initialize(self._active_count)
    if initialize is None:
      return ()
    return tuple(map(np.asarray, tf.nest.flatten(initialize())))

  def mask_is_held(self, round_index: int) -> bool:
    """Tells whether every participant received the current mask in an earlier round."""
    return self._all_clients_every_round and traffic.mask_is_held(
      sorted(self._events), round_index
    )

  def positions_stay(self, round_index: int) -> bool:
    """Tells whether positions are left out of a round; see `traffic.positions_stay`."""
    return self._all_clients_every_round and traffic.positions_stay(
      sorted(self._events), round_index
    )

  def computation(
    self, round_index: int, mask: Optional[Array] = None
  ) -> RoundComputation:
    """Returns the computation of a round.

    Args:
      round_index: The round.
      mask: bool [prunable weights], the current mask; lets positions be left out
        where `positions_stay`. Without it they always travel.
    """
    event = self.event(round_index)
    if mask is not None and self.positions_stay(round_index):
      return self._computation_of_holders(round_index, mask)
    active = self.active_count(round_index)
    key = _Key(
      event.block if event else None, active, self.active_count(round_index + 1)
    )
    if key not in self._by_key:
      self._by_key[key] = self._build(key, None)
    return self._by_key[key]

  def _computation_of_holders(self, round_index: int, mask: Array) -> RoundComputation:
    active = self.active_count(round_index)
    code = positions.smallest_code(self._sizes.prunable, active)
    held = code.encode(tf.constant(mask)).numpy()
    if self._held is None or not np.array_equal(held, self._held[0]):
      self._held = held, self._build(_Key(None, active, active), held)
    return self._held[1]

  def _adjustment(self, block: int, active: int) -> Adjustment:
    capacities = schedules.capacities(self._slots_for, block)
    plan = base.AdjustmentPlan(
      self._definition.spec, block, capacities, self._seed, active
    )
    return self._strategy.adjustment(plan)

  def adjustment(self, round_index: int) -> Optional[Adjustment]:
    """Returns how a round moves the mask, if it does."""
    event = self.event(round_index)
    if event is None:
      return None
    return self._adjustment(event.block, self.active_count(round_index))

  @keras_graphs.sparing_eager_models()
  def _client_work(self, key: _Key) -> client_work.ClientWork:
    """Returns what clients compute, built once: it holds the model's graph."""
    if key not in self._work_by_key:
      block = key.block
      adjustment = None if block is None else self._adjustment(block, key.active)
      layers = 0 if block is None else len(self._definition.spec.blocks[block])
      computation = self._build_work(
        self._definition, self._store, self._config, adjustment, self._seed,
        (
          messages.model_values_type(self._sizes, key.active),
          messages.positions_type(self._sizes, key.active),
          messages.instruction_type(layers),
        ),
        self._client_options,
      )  # fmt: skip
      self._work_by_key[key] = client_work.ClientWork(computation, adjustment)
    return self._work_by_key[key]

  def _build(self, key: _Key, held_positions: Optional[Array]) -> RoundComputation:
    work = self._client_work(key)
    next_round = composition.compose(
      work,
      self._state_type(key.active, key.block),
      self._sizes.prunable,
      key.active_after,
      held_positions,
      self._aggregation,
    )
    _, values, sent, instruction = work.computation.type_signature.parameter
    position_bytes = messages.size_bytes(sent) if held_positions is None else 0
    report = work.computation.type_signature.result
    plain_bytes = messages.size_bytes(report.update)
    upload_bytes = traffic.upload_bytes(self._aggregation, report, work.adjustment)
    return RoundComputation(
      next_round,
      self._sizes.prunable,
      messages.size_bytes(values) + position_bytes + messages.size_bytes(instruction),
      upload_bytes,
      position_bytes,
      upload_bytes - plain_bytes,
      key.block is not None and bool(self._memory),
      self._initialize(key.active),
    )
