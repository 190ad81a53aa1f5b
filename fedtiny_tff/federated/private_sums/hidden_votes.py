"""Votes for masks of which the server learns sums only, or private ones.

Top-a pairs cannot be added up unseen, since their positions are the client's own: a vote
travels as a number for every weight of the block, or as a sketch of them. It has
Euclidean norm 1 where only the order of votes matters, and so a bound.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import seeds
from fedtiny_tff.federated.private_sums import private_means, releases, secure_sums
from fedtiny_tff.protection import robust, secure_config, sketches
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.strategies.adjustment import Adjustment


class _Votes(NamedTuple):
  """How a vote travels.

  Attributes:
    sent: (statistics, accepted, round seed) to what is added up.
    received: (mean, round seed) to the structure of `Adjustment.zero`.
  """

  sent: tff.Computation
  received: tff.Computation


def _votes(
  aggregation: Aggregation, adjustment: Adjustment, statistics_type: tff.Type
) -> _Votes:
  secure = aggregation.secure
  buckets = 0
  if secure is not None and adjustment.statistics_are_scores:
    buckets = secure.vote_buckets
  with tf.Graph().as_default():
    zero = adjustment.zero()
    if buckets and (tf.nest.is_nested(zero) or len(zero.shape) != 1):
      raise ValueError("votes must be one vector to be hashed")
    size = 0 if tf.nest.is_nested(zero) else int(zero.shape[0])

  @tff.tensorflow.computation(
    statistics_type, np.float32, tff.TensorType(np.int32, [2])
  )
  def sent(statistics: Any, accepted: tf.Tensor, seed: tf.Tensor) -> Any:
    def vote() -> Any:
      value = adjustment.accumulate(adjustment.zero(), statistics, tf.ones([]))
      return robust.to_unit_norm(value) if adjustment.statistics_are_scores else value

    # What was left out is blank, and positions that are blank cannot be decoded.
    value = tf.cond(accepted > 0.0, vote, adjustment.zero)
    if not buckets:
      return value
    # A row's norm is about the vector's; together they are to have its.
    return sketches.sketch(value, buckets, seed) / np.sqrt(sketches.ROWS)

  @tff.tensorflow.computation(sent.type_signature.result, tff.TensorType(np.int32, [2]))
  def received(mean: Any, seed: tf.Tensor) -> Any:
    if not buckets:
      return tf.nest.map_structure(tf.identity, mean)
    return sketches.estimate(mean * np.sqrt(sketches.ROWS), size, seed)

  return _Votes(sent, received)


def vote_type(
  aggregation: Aggregation, adjustment: Adjustment, statistics_type: tff.Type
) -> tff.Type:
  """Type of what a client's vote travels as."""
  return _votes(aggregation, adjustment, statistics_type).sent.type_signature.result


def vote_mean(
  aggregation: Aggregation,
  adjustment: Adjustment,
  update_type: tff.Type,
  parts: int,
) -> Callable[[Any, Any], Any]:
  """Builds the mean of what clients send for an adjustment.

  Args:
    aggregation: With privacy, secure sums or both.
    adjustment: What votes are for.
    update_type: Of what a client sends.
    parts: Things that the round reveals, see `releases.count_parts`.

  Returns:
    From reports, and the round's instruction at the server, to the mean of
    `adjustment.zero()`'s structure at the server.

  Raises:
    ValueError: For private votes that cannot be scaled, whose lengths have no bound.
  """
  votes = _votes(aggregation, adjustment, update_type.statistics)
  privacy, secure = aggregation.privacy, aggregation.secure
  if privacy is not None and not adjustment.statistics_are_scores:
    raise ValueError(f"{type(adjustment).__name__} sends what cannot be made private")
  sketch_seed = private_means.round_seed(seeds.stateless(secure.seed if secure else 0))
  value_type = votes.sent.type_signature.result
  if privacy is not None:
    summed = secure and secure_sums.SecureFloatSum(secure, secure.grid(1.0))
    noised = private_means.private_mean(
      private_means.fixed_query(privacy, parts, 1.0),
      privacy.expected_clients,
      value_type,
      summed,
    )
    noise_seed = private_means.round_seed(private_means.noise_seed(privacy, "votes"))
  else:
    limit = 1.0 if adjustment.statistics_are_scores else secure_config.MODEL_LIMIT
    added = releases.secure_mean(aggregation, value_type, limit)

  def mean(report: Any, instruction: Any) -> Any:
    seed_here = tff.federated_map(sketch_seed, instruction.round_index)
    told = tff.federated_broadcast(seed_here)
    update, accepted = report.update, report.verdict.accepted
    sent = tff.federated_map(votes.sent, (update.statistics, accepted, told))
    if privacy is None:
      summed_up = added(sent, update.weight)
    else:
      one = tff.federated_value(np.float32(1.0), tff.SERVER)
      summed_up, _ = noised(
        one, tff.federated_map(noise_seed, instruction.round_index), sent
      )
    return tff.federated_map(votes.received, (summed_up, seed_here))

  return mean
