"""Private means: clipped, over the number expected, with noise of a seed."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated.private_sums import private_means, secure_sums
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.private_queries import SeededAdaptiveSum, SeededGaussianSum
from fedtiny_tff.protection.secure_config import BITWIDTH, SecureSums
from tests.fedtiny_tff.support import floats

pytestmark = pytest.mark.usefixtures("local_runtime")

VECTOR = tff.TensorType(np.float32, [2])
SEED = np.array([1, 2], np.int32)
SECURE = SecureSums(BITWIDTH, 32, 3, 8)


def _run(query, value_type=VECTOR, expected=4.0, summed=None) -> tff.Computation:
  """Builds (clip norm, seed, values) to (mean, next clip norm)."""
  mean = private_means.private_mean(query, expected, value_type, summed)

  @tff.federated_computation(
    tff.FederatedType(np.float32, tff.SERVER),
    tff.FederatedType(tff.TensorType(np.int32, [2]), tff.SERVER),
    tff.FederatedType(value_type, tff.CLIENTS),
  )
  def run(clip_norm: Any, seed: Any, value: Any) -> Any:
    return mean(clip_norm, seed, value)

  return run


class TestQueries:
  def noise(self, query, clip_norm):
    state = query.state_at(tf.constant(clip_norm), tf.constant(SEED))
    return float(getattr(state, "sum_state", state).stddev)

  def test_parts_share_the_noise(self):
    # Four mechanisms of twice the noise are one: 2 · √4, of vectors of length 0.5.
    privacy = Privacy(2.0, 10.0, 0, clip_norm=0.5, adaptive=False)
    query = private_means.update_query(privacy, 4)
    assert type(query) is SeededGaussianSum
    assert self.noise(query, 0.5) == pytest.approx(2.0)
    assert self.noise(query, 1.0) == pytest.approx(4.0)
    assert self.noise(private_means.fixed_query(privacy, 4, 3.0), 3.0) == 12.0

  def test_lengths_are_learnt_at_some_noise_s_cost(self):
    # 20 · √3 on the share, whose sensitivity is a half; 1/√(1/20² - 1/(40 √3)²) is left.
    query = private_means.update_query(Privacy(20.0, 100.0, 0), 1)
    assert type(query) is SeededAdaptiveSum
    left = (20.0**-2 - (40.0 * np.sqrt(3)) ** -2) ** -0.5
    assert self.noise(query, 1.0) == pytest.approx(left, rel=1e-6)
    # What has a known bound needs none of that.
    fixed = private_means.fixed_query(Privacy(20.0, 100.0, 0), 1, 1.0)
    assert type(fixed) is SeededGaussianSum
    assert self.noise(fixed, 1.0) == pytest.approx(20.0)


class TestSeeds:
  def test_every_part_of_every_run_has_its_own(self):
    drawn = {
      tuple(private_means.noise_seed(Privacy(1.0, 3.0, seed), purpose))
      for seed in (0, 1, 2**62)
      for purpose in ("weights", "batch_norm", "votes")
    }
    assert len(drawn) == 9
    again = private_means.noise_seed(Privacy(9.0, 5.0, 1), "votes")
    assert tuple(again) in drawn
    assert (again.dtype, again.shape) == (np.int32, (2,))

  def test_every_round_has_its_own(self):
    at_round = private_means.round_seed(SEED)
    assert str(at_round.type_signature) == "(int32 -> int32[2])"
    drawn = [tuple(at_round(number).tolist()) for number in (0, 1, 2, 0)]
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3


class TestMean:
  QUIET = SeededGaussianSum(9.0, 0.0)
  # Of norm 1 they are (0.6, 0.8) and (0.3, 0).
  SENT = (floats([3, 4]), floats([0.3, 0]))

  def test_type_signature(self):
    value_type = tff.types.to_type((VECTOR, np.float32))
    found = _run(self.QUIET, value_type).type_signature
    sent = "<float32[2],float32>"
    assert found.compact_representation() == (
      "(<clip_norm=float32@SERVER,seed=int32[2]@SERVER,value={"
      f"{sent}}}@CLIENTS> -> <{sent}@SERVER,float32@SERVER>)"
    )

  @pytest.mark.parametrize(
    "summed",
    [
      None,
      secure_sums.SecureFloatSum(SECURE, SECURE.grid(16.0)),
    ],
    ids=["open", "secure"],
  )
  def test_by_hand(self, summed):
    # Of four expected two came, which is nobody's business.
    found, clip_norm = _run(self.QUIET, summed=summed)(1.0, SEED, list(self.SENT))
    np.testing.assert_allclose(found, [0.225, 0.2], rtol=1e-6)
    assert clip_norm == 1.0

  def test_the_clip_norm_is_that_of_the_round(self):
    run = _run(self.QUIET)
    found, clip_norm = run(2.5, SEED, list(self.SENT))
    np.testing.assert_allclose(found, [0.45, 0.5], rtol=1e-6)
    assert clip_norm == 2.5
    # Nobody came.
    np.testing.assert_array_equal(run(2.5, SEED, [])[0], [0, 0])

  def test_the_next_clip_norm_follows_the_lengths(self):
    query = SeededAdaptiveSum(9.0, 0.0, 1e-6, 2.0)
    run = _run(query, expected=2.0)
    for clip_norm, exponent in ((0.1, 0.1), (1.0, 0.0), (6.0, -0.1)):
      after = run(clip_norm, SEED, list(self.SENT))[1]
      np.testing.assert_allclose(after, clip_norm * np.exp(exponent), rtol=1e-5)

  def test_noise_is_the_seed_s(self):
    run = _run(SeededGaussianSum(1.0, 1.0))
    first, again, other = (
      np.asarray(run(1.0, np.array(seed, np.int32), list(self.SENT))[0])
      for seed in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()

  def test_noise_has_the_size_that_is_accounted_for(self):
    value_type = tff.types.to_type((tff.TensorType(np.float32, [4000]), np.float32))
    query = private_means.fixed_query(Privacy(2.0, 10.0, 0), 3, 0.5)
    values = [(np.zeros(4000, np.float32), np.float32(0))] * 2
    (vector, _), _ = _run(query, value_type, 10.0)(0.5, SEED, values)
    # Three parts share a multiplier of 2: 2 · √3 · 0.5 on the sum, a tenth on the mean.
    np.testing.assert_allclose(np.std(vector), 0.1 * np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(np.mean(vector), 0.0, atol=0.01)
