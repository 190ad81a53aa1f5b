"""Rounds that adapt a pruned model to int8, on the clients' own records.

    server state -> sparse model and ranges -> clients train -> means -> server state

Clients train the float weights beneath, with everything rounded in the forward pass.
Masks never move here. A round weighs what an ordinary one does, and two numbers more
for each rounded activation, both ways.

Ranges start as the smallest and the largest value that any client saw, as post-training
calibration has them. In rounds each client moves them on as a moving average, and their
mean over the clients, weighted by examples, is what such an average over all the
clients' batches would be; minima and maxima would keep every outlier, which training
is there to get rid of.

Reports are looked at as in any round, and those that do not count are left out. Where
aggregation holds reports side by side it does so here; the others take the weighted mean.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import aggregation as aggregation_lib
from fedtiny_tff.federated import evaluation, messages
from fedtiny_tff.federated.quantisation import quantisation_messages
from fedtiny_tff.federated.quantisation.quantisation_messages import (
  QuantisedState,
  QuantisedUpdate,
)
from fedtiny_tff.federated.training_rounds import client_work
from fedtiny_tff.local_training import batches, quantisation_training, training
from fedtiny_tff.local_training.quantisation_training import QuantisedWeights
from fedtiny_tff.masked_models.tfmot_quantisation import QuantisedPlan, Ranges
from fedtiny_tff.model_structure import keras_graphs
from fedtiny_tff.protection import aggregation_config, guards


class QuantisationRounds:
  """The computations of one model, each built when first needed."""

  def __init__(
    self,
    plan: QuantisedPlan,
    store: client_store.ClientStore,
    config: training.TrainingConfig,
    *,
    active_count: int,
    evaluation_batch_size: int,
    seed: int,
    aggregation: aggregation_config.Aggregation = aggregation_config.WEIGHTED_MEAN,
  ):
    """Fixes everything static.

    Args:
      plan: The model.
      store: Where clients read their records.
      config: Local training.
      active_count: Unpruned weights.
      evaluation_batch_size: Examples per batch where nothing is trained.
      seed: Seed of the run.
      aggregation: How reports are put together; one that hides none of them.
    """
    self._plan = plan
    self._store = store
    self._config = config
    self._batch_size = evaluation_batch_size
    self._seed = seed
    self._aggregation = aggregation
    self._size = plan.definition.spec.size
    self._types = quantisation_messages.quantised_types(plan, active_count)

  @property
  def download_bytes(self) -> int:
    """Payload each client receives in a round."""
    parts = (self._types.model, self._types.ranges, messages.instruction_type(0))
    return sum(map(messages.size_bytes, parts))

  @property
  def upload_bytes(self) -> int:
    """Payload each client sends in a round."""
    return messages.size_bytes(self._client_work.type_signature.result)

  def run(
    self,
    quantised: QuantisedWeights,
    mask: Array,
    clients: Sequence[client_store.ClientReference],
    round_index: int,
    learning_rate: float,
  ) -> tuple[QuantisedWeights, tasks.Metrics]:
    """Runs one round in the current TFF context.

    Args:
      quantised: NumPy arrays, pruned weights zero.
      mask: bool [prunable weights].
      clients: Who takes part.
      round_index: Seeds the clients' randomness.
      learning_rate: The clients'.

    Returns:
      The next weights and ranges, and the clients' training metrics.
    """
    instruction = messages.RoundInstruction(
      np.int32(round_index), np.float32(learning_rate), np.zeros([0], np.int32)
    )
    state = quantisation_messages.pack_state(quantised, mask, round_index)
    result, metrics = self.next(state, list(clients), instruction)
    unpacked = quantisation_messages.unpack_state(result, self._size)
    return unpacked, tasks.Metrics(*metrics)

  @functools.cached_property
  @keras_graphs.sparing_eager_models()
  def observe(self) -> tff.Computation:
    """(QuantisedState@SERVER, {ClientReference}@CLIENTS) to Ranges@SERVER.

    What the clients' training examples show; the state's own ranges do not count.
    """
    model, _ = _build_parts(self._types)

    @tff.tensorflow.computation(messages.reference_type(), self._types.model)
    def work(
      client: client_store.ClientReference, sent: messages.SparseModel
    ) -> Ranges:
      evaluator = quantisation_training.QuantisedEvaluator(
        self._plan, self._store.decode, self._batch_size
      )
      weights, mask, _ = messages.unpack_model(sent, self._size)
      records = self._store.read(client.first_record, client.training_examples)
      ranges: Ranges = evaluator.observe(weights, mask, records)
      return ranges

    @tff.federated_computation(*self._types.placed)
    def observe(state: Any, clients: Any) -> Any:
      sent = tff.federated_broadcast(tff.federated_map(model, state))
      seen = tff.federated_map(work, (clients, sent))
      ends = tff.federated_min(seen.minimum), tff.federated_max(seen.maximum)
      return tff.federated_zip(Ranges(*ends))

    return observe

  @functools.cached_property
  @keras_graphs.sparing_eager_models()
  def evaluate(self) -> tff.Computation:
    """(QuantisedState@SERVER, {ClientReference}@CLIENTS) to Metrics@SERVER.

    Of the rounded model, on the held-out parts.
    """
    model, ranges = _build_parts(self._types)

    @tff.tensorflow.computation(
      messages.reference_type(), self._types.model, self._types.ranges
    )
    def work(
      client: client_store.ClientReference, sent: messages.SparseModel, limits: Ranges
    ) -> tasks.Metrics:
      evaluator = quantisation_training.QuantisedEvaluator(
        self._plan, self._store.decode, self._batch_size
      )
      weights, mask, _ = messages.unpack_model(sent, self._size)
      records = evaluation.read_development(self._store, client)
      quantised = QuantisedWeights(weights, limits)
      metrics: tasks.Metrics = evaluator.evaluate_quantised(quantised, mask, records)
      return metrics

    @tff.federated_computation(*self._types.placed)
    def evaluate(state: Any, clients: Any) -> Any:
      sent = tff.federated_broadcast(tff.federated_map(model, state))
      limits = tff.federated_broadcast(tff.federated_map(ranges, state))
      return tff.federated_sum(tff.federated_map(work, (clients, sent, limits)))

    return evaluate

  @functools.cached_property
  @keras_graphs.sparing_eager_models()
  def _client_work(self) -> tff.Computation:
    """(ClientReference, SparseModel, Ranges, instruction) to QuantisedUpdate."""

    @tff.tensorflow.computation(
      messages.reference_type(),
      self._types.model,
      self._types.ranges,
      messages.instruction_type(0),
    )
    def work(
      client: client_store.ClientReference,
      sent: messages.SparseModel,
      ranges: Ranges,
      instruction: messages.RoundInstruction,
    ) -> QuantisedUpdate:
      trainer = quantisation_training.QuantisedTrainer(
        self._plan, self._config, self._store.decode
      )
      weights, mask, places = messages.unpack_model(sent, self._size)
      records = self._store.read(client.first_record, client.training_examples)
      examples = batches.shuffled(
        records,
        self._config.local_epochs,
        client_work.client_seed(self._seed, instruction.round_index, client.client),
      )
      (trained, moved), metrics = trainer.train_quantised(
        QuantisedWeights(weights, ranges), mask, examples, instruction.learning_rate
      )
      offset = trained.batch_norm_mean - weights.batch_norm_mean
      model = messages.TrainedModel(
        tf.gather(trained.prunable, places),
        trained.dense,
        offset,
        trained.batch_norm_variance + tf.square(offset),
      )
      weight = tf.cast(client.training_examples, tf.float32)
      verdict = client_work.inspect(
        client,
        messages.without_positions(sent),
        messages.ClientUpdate(model, weight, metrics, (moved,)),
        self._config.local_epochs,
        None,
      )
      update = QuantisedUpdate(model, moved, weight, metrics)
      return guards.blank_unless(verdict.accepted, update)

    return work

  @functools.cached_property
  def next(self) -> tff.Computation:
    """A round.

    (QuantisedState@SERVER, {ClientReference}@CLIENTS, RoundInstruction@SERVER) to
    (QuantisedState@SERVER, Metrics@SERVER).
    """
    work, types = self._client_work, self._types
    model, ranges = _build_parts(types)
    update_type = work.type_signature.result
    instruction_type = work.type_signature.parameter[3]

    @tff.tensorflow.computation(
      types.state, update_type.model, types.ranges, update_type.metrics
    )
    def merge(
      state: QuantisedState,
      mean: messages.TrainedModel,
      moved: Ranges,
      metrics: tasks.Metrics,
    ) -> QuantisedState:
      # As in `composition`: the spread of the clients' means belongs to the variance.
      variance = mean.second_moment - tf.square(mean.mean_offset)
      merged = messages.SparseModel(
        mean.active_values,
        state.model.positions,
        mean.dense,
        state.model.batch_norm_mean + mean.mean_offset,
        tf.maximum(variance, 0.0),
      )
      # Where no report counts, nothing was averaged.
      model, ranges = tf.nest.map_structure(
        lambda new, old: tf.where(metrics.examples > 0.0, new, old),
        (merged, Ranges(*moved)),
        (messages.SparseModel(*state.model), Ranges(*state.ranges)),
      )
      return QuantisedState(model, ranges, state.round_index + 1)

    average = _build_average(self._aggregation, update_type)

    @tff.federated_computation(
      *types.placed, tff.FederatedType(instruction_type, tff.SERVER)
    )
    def next_round(state: Any, clients: Any, instruction: Any) -> Any:
      sent = tff.federated_broadcast(tff.federated_map(model, state))
      limits = tff.federated_broadcast(tff.federated_map(ranges, state))
      told = tff.federated_broadcast(instruction)
      update = tff.federated_map(work, (clients, sent, limits, told))
      mean, moved = average(update)
      metrics = tff.federated_sum(update.metrics)
      return tff.federated_map(merge, (state, mean, moved, metrics)), metrics

    return next_round


def _build_average(
  aggregation: aggregation_config.Aggregation, update_type: tff.Type
) -> Callable[[Any], tuple[Any, Any]]:
  """Builds how clients' QuantisedUpdates become a mean model and mean ranges."""
  if not aggregation.is_stacked:
    return lambda update: (
      tff.federated_mean(update.model, update.weight),
      tff.federated_mean(update.ranges, update.weight),
    )

  @tff.tensorflow.computation(np.float32)
  def counts(weight: tf.Tensor) -> tf.Tensor:
    return tf.cast(weight > 0.0, tf.float32)

  model = aggregation_lib.stacked_mean(aggregation, update_type.model)
  ranges = aggregation_lib.stacked_mean(aggregation, update_type.ranges)

  def average(update: Any) -> tuple[Any, Any]:
    accepted = tff.federated_map(counts, update.weight)
    return model(update.model, accepted), ranges(update.ranges, accepted)

  return average


def _build_parts(
  types: quantisation_messages.QuantisedTypes,
) -> tuple[tff.Computation, tff.Computation]:
  """Builds QuantisedState to SparseModel, and QuantisedState to Ranges."""

  @tff.tensorflow.computation(types.state)
  def model(state: QuantisedState) -> messages.SparseModel:
    return state.model

  @tff.tensorflow.computation(types.state)
  def ranges(state: QuantisedState) -> Ranges:
    return state.ranges

  return model, ranges
