"""Differentially private means by TFF's aggregator and tensorflow-privacy's queries.

A mean is a sum over the number of clients expected: how many took part is private. All
that it remembers from one release to the next is the clip norm.
"""

from collections.abc import Callable
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.private_queries import SeededAdaptiveSum, SeededGaussianSum

Query = Union[SeededAdaptiveSum, SeededGaussianSum]
# From clip norm and seed at the server, and values at the clients, to the mean and the
# next clip norm at the server.
PrivateMean = Callable[[Any, Any, Any], tuple[Any, Any]]


def update_query(privacy: Privacy, parts: int) -> Query:
  """Returns the query of one of so many parts of a round that have lengths to learn."""
  noise = privacy.update_noise(parts)
  if not privacy.adaptive:
    return SeededGaussianSum(privacy.clip_norm, noise)
  return SeededAdaptiveSum(
    privacy.clip_norm, noise, privacy.share_noise, privacy.expected_clients
  )


def fixed_query(privacy: Privacy, parts: int, clip_norm: float) -> Query:
  """Returns the query of one of so many parts whose longest vector is known."""
  return SeededGaussianSum(clip_norm, privacy.part(parts))


def noise_seed(privacy: Privacy, purpose: str) -> Array:
  """Returns int32 [2], what the seeds of one part's releases are made from."""
  generator = seeds.generator(privacy.seed, "noise")
  words = seeds.generator(int(generator.integers(0, 2**62)), purpose)
  return words.integers(0, 2**31 - 1, 2).astype(np.int32)


def round_seed(base: Array) -> tff.Computation:
  """Builds round index (int32) to the seed of its release, int32 [2].

  Args:
    base: int32 [2], see `noise_seed`.
  """

  @tff.tensorflow.computation(np.int32)
  def seed(round_index: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(base, round_index)

  return seed


def private_mean(
  query: Query,
  expected_clients: float,
  value_type: tff.Type,
  summed: Optional[tff.aggregators.UnweightedAggregationFactory] = None,
) -> PrivateMean:
  """Builds a private mean.

  Args:
    query: Clipping and noise.
    expected_clients: What the sum is divided by.
    value_type: Structure of float32 tensors.
    summed: How clipped values are added up; None for in the open.
  """
  normalized = tfp.NormalizedQuery(query, expected_clients)
  process = tff.aggregators.DifferentiallyPrivateFactory(normalized, summed).create(
    value_type
  )
  state_type = process.state_type.member

  @tff.tensorflow.computation(
    state_type, tff.TensorType(np.float32), tff.TensorType(np.int32, [2])
  )
  def state_at(blank: Any, clip_norm: tf.Tensor, seed: tf.Tensor) -> Any:
    state = query.state_at(clip_norm, seed)
    kept = blank.query_state._replace(numerator_state=state)
    return blank._replace(query_state=kept)

  @tff.tensorflow.computation(state_type)
  def next_clip_norm(state: Any) -> tf.Tensor:
    return query.clip_norm(state.query_state.numerator_state)

  def mean(clip_norm: Any, seed: Any, value: Any) -> tuple[Any, Any]:
    state = tff.federated_map(state_at, (process.initialize(), clip_norm, seed))
    output = process.next(state, value)
    return output.result, tff.federated_map(next_clip_norm, output.state)

  return mean
