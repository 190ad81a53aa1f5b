"""Selection of which the server learns sums only, or private ones.

Batch-norm moments travel in units of the pre-trained statistics, so that their lengths
have a bound. Under privacy every client counts alike, and scores are what a candidate's
loss is above the client's mean over all candidates: only that decides, and it is short.
Both exchanges are one release, of one draw of clients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages
from fedtiny_tff.federated.adaptive_selection import selection_votes
from fedtiny_tff.federated.private_sums import private_means, releases, secure_sums
from fedtiny_tff.federated.private_sums.releases import (
  LEAST_VARIANCE,
  LEAST_VARIANCE_SHARE,
)
from fedtiny_tff.masked_models.batch_statistics import BatchMoments
from fedtiny_tff.protection import guards, secure_config
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.tasks import Metrics

# Longest vectors that count: a quarter of a deviation in every coordinate, and losses
# that differ by about a half.
_MOMENT_CLIP = 0.25
_SCORE_CLIP = 0.5


class _Moments(NamedTuple):
  """A client's mean moments in units of the pre-trained ones, float32 [candidates, BN]."""

  first: tf.Tensor
  second: tf.Tensor


def _scale(pool: Any) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the pre-trained variance, as it is and as a unit."""
  variance = tf.cast(pool.batch_norm_variance, tf.float64)
  return variance, variance + LEAST_VARIANCE


def moments_mean(
  aggregation: Aggregation, moments_type: tff.Type, pool_type: tff.Type
) -> Callable[[Any, Any, Any, Any], Any]:
  """Builds the pooled moments.

  Args:
    aggregation: With privacy, secure sums or both.
    moments_type: Of what a client measured.
    pool_type: Of the candidates.

  Returns:
    From moments, references and candidates at the clients, and candidates at the
    server, to BatchMoments of one value a channel at the server.
  """

  @tff.tensorflow.computation(messages.reference_type(), moments_type, pool_type)
  def split(
    reference: client_store.ClientReference, moments: BatchMoments, pool: Any
  ) -> tuple[_Moments, tf.Tensor]:
    moments = BatchMoments(*moments)
    held_out = reference.development_examples
    accepted = tf.cast(selection_votes.moments_count(moments, held_out), tf.float32)
    variance, unit = _scale(pool)
    count = tf.maximum(moments.count, 1.0)
    value = _Moments(
      tf.cast(moments.first / count / tf.sqrt(unit), tf.float32),
      tf.cast((moments.second / count - variance) / unit, tf.float32),
    )
    weight = accepted * tf.cast(held_out, tf.float32)
    return guards.blank_unless(accepted, value), weight

  value_type = split.type_signature.result[0]
  is_noisy = aggregation.privacy is not None

  @tff.tensorflow.computation(value_type, pool_type)
  def join(mean: _Moments, pool: Any) -> BatchMoments:
    variance, unit = _scale(pool)
    first = tf.cast(mean.first, tf.float64) * tf.sqrt(unit)
    second = tf.cast(mean.second, tf.float64) * unit + variance
    if is_noisy:
      second = tf.maximum(second, tf.square(first) + LEAST_VARIANCE_SHARE * variance)
    return BatchMoments(tf.ones_like(first), first, second)

  values = secure_sums.count_values(value_type)
  clip_norm = _MOMENT_CLIP * float(np.sqrt(values))
  average = _mean(
    aggregation, value_type, "moments", 2, clip_norm, secure_config.MODEL_LIMIT
  )

  def mean(moments: Any, references: Any, received: Any, pool: Any) -> Any:
    value = tff.federated_map(split, (references, moments, received))
    return tff.federated_map(join, (average(value[0], value[1]), pool))

  return mean


def scores_mean(
  aggregation: Aggregation, scores_type: tff.Type, exchanges: int
) -> Callable[[Any, Any], Any]:
  """Builds the candidates' scores.

  Args:
    aggregation: With privacy, secure sums or both.
    scores_type: Of a client's scores.
    exchanges: How many things the selection reveals.

  Returns:
    From scores and references at the clients to Metrics, and how many clients count,
    at the server. Under privacy losses are those above the mean of the candidates, as
    if of one example, hits are 0, and the clients are those expected.
  """

  @tff.tensorflow.computation(messages.reference_type(), scores_type)
  def judge(
    reference: client_store.ClientReference, scores: Metrics
  ) -> tuple[Metrics, tf.Tensor]:
    scores = Metrics(*scores)
    held_out = reference.development_examples
    accepted = tf.cast(selection_votes.scores_count(scores, held_out), tf.float32)
    return guards.blank_unless(accepted, scores), accepted

  privacy = aggregation.privacy
  if privacy is None:
    sums = secure_sums.sum_of(aggregation.secure, judge.type_signature.result)
    return lambda scores, references: sums(
      tff.federated_map(judge, (references, scores))
    )

  @tff.tensorflow.computation(judge.type_signature.result)
  def centre(scores: Metrics, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    losses = scores.loss_sum / tf.maximum(scores.examples, 1.0)
    return losses - tf.reduce_mean(losses), accepted

  @tff.tensorflow.computation(centre.type_signature.result[0])
  def scored(mean: tf.Tensor) -> tuple[Metrics, tf.Tensor]:
    metrics = Metrics(mean, tf.zeros_like(mean), tf.ones_like(mean))
    return metrics, tf.constant(privacy.expected_clients, tf.float32)

  average = _mean(
    aggregation, centre.type_signature.result[0], "scores", exchanges, _SCORE_CLIP,
    _SCORE_CLIP,
  )  # fmt: skip

  def mean(scores: Any, references: Any) -> Any:
    judged = tff.federated_map(judge, (references, scores))
    centred = tff.federated_map(centre, judged)
    return tff.federated_map(scored, average(centred[0], centred[1]))

  return mean


def _mean(
  aggregation: Aggregation,
  value_type: tff.Type,
  purpose: str,
  exchanges: int,
  clip_norm: float,
  limit: float,
) -> Callable[[Any, Any], Any]:
  """Builds a mean that privacy or secure sums hide: from values and weights."""
  privacy, secure = aggregation.privacy, aggregation.secure
  if privacy is None:
    return releases.secure_mean(aggregation, value_type, limit)
  summed = secure and secure_sums.SecureFloatSum(secure, secure.grid(limit))
  noised = private_means.private_mean(
    private_means.fixed_query(privacy, exchanges, clip_norm),
    privacy.expected_clients,
    value_type,
    summed,
  )
  seed = private_means.noise_seed(privacy, purpose)

  def mean(value: Any, weight: Any) -> Any:
    del weight
    return noised(
      tff.federated_value(np.float32(clip_norm), tff.SERVER),
      tff.federated_value(seed, tff.SERVER),
      value,
    )[0]

  return mean
