"""Adaptive BN selection: the two exchanges before the first round.

    server -> clients: every candidate as a sparse model
    clients -> server: moments of every BN input on the held-out part
    server -> clients: pooled BN statistics of every candidate
    clients -> server: loss of every candidate under those statistics

Source: FedTiny (arXiv 2212.01977), adaptive batch-normalisation selection.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import evaluation, messages
from fedtiny_tff.federated.adaptive_selection import hidden_selection, selection_votes
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models import batch_statistics, tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition, keras_graphs
from fedtiny_tff.protection import aggregation_config
from fedtiny_tff.sparsity import positions


class CandidatePool(NamedTuple):
  """Candidates as they travel; all share what is not pruned.

  Attributes:
    active_values: float32 [candidates, active weights].
    positions: uint8 [candidates, bytes], see `fedtiny_tff.sparsity.positions`.
    dense: float32 [other trainable parameters].
    batch_norm_mean: float32 [BN channels], pre-trained.
    batch_norm_variance: float32 [BN channels], pre-trained.
  """

  active_values: tf.Tensor
  positions: tf.Tensor
  dense: tf.Tensor
  batch_norm_mean: tf.Tensor
  batch_norm_variance: tf.Tensor


class BatchNormStatistics(NamedTuple):
  """Statistics of every candidate.

  Attributes:
    mean: float32 [candidates, BN channels].
    variance: float32 [candidates, BN channels].
  """

  mean: tf.Tensor
  variance: tf.Tensor


class SelectionResult(NamedTuple):
  """What the server learns.

  Attributes:
    metrics: Sums over all held-out parts, each float32 [candidates]; or what most
      clients agree on, as if of one example.
    statistics: BN statistics under which the candidates were scored.
    reports: float32, clients whose scores count, 0 where nobody's batch-norm moments do;
      without any, nothing else is usable.
  """

  metrics: tasks.Metrics
  statistics: BatchNormStatistics
  reports: tf.Tensor


def make_pool(weights: ModelWeights, masks: Array) -> CandidatePool:
  """Packs the pre-trained weights under every mask.

  Args:
    weights: Pre-trained, as NumPy arrays.
    masks: bool [candidates, prunable weights], all with equally many True.
  """
  code = positions.smallest_code(masks.shape[1], int(np.count_nonzero(masks[0])))
  return CandidatePool(
    np.stack([weights.prunable[mask] for mask in masks]),
    np.stack([code.encode(tf.constant(mask)).numpy() for mask in masks]),
    weights.dense,
    weights.batch_norm_mean,
    weights.batch_norm_variance,
  )


def _candidate(
  pool: CandidatePool, number: tf.Tensor, size: int
) -> tuple[ModelWeights, tf.Tensor]:
  sparse = messages.SparseModel(
    pool.active_values[number],
    pool.positions[number],
    pool.dense,
    pool.batch_norm_mean,
    pool.batch_norm_variance,
  )
  weights, mask, _ = messages.unpack_model(sparse, size)
  return weights, mask


def candidate_pool_type(sizes: ModelWeights, candidates: int, active: int) -> tff.Type:
  """Type of the candidates on their way to a client."""
  packed = positions.smallest_code(sizes.prunable, active).encoded_bytes
  return tff.types.to_type(
    CandidatePool(
      tff.TensorType(np.float32, [candidates, active]),
      tff.TensorType(np.uint8, [candidates, packed]),
      tff.TensorType(np.float32, [sizes.dense]),
      tff.TensorType(np.float32, [sizes.batch_norm_mean]),
      tff.TensorType(np.float32, [sizes.batch_norm_variance]),
    )
  )


def batch_norm_statistics_type(sizes: ModelWeights, candidates: int) -> tff.Type:
  """Type of the statistics under which clients score the candidates."""
  channels = tff.TensorType(np.float32, [candidates, sizes.batch_norm_mean])
  return tff.types.to_type(BatchNormStatistics(channels, channels))


def batch_moments_type(sizes: ModelWeights, candidates: int) -> tff.Type:
  """Type of what a client measured of every candidate."""
  channels = tff.TensorType(np.float64, [candidates, sizes.batch_norm_mean])
  fields = batch_statistics.BatchMoments._fields
  return tff.types.to_type(batch_statistics.BatchMoments(*([channels] * len(fields))))


def candidate_scores_type(candidates: int) -> tff.Type:
  """Type of a client's metrics of every candidate."""
  sums = tff.TensorType(np.float32, [candidates])
  return tff.types.to_type(tasks.Metrics(*([sums] * len(tasks.Metrics._fields))))


def _build_measure(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  pool_type: tff.Type,
  batch_size: int,
) -> tff.Computation:
  """Builds (ClientReference, CandidatePool) to BatchMoments [candidates, BN]."""
  candidates = pool_type.active_values.shape[0]

  @tff.tensorflow.computation(messages.reference_type(), pool_type)
  def measure(
    client: client_store.ClientReference, pool: CandidatePool
  ) -> batch_statistics.BatchMoments:
    probe = batch_statistics.MomentsProbe(model_definition)
    features, _ = store.decode(evaluation.read_development(store, client))

    @tf.function
    def measure_all() -> batch_statistics.BatchMoments:
      def one(number: tf.Tensor) -> batch_statistics.BatchMoments:
        weights, mask = _candidate(pool, number, model_definition.spec.size)
        moments = probe.measure(weights, mask, features, batch_size)
        return cast("batch_statistics.BatchMoments", moments)

      signature = batch_statistics.BatchMoments(*([tf.float64] * 3))
      # One at a time: the candidates share the probe's variables.
      moments = tf.map_fn(
        one, tf.range(candidates), parallel_iterations=1,
        fn_output_signature=signature,
      )  # fmt: skip
      return cast("batch_statistics.BatchMoments", moments)

    measured: batch_statistics.BatchMoments = measure_all()
    return measured

  return measure


def _build_score(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  pool_type: tff.Type,
  statistics_type: tff.Type,
  batch_size: int,
) -> tff.Computation:
  """Builds (ClientReference, CandidatePool, BatchNormStatistics) to Metrics."""
  candidates = pool_type.active_values.shape[0]

  @tff.tensorflow.computation(messages.reference_type(), pool_type, statistics_type)
  def score(
    client: client_store.ClientReference,
    pool: CandidatePool,
    statistics: BatchNormStatistics,
  ) -> tasks.Metrics:
    evaluator = training.Evaluator(model_definition, store.decode, batch_size)
    held_out = evaluation.read_development(store, client)

    @tf.function
    def score_all() -> tasks.Metrics:
      def one(number: tf.Tensor) -> tasks.Metrics:
        weights, mask = _candidate(pool, number, model_definition.spec.size)
        adapted = weights._replace(
          batch_norm_mean=statistics.mean[number],
          batch_norm_variance=statistics.variance[number],
        )
        metrics = evaluator.evaluate(adapted, mask, held_out)
        return cast("tasks.Metrics", metrics)

      signature = tasks.Metrics(*([tf.float32] * 3))
      metrics = tf.map_fn(
        one, tf.range(candidates), parallel_iterations=1,
        fn_output_signature=signature,
      )  # fmt: skip
      return cast("tasks.Metrics", metrics)

    scored: tasks.Metrics = score_all()
    return scored

  return score


@keras_graphs.sparing_eager_models()
def build_selection(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  *,
  candidates: int,
  active_count: int,
  batch_size: int,
  adaptive: bool = True,
  aggregation: aggregation_config.Aggregation = aggregation_config.WEIGHTED_MEAN,
) -> tff.Computation:
  """Builds the selection of a candidate.

  Args:
    model_definition: The model.
    store: Where clients read their held-out records.
    candidates: Size of the pool.
    active_count: Unpruned weights of every candidate.
    batch_size: Examples per mini-batch.
    adaptive: Score under pooled BN statistics (the paper); otherwise under the
      pre-trained ones ("vanilla selection").
    aggregation: How clients' reports are put together.

  Returns:
    (CandidatePool@SERVER, {ClientReference}@CLIENTS) to SelectionResult@SERVER.
  """
  sizes = tfmot_masking.vector_sizes(model_definition)
  pool_type = candidate_pool_type(sizes, candidates, active_count)
  statistics_type = batch_norm_statistics_type(sizes, candidates)
  score = _build_score(model_definition, store, pool_type, statistics_type, batch_size)
  measures = adaptive and bool(sizes.batch_norm_mean)
  if aggregation.hides_reports:
    vote = hidden_selection.scores_mean(
      aggregation, score.type_signature.result, 1 + measures
    )
  else:
    vote = selection_votes.score_vote(aggregation, score.type_signature.result)
  pretrained = _build_pretrained(pool_type, candidates)
  adapt = (
    _build_adapt(model_definition, store, pool_type, batch_size, aggregation)
    if measures
    else None
  )

  @tff.federated_computation(
    tff.FederatedType(pool_type, tff.SERVER),
    tff.FederatedType(messages.reference_type(), tff.CLIENTS),
  )
  def select(pool: Any, clients: Any) -> Any:
    received = tff.federated_broadcast(pool)
    measured = None
    if adapt is None:
      statistics = tff.federated_map(pretrained, pool)
    else:
      statistics, measured = adapt(pool, received, clients)
    sent_back = tff.federated_broadcast(statistics)
    scores = tff.federated_map(score, (clients, received, sent_back))
    voted = vote(scores, clients)
    reports = voted[1]
    if measured is not None:
      reports = tff.federated_map(_usable, (reports, measured))
    return tff.federated_zip(SelectionResult(voted[0], statistics, reports))

  return select


@tff.tensorflow.computation(np.float32, np.float32)
def _usable(scores: tf.Tensor, moments: tf.Tensor) -> tf.Tensor:
  """How many clients' scores count: none under statistics of nobody's moments."""
  return tf.where(moments > 0.0, scores, 0.0)


def _build_pretrained(pool_type: tff.Type, candidates: int) -> tff.Computation:
  @tff.tensorflow.computation(pool_type)
  def pretrained(pool: CandidatePool) -> BatchNormStatistics:
    return BatchNormStatistics(
      tf.tile(pool.batch_norm_mean[tf.newaxis], [candidates, 1]),
      tf.tile(pool.batch_norm_variance[tf.newaxis], [candidates, 1]),
    )

  return pretrained


def _build_adapt(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  pool_type: tff.Type,
  batch_size: int,
  aggregation: aggregation_config.Aggregation,
) -> Callable[[Any, Any, Any], Any]:
  """Builds the first exchange: clients' moments to pooled statistics.

  With them comes how many clients' moments count; None where that is hidden, and where
  the pre-trained statistics stay if none do.
  """
  measure = _build_measure(model_definition, store, pool_type, batch_size)
  moments_type = measure.type_signature.result
  if aggregation.hides_reports:
    hidden = hidden_selection.moments_mean(aggregation, moments_type, pool_type)

    def mean(moments: Any, clients: Any, received: Any, pool: Any) -> Any:
      return hidden(moments, clients, received, pool), None
  else:
    vote = selection_votes.moments_vote(aggregation, moments_type)

    def mean(moments: Any, clients: Any, received: Any, pool: Any) -> Any:
      return vote(moments, clients)

  @tff.tensorflow.computation(pool_type, moments_type)
  def pool_moments(
    pool: CandidatePool, moments: batch_statistics.BatchMoments
  ) -> BatchNormStatistics:
    return BatchNormStatistics(*batch_statistics.pool(moments, pool.batch_norm_mean))

  def adapt(pool: Any, received: Any, clients: Any) -> Any:
    moments = tff.federated_map(measure, (clients, received))
    voted = mean(moments, clients, received, pool)
    return tff.federated_map(pool_moments, (pool, voted[0])), voted[1]

  return adapt
