"""A federated round, composed once for every strategy.

    server state -> sparse model -> clients train -> weighted means -> server state

Rounds that adjust masks carry statistics and are computations of their own, one
per block, over the same state; so ordinary rounds send nothing for them. Where every
participant provably holds the mask, it is a constant of the round's computation and
positions do not travel.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import (
  keras_graphs,
  positions,
  schedules,
  tasks,
  tfmot_masking,
  training,
)
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import client_work, composition, messages, states
from fedtiny_tff.models import definition
from fedtiny_tff.strategies import base

# A new computation costs about a second and 20 MB of the worker's memory.
_LEAST_HELD_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class RoundComputation:
  """One round as a TFF computation, and what its messages weigh.

  Attributes:
    next: (SparseState@SERVER, {ClientReference}@CLIENTS, RoundInstruction@SERVER)
      to (SparseState@SERVER, Metrics@SERVER).
    prunable_size: Prunable weights of the model.
    download_bytes: Payload each client receives.
    upload_bytes: Payload each client sends.
    position_bytes: The part of the download that says where active weights are.
  """

  next: tff.Computation
  prunable_size: int
  download_bytes: int
  upload_bytes: int
  position_bytes: int

  def run(
    self,
    state: states.ServerState,
    clients: Sequence[client_store.ClientReference],
    instruction: messages.RoundInstruction,
  ) -> tuple[states.ServerState, tasks.Metrics]:
    """Runs the round in the current TFF context; states are dense NumPy arrays."""
    result, metrics = self.next(states.to_sparse(state), list(clients), instruction)
    new_state = states.to_dense(
      states.SparseState(result.model, result.round_index), self.prunable_size
    )
    return new_state, tasks.Metrics(*metrics)


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
  ):
    """Fixes everything static.

    Args:
      model_definition: Model and blocks.
      store: Where clients read their records.
      config: Local training.
      strategy: Pruning method.
      events: Every adjustment of the run.
      active_count: Unpruned weights, constant over the run.
      seed: Seed of the run.
      all_clients_every_round: Whether no client ever misses a round; then a mask
        that a round has sent once is held by all until it is adjusted.
    """
    self._definition = model_definition
    self._store = store
    self._config = config
    self._strategy = strategy
    self._events = {event.round_index: event for event in events}
    self._active_count = active_count
    self._seed = seed
    self._sizes = tfmot_masking.vector_sizes(model_definition)
    self._all_clients_every_round = all_clients_every_round
    self._work_by_block: dict[Optional[int], client_work.ClientWork] = {}
    self._by_block: dict[Optional[int], RoundComputation] = {}
    self._held: Optional[tuple[np.ndarray, RoundComputation]] = None

  @property
  def state_type(self) -> tff.Type:
    """Type of the state that rounds take and give (unplaced)."""
    return states.sparse_state_type(self._sizes, self._active_count)

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

  def mask_is_held(self, round_index: int) -> bool:
    """Tells whether every participant received the current mask in an earlier round."""
    return (
      self._all_clients_every_round
      and round_index > 0
      and self.event(round_index - 1) is None
    )

  def positions_stay(self, round_index: int) -> bool:
    """Tells whether positions are left out of a round.

    They are where the mask is held, in rounds without adjustment, when at least
    `_LEAST_HELD_ROUNDS` of them use the computation that must be made for the mask.
    """
    if not self.mask_is_held(round_index) or self.event(round_index) is not None:
      return False
    first = max((r + 2 for r in self._events if r < round_index), default=1)
    end = min((r for r in self._events if r > round_index), default=math.inf)
    return end - first >= _LEAST_HELD_ROUNDS

  def computation(
    self, round_index: int, mask: Optional[np.ndarray] = None
  ) -> RoundComputation:
    """Returns the computation of a round.

    Args:
      round_index: The round.
      mask: bool [prunable weights], the current mask; lets positions be left out
        where `positions_stay`. Without it they always travel.
    """
    event = self.event(round_index)
    block = event.block if event else None
    if mask is not None and self.positions_stay(round_index):
      return self._computation_of_holders(mask)
    if block not in self._by_block:
      self._by_block[block] = self._build(block, None)
    return self._by_block[block]

  def _computation_of_holders(self, mask: np.ndarray) -> RoundComputation:
    code = positions.smallest_code(self._sizes.prunable, self._active_count)
    held = code.encode(tf.constant(mask)).numpy()
    if self._held is None or not np.array_equal(held, self._held[0]):
      self._held = held, self._build(None, held)
    return self._held[1]

  def _adjustment(self, block: int) -> base.Adjustment:
    capacities = schedules.capacities(self._events.values(), block)
    return self._strategy.adjustment(self._definition.spec, block, capacities)

  @keras_graphs.sparing_eager_models()
  def _client_work(self, block: Optional[int]) -> client_work.ClientWork:
    """Returns what clients compute, built once: it holds the model's graph."""
    if block not in self._work_by_block:
      adjustment = None if block is None else self._adjustment(block)
      layers = 0 if block is None else len(self._definition.spec.blocks[block])
      computation = client_work.build_client_work(
        self._definition, self._store, self._config, adjustment, self._seed,
        messages.model_values_type(self._sizes, self._active_count),
        messages.positions_type(self._sizes, self._active_count),
        messages.instruction_type(layers),
      )  # fmt: skip
      self._work_by_block[block] = client_work.ClientWork(computation, adjustment)
    return self._work_by_block[block]

  def _build(
    self, block: Optional[int], held_positions: Optional[np.ndarray]
  ) -> RoundComputation:
    work = self._client_work(block)
    next_round = composition.compose(
      work, self.state_type, self._sizes.prunable, held_positions
    )
    _, values, sent, instruction = work.computation.type_signature.parameter
    position_bytes = messages.size_bytes(sent) if held_positions is None else 0
    return RoundComputation(
      next_round,
      self._sizes.prunable,
      messages.size_bytes(values) + position_bytes + messages.size_bytes(instruction),
      messages.size_bytes(work.computation.type_signature.result),
      position_bytes,
    )
