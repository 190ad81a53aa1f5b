"""tensorflow-privacy's queries, with noise that follows from a seed.

Its own draw noise that no seed decides, so that a run that goes on after a kill would
end elsewhere. Here every release is given a seed, which must be its own. Noise that can
be computed again protects from nobody who knows the seed.
"""

import collections
from typing import Any

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp

_fold_in = tf.random.experimental.stateless_fold_in


class SeededGaussianSum(tfp.GaussianSumQuery):
  """A sum of clipped vectors with Gaussian noise from a seed."""

  # pylint: disable=invalid-name
  _GlobalState = collections.namedtuple(
    "_GlobalState", ["l2_norm_clip", "stddev", "seed"]
  )

  def __init__(self, l2_norm_clip: float, noise_multiplier: float):
    """Fixes clipping and noise.

    Args:
      l2_norm_clip: Longest vector.
      noise_multiplier: Standard deviation of the noise on every coordinate of the sum,
        over the longest vector.
    """
    super().__init__(l2_norm_clip, noise_multiplier * l2_norm_clip)
    self._noise_multiplier = noise_multiplier

  def make_global_state(self, l2_norm_clip: Any, stddev: Any) -> Any:
    """Returns a state without a seed of its own; see `state_at`."""
    return self._GlobalState(
      tf.cast(l2_norm_clip, tf.float32),
      tf.cast(stddev, tf.float32),
      tf.zeros([2], tf.int32),
    )

  def state_at(self, l2_norm_clip: tf.Tensor, seed: tf.Tensor) -> Any:
    """Returns the state of one release.

    Args:
      l2_norm_clip: float32, longest vector.
      seed: int32 [2], of this release alone.
    """
    noise = l2_norm_clip * self._noise_multiplier
    return self.make_global_state(l2_norm_clip, noise)._replace(seed=seed)

  def clip_norm(self, state: Any) -> tf.Tensor:
    """Returns the longest vector of the next release, float32."""
    return state.l2_norm_clip

  def get_noised_result(self, sample_state: Any, global_state: Any) -> tuple[Any, ...]:
    """Adds noise to every tensor, each from a seed of its own."""
    noised = [
      each
      + tf.random.stateless_normal(
        tf.shape(each), _fold_in(global_state.seed, i), stddev=global_state.stddev
      )
      for i, each in enumerate(tf.nest.flatten(sample_state))
    ]
    event = dp_accounting.GaussianDpEvent(
      global_state.stddev / global_state.l2_norm_clip
    )
    return tf.nest.pack_sequence_as(sample_state, noised), global_state, event


class SeededAdaptiveSum(tfp.QuantileAdaptiveClipSumQuery):
  """The same with a clip norm that follows the median of the lengths."""

  def __init__(
    self,
    initial_l2_norm_clip: float,
    noise_multiplier: float,
    share_noise: float,
    expected_records: float,
  ):
    """Fixes clipping and noise; quantile and rate are those of arXiv 1905.03871.

    Args:
      initial_l2_norm_clip: Longest vector, at first.
      noise_multiplier: Noise over the longest vector.
      share_noise: Standard deviation of the noise on how many were not clipped.
      expected_records: How many vectors there are, on average.
    """
    super().__init__(
      initial_l2_norm_clip=initial_l2_norm_clip,
      noise_multiplier=noise_multiplier,
      target_unclipped_quantile=0.5,
      learning_rate=0.2,
      clipped_count_stddev=share_noise,
      expected_num_records=expected_records,
      geometric_update=True,
    )
    self._sum_query = SeededGaussianSum(initial_l2_norm_clip, noise_multiplier)
    # Whether a vector was clipped counts as a half, with either sign.
    self._quantile_estimator_query._below_estimate_query = tfp.NormalizedQuery(
      SeededGaussianSum(0.5, 2.0 * share_noise), expected_records
    )

  def state_at(self, l2_norm_clip: tf.Tensor, seed: tf.Tensor) -> Any:
    """Returns the state of one release; see `SeededGaussianSum.state_at`."""
    state = self.initial_global_state()
    quantile = state.quantile_estimator_state
    share = quantile.below_estimate_state
    counted = share.numerator_state._replace(seed=_fold_in(seed, 1))
    return state._replace(
      sum_state=self._sum_query.state_at(l2_norm_clip, _fold_in(seed, 0)),
      quantile_estimator_state=quantile._replace(
        current_estimate=l2_norm_clip,
        below_estimate_state=share._replace(numerator_state=counted),
      ),
    )

  def clip_norm(self, state: Any) -> tf.Tensor:
    """Returns the longest vector of the next release, float32."""
    return state.sum_state.l2_norm_clip
