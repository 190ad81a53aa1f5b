"""A federated round, composed once for every strategy.

    server state -> sparse model -> clients train -> weighted means -> server state

Rounds that adjust masks carry statistics and are computations of their own, one
per block, over the same state; so ordinary rounds send nothing for them.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import (
  batches,
  keras_graphs,
  packing,
  schedules,
  tfmot_masking,
  training,
)
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages
from fedtiny_tff.models import definition
from fedtiny_tff.strategies import base


@dataclasses.dataclass(frozen=True)
class RoundComputation:
  """One round as a TFF computation, and what its messages weigh.

  Attributes:
    next: (ServerState@SERVER, {ClientReference}@CLIENTS, RoundInstruction@SERVER)
      to (ServerState@SERVER, Metrics@SERVER).
    download_bytes: Payload each client receives.
    upload_bytes: Payload each client sends.
  """

  next: tff.Computation
  download_bytes: int
  upload_bytes: int


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
    """
    self._definition = model_definition
    self._store = store
    self._config = config
    self._strategy = strategy
    self._events = {event.round_index: event for event in events}
    self._active_count = active_count
    self._seed = seed
    self._sizes = tfmot_masking.vector_sizes(model_definition)
    self._by_block: dict[Optional[int], RoundComputation] = {}

  @property
  def state_type(self) -> tff.Type:
    """Type of the server state (unplaced)."""
    return messages.state_type(self._sizes)

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

  def computation(self, round_index: int) -> RoundComputation:
    """Returns the computation of a round."""
    event = self.event(round_index)
    block = event.block if event else None
    if block not in self._by_block:
      self._by_block[block] = self._build(block)
    return self._by_block[block]

  def _adjustment(self, block: int) -> base.Adjustment:
    counts = [e.counts for e in self._events.values() if e.block == block]
    capacities = np.max(np.asarray(counts), axis=0).tolist()
    return self._strategy.adjustment(self._definition.spec, block, capacities)

  @keras_graphs.sparing_eager_models()
  def _build(self, block: Optional[int]) -> RoundComputation:
    spec = self._definition.spec
    adjustment = None if block is None else self._adjustment(block)
    layers = 0 if block is None else len(spec.blocks[block])
    instruction_type = tff.types.to_type(
      messages.RoundInstruction(
        tff.TensorType(np.int32),
        tff.TensorType(np.float32),
        tff.TensorType(np.int32, [layers]),
      )
    )
    model_type = messages.sparse_model_type(self._sizes, self._active_count)
    client_work = _build_client_work(
      self._definition, self._store, self._config, adjustment, self._seed,
      model_type, instruction_type,
    )  # fmt: skip
    next_round = _compose(
      client_work, adjustment, self.state_type, instruction_type, self._active_count
    )
    return RoundComputation(
      next_round,
      messages.size_bytes(model_type) + messages.size_bytes(instruction_type),
      messages.size_bytes(client_work.type_signature.result),
    )


def reference_type() -> tff.Type:
  """Type of what says where a client's records lie."""
  return tff.types.to_type(
    client_store.ClientReference(*([tff.TensorType(np.int64)] * 4))
  )


def _build_client_work(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  config: training.TrainingConfig,
  adjustment: Optional[base.Adjustment],
  seed: int,
  model_type: tff.Type,
  instruction_type: tff.Type,
) -> tff.Computation:
  """Builds (ClientReference, SparseModel, RoundInstruction) to ClientUpdate."""
  spec = model_definition.spec

  @tff.tensorflow.computation(reference_type(), model_type, instruction_type)
  def client_work(
    client: client_store.ClientReference,
    model: messages.SparseModel,
    instruction: messages.RoundInstruction,
  ) -> messages.ClientUpdate:
    trainer = training.LocalTrainer(model_definition, config, store.decode)
    weights, mask = messages.unpack_model(model, spec.size)
    records = store.read(client.first_record, client.training_examples)
    examples = batches.shuffled(
      records,
      config.local_epochs,
      client_seed(seed, instruction.round_index, client.client),
    )
    rate = instruction.learning_rate
    statistics: Any = ()
    if adjustment is None:
      trained, metrics = trainer.train(weights, mask, examples, rate)
    else:
      look = functools.partial(
        adjustment.client_statistics, mask=mask, counts=instruction.counts
      )
      trained, metrics, statistics = trainer.train_with_statistics(
        weights, mask, examples, rate, look
      )
    offset = trained.batch_norm_mean - weights.batch_norm_mean
    active = model.active_values.shape[0]
    return messages.ClientUpdate(
      messages.TrainedModel(
        packing.gather_active(trained.prunable, mask, active),
        trained.dense,
        offset,
        trained.batch_norm_variance + tf.square(offset),
      ),
      tf.cast(client.training_examples, tf.float32),
      metrics,
      statistics,
    )

  return client_work


def client_seed(seed: int, round_index: tf.Tensor, client: tf.Tensor) -> tf.Tensor:
  """Returns the int32 [2] seed of one client in one round."""
  fold_in = tf.random.experimental.stateless_fold_in
  run = tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int32)
  return fold_in(fold_in(run, round_index), tf.cast(client, tf.int32))


def _compose(
  client_work: tff.Computation,
  adjustment: Optional[base.Adjustment],
  state_type: tff.Type,
  instruction_type: tff.Type,
  active_count: int,
) -> tff.Computation:
  """Wires a round around the client work."""
  update_type = client_work.type_signature.result

  @tff.tensorflow.computation(state_type)
  def pack(state: messages.ServerState) -> messages.SparseModel:
    return messages.pack_model(state.weights, state.mask, active_count)

  @tff.tensorflow.computation(state_type, update_type.model)
  def merge(
    state: messages.ServerState, mean: messages.TrainedModel
  ) -> messages.ServerState:
    variance = mean.second_moment - tf.square(mean.mean_offset)
    weights = tfmot_masking.ModelWeights(
      packing.scatter_active(mean.active_values, state.mask),
      mean.dense,
      state.weights.batch_norm_mean + mean.mean_offset,
      tf.maximum(variance, 0.0),
    )
    return messages.ServerState(weights, state.mask, state.round_index + 1)

  adjust = _build_adjust(adjustment, update_type, state_type, instruction_type)

  @tff.federated_computation(
    tff.FederatedType(state_type, tff.SERVER),
    tff.FederatedType(reference_type(), tff.CLIENTS),
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
    state: messages.ServerState, mean: Any, instruction: messages.RoundInstruction
  ) -> messages.ServerState:
    prunable, mask = adjustment.apply(
      state.weights.prunable, state.mask, mean, instruction.counts
    )
    return state._replace(
      weights=state.weights._replace(prunable=prunable), mask=mask
    )

  def adjust(merged: Any, update: Any, instruction: Any) -> Any:
    sent = tff.federated_zip((update.statistics, update.weight))
    mean = tff.federated_aggregate(sent, zero(), accumulate, merge, report)
    return tff.federated_map(apply, (merged, mean, instruction))

  return adjust
