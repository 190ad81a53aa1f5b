"""Adaptive BN selection whose clients computed elsewhere: their two reports arrive.

    clients' moments -> pooled BN statistics of every candidate
    clients' scores  -> loss of every candidate

What the server does is `selection`'s: the same look at each report, the same sums.
"""

from typing import Any, NamedTuple

import tensorflow_federated as tff

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.adaptive_selection import selection, selection_votes
from fedtiny_tff.masked_models import batch_statistics
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import aggregation_config


class ReceivedSelection(NamedTuple):
  """The server's part of both exchanges.

  Attributes:
    pool_moments: (CandidatePool@SERVER, {BatchMoments}@CLIENTS,
      {ClientReference}@CLIENTS) to (BatchNormStatistics, reports)@SERVER.
    add_scores: ({Metrics}@CLIENTS, {ClientReference}@CLIENTS) to (Metrics,
      reports)@SERVER.
  """

  pool_moments: tff.Computation
  add_scores: tff.Computation


def build_received_selection(
  sizes: ModelWeights,
  candidates: int,
  active_count: int,
  aggregation: aggregation_config.Aggregation = aggregation_config.WEIGHTED_MEAN,
) -> ReceivedSelection:
  """Builds the server's part of a selection.

  Args:
    sizes: Vector lengths of the model.
    candidates: Size of the pool.
    active_count: Unpruned weights of every candidate.
    aggregation: How clients' reports are put together; one that hides none of them.
  """
  pool_type = selection.candidate_pool_type(sizes, candidates, active_count)
  moments_type = selection.batch_moments_type(sizes, candidates)
  scores_type = selection.candidate_scores_type(candidates)
  moments_vote = selection_votes.moments_vote(aggregation, moments_type)
  score_vote = selection_votes.score_vote(aggregation, scores_type)
  references = tff.FederatedType(messages.reference_type(), tff.CLIENTS)

  @tff.tensorflow.computation(pool_type, moments_type)
  def pooled(
    pool: selection.CandidatePool, moments: batch_statistics.BatchMoments
  ) -> selection.BatchNormStatistics:
    return selection.BatchNormStatistics(
      *batch_statistics.pool(moments, pool.batch_norm_mean)
    )

  @tff.federated_computation(
    tff.FederatedType(pool_type, tff.SERVER),
    tff.FederatedType(moments_type, tff.CLIENTS),
    references,
  )
  def pool_moments(pool: Any, moments: Any, clients: Any) -> Any:
    voted = moments_vote(moments, clients)
    statistics = tff.federated_map(pooled, (pool, voted[0]))
    return tff.federated_zip((statistics, voted[1]))

  @tff.federated_computation(tff.FederatedType(scores_type, tff.CLIENTS), references)
  def add_scores(scores: Any, clients: Any) -> Any:
    return score_vote(scores, clients)

  return ReceivedSelection(pool_moments, add_scores)
