"""How clients' reports on candidates become one score for each.

A report that is not finite, or counts other examples than the server knows its client
to hold out, is left out. Otherwise sums are added up; or, where aggregation guards
against clients that lie, every client counts alike, and of its mean loss, its share of
hits and its batch-norm moments the extremes are left out, candidate by candidate.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data import client_store
from fedtiny_tff.federated import aggregation as aggregation_lib
from fedtiny_tff.federated import messages
from fedtiny_tff.masked_models import batch_statistics
from fedtiny_tff.protection import guards
from fedtiny_tff.protection.aggregation_config import MEAN, Aggregation
from fedtiny_tff.tasks import Metrics

# From reports and client references, both at the clients, to the server's value.
Vote = Callable[[Any, Any], Any]


def scores_count(scores: Metrics, held_out: tf.Tensor) -> tf.Tensor:
  """Whether a client's scores of the candidates can be, bool.

  Args:
    scores: Sums over its held-out part, each float32 [candidates].
    held_out: int64, examples that the server knows it to hold out.
  """
  known = tf.cast(held_out, tf.float32)
  fits = (
    tf.equal(scores.examples, known)
    & (scores.loss_sum >= 0.0)
    & (scores.correct >= 0.0)
    & (scores.correct <= known)
  )
  return guards.is_finite(scores) & tf.reduce_all(fits) & (known > 0.0)


def moments_count(
  moments: batch_statistics.BatchMoments, held_out: tf.Tensor
) -> tf.Tensor:
  """Whether a client's batch-norm moments can be, bool.

  Args:
    moments: Each float64 [candidates, BN channels].
    held_out: int64, examples that the server knows it to hold out.
  """
  known = tf.cast(held_out, tf.float64)
  # A channel has as many values of each example as its layer has positions.
  places = tf.math.divide_no_nan(moments.count, known)
  fits = (
    (places >= 1.0)
    & tf.equal(places, tf.round(places))
    & tf.equal(moments.count, moments.count[:1])
    & (moments.second >= 0.0)
    # A mean square is at least the square of the mean; up to rounding.
    & (tf.square(moments.first) <= moments.count * moments.second * 1.001 + 1e-6)
  )
  return guards.is_finite(moments) & tf.reduce_all(fits) & (known > 0.0)


def score_vote(aggregation: Aggregation, scores_type: tff.Type) -> Vote:
  """Builds what the server has of all scores: Metrics, and how many clients count."""

  def share(scores: Metrics) -> Metrics:
    count = tf.maximum(scores.examples, 1.0)
    return Metrics(
      scores.loss_sum / count, scores.correct / count, tf.ones_like(scores.examples)
    )

  return _vote(aggregation, scores_type, scores_count, share, Metrics)


def moments_vote(aggregation: Aggregation, moments_type: tff.Type) -> Vote:
  """Builds what the server has of all moments: BatchMoments, and how many count."""

  def share(moments: batch_statistics.BatchMoments) -> batch_statistics.BatchMoments:
    count = tf.maximum(moments.count, 1.0)
    return batch_statistics.BatchMoments(
      tf.ones_like(moments.count), moments.first / count, moments.second / count
    )

  kind = batch_statistics.BatchMoments
  return _vote(aggregation, moments_type, moments_count, share, kind)


def _vote(
  aggregation: Aggregation,
  report_type: tff.Type,
  counts: Callable[[Any, tf.Tensor], tf.Tensor],
  share: Callable[[Any], Any],
  kind: Callable[..., Any],
) -> Vote:
  """Builds a vote.

  Args:
    aggregation: How.
    report_type: Of what a client reports.
    counts: Whether a report, of a client with so many held-out examples, counts.
    share: From a client's sums to its means.
    kind: NamedTuple of the reports.
  """

  @tff.tensorflow.computation(messages.reference_type(), report_type)
  def judge(reference: client_store.ClientReference, report: Any) -> Any:
    accepted = tf.cast(
      counts(kind(*report), reference.development_examples), tf.float32
    )
    return guards.blank_unless(accepted, kind(*report)), accepted

  stacked = None
  if aggregation.name != MEAN:
    held = aggregation.of_scores(aggregation.slots)
    specs = kind(
      *(
        tf.TensorSpec(getattr(report_type, name).shape, _dtype(report_type, name))
        for name in kind._fields  # type: ignore[attr-defined]
      )
    )
    stacked = aggregation_lib.stacked_mean(held, report_type, share, specs)

  def vote(report: Any, references: Any) -> Any:
    judged = tff.federated_map(judge, (references, report))
    count = tff.federated_sum(judged[1])
    if stacked is None:
      return tff.federated_zip((tff.federated_sum(judged[0]), count))
    return tff.federated_zip((stacked(judged[0], judged[1]), count))

  return vote


def _dtype(report_type: tff.Type, name: str) -> np.dtype[Any]:
  return np.dtype(getattr(report_type, name).dtype)
