"""Models put together from sums, or private ones, worked out by hand."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.private_sums import releases
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.secure_config import BITWIDTH, MODULAR, SecureSums
from tests.fedtiny_tff.federated import made_reports
from tests.fedtiny_tff.federated.made_reports import Sent
from tests.fedtiny_tff.support import floats, quick

pytestmark = pytest.mark.usefixtures("local_runtime")

SECURE = SecureSums(BITWIDTH, 32, 3, 4)
QUIET = Privacy(1e-9, 4.0, 0, adaptive=False)
# With it, the unit of a mean is a deviation of 2, that of a second moment 4.
VARIANCE = 4.0 - releases.LEAST_VARIANCE


def _model(values, means, variances) -> messages.SparseModel:
  nothing = np.zeros(0, np.float32)
  positions = np.zeros(0, np.uint8)
  return messages.SparseModel(
    floats(values), positions, nothing, floats(means), floats(variances)
  )


class TestParts:
  RECEIVED = messages.ModelValues(
    *map(tf.constant, ([1.0, 2.0], [3.0], [0.5], [VARIANCE]))
  )
  TRAINED = messages.TrainedModel(
    *map(tf.constant, ([1.5, 0.0], [4.0], [1.0], [VARIANCE + 6.0]))
  )

  def test_by_hand(self):
    parts = releases.parts_of(self.TRAINED, self.RECEIVED, tf.constant(1.0))
    found = [each.numpy().tolist() for part in parts for each in part]
    # 1 is half a deviation; 6 are one and a half variances.
    assert found == [[0.5, -2.0], [1.0], [0.5], pytest.approx([1.5], rel=1e-6)]

  def test_what_does_not_count_did_not_move(self):
    trained = self.TRAINED._replace(dense=tf.constant([np.nan]))
    parts = releases.parts_of(trained, self.RECEIVED, tf.constant(0.0))
    assert not any(each.numpy().any() for part in parts for each in part)

  @quick
  @given(
    st.lists(
      st.tuples(
        *[st.floats(-5, 5, width=32)] * 2,
        *[st.floats(0.125, 5, width=32)] * 2,
        st.floats(-2, 2, width=32),
      ),
      min_size=1,
      max_size=4,
    )
  )
  def test_of_one_client_without_noise_its_own_model_comes_back(self, numbers):
    before, after, variances, moments, offsets = floats(numbers).T
    model = messages.SparseModel(
      *map(tf.constant, (before, np.zeros(0, np.uint8), before, before, variances))
    )
    trained = messages.TrainedModel(*map(tf.constant, (after, after, offsets, moments)))
    received = messages.without_positions(model)
    parts = releases.parts_of(trained, received, tf.constant(1.0))
    found = releases.model_from(model, parts, is_noisy=False)
    for one, other in zip(found, trained, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

  def test_noise_cannot_make_a_variance_vanish(self):
    model = _model([], [0.0], [VARIANCE])
    model = messages.SparseModel(*map(tf.constant, model))
    nothing = tf.zeros([0])
    mean = releases.ModelParts(
      (nothing, nothing), (tf.constant([0.5]), tf.constant([-9.0]))
    )
    held = releases.model_from(model, mean, is_noisy=True)
    # A quarter of it, beside the squared mean of 0.5 deviations.
    np.testing.assert_allclose(held.second_moment, [1.0 + VARIANCE / 4], rtol=1e-6)
    free = releases.model_from(model, mean, is_noisy=False)
    np.testing.assert_allclose(free.second_moment, [VARIANCE - 36.0], rtol=1e-6)


@pytest.mark.parametrize(
  ("channels", "votes", "count"),
  [(0, False, 1), (7, False, 2), (0, True, 2), (1, True, 3)],
)
def test_what_a_round_reveals_is_counted(channels, votes, count):
  assert releases.count_parts(channels, votes) == count


def test_the_first_clip_norms():
  initialize = releases.initialize_clip_norms(Privacy(1.0, 3.0, 0, clip_norm=0.25))
  assert str(initialize.type_signature) == "( -> <float32,float32>@SERVER)"
  assert list(initialize()) == [0.25, 0.25]


class TestSecureMean:
  VECTOR = tff.TensorType(np.float32, [2])

  def run(self, mode, sent):
    aggregation = Aggregation(secure=SecureSums(mode, 32, 3, 4))
    mean = releases.secure_mean(aggregation, self.VECTOR, 16.0)

    @tff.federated_computation(
      tff.FederatedType(self.VECTOR, tff.CLIENTS),
      tff.FederatedType(np.float32, tff.CLIENTS),
    )
    def run(value: Any, weight: Any) -> Any:
      return mean(value, weight)

    values, weights = zip(*sent, strict=True) if sent else ((), ())
    return run([floats(each) for each in values], [np.float32(w) for w in weights])

  @pytest.mark.parametrize("mode", [BITWIDTH, MODULAR])
  def test_clients_weigh_what_their_examples_do(self, mode):
    # (1 · 1 + 3 · 3) / 4 and (1 · -2 + 3 · 2) / 4.
    found = self.run(mode, [([1, -2], 1), ([3, 2], 3)])
    np.testing.assert_allclose(found, [2.5, 1.0], atol=1e-6)

  def test_none_claims_more_examples_than_a_client_can_have(self):
    # Four at most: (1 · 1 + 4 · 6) / 5.
    found = self.run(BITWIDTH, [([1, 0], 1), ([6, 0], 1e9)])
    np.testing.assert_allclose(found, [5.0, 0.0], atol=1e-6)

  def test_of_nobody_there_is_nothing(self):
    np.testing.assert_array_equal(self.run(BITWIDTH, []), [0, 0])
    np.testing.assert_array_equal(self.run(BITWIDTH, [([1, 1], 0)]), [0, 0])


def _merged(aggregation, sent, channels=1, norms=()):
  """Runs the mean of a model with two active values; returns it and what is kept."""
  sizes = ModelWeights(2, 0, channels, channels)
  kept = tff.types.to_type(tuple(tff.TensorType(np.float32) for _ in norms))
  state_type = states.sparse_state_type(sizes, 2, (), kept)
  values_type = messages.model_values_type(sizes, 2)
  update = made_reports.update_type(2, channels)
  parts = releases.count_parts(channels, False)
  mean = releases.model_mean(aggregation, state_type, update, values_type, parts)

  @tff.federated_computation(
    tff.FederatedType(state_type, tff.SERVER),
    tff.FederatedType(values_type, tff.CLIENTS),
    tff.FederatedType(made_reports.report_type(update), tff.CLIENTS),
  )
  def run(state: Any, received: Any, report: Any) -> Any:
    trained, after = mean(state, received, report)
    return trained if after is None else (trained, after)

  model = _model([1, 2], [0.5] * channels, [VARIANCE] * channels)
  state = states.SparseState(
    model, np.int32(3), (), tuple(np.float32(norm) for norm in norms)
  )
  received = messages.without_positions(model)
  result = run(state, [received] * len(sent), [each.report() for each in sent])
  return result if norms else (result, None)


class TestModelMean:
  def test_secure(self):
    found, kept = _merged(
      Aggregation(secure=SECURE),
      [
        Sent([1.4, 2], ([2], [VARIANCE + 4]), 1),
        Sent([1, 1.2], ([-1], [VARIANCE]), 3),
        Sent([9, 9], ([9], [9]), 4, accepted=False)._replace(weight=0),
      ],
    )
    assert kept is None
    # Of four examples one moved by (0.4, 0), three by (0, -0.8).
    np.testing.assert_allclose(found.active_values, [1.1, 1.4], atol=1e-5)
    np.testing.assert_allclose(found.mean_offset, [(2 - 3) / 4], atol=1e-5)
    np.testing.assert_allclose(found.second_moment, [VARIANCE + 1], atol=1e-4)

  def test_private(self):
    found, kept = _merged(
      Aggregation(privacy=QUIET),
      [
        # Moved by (3, 4), which is cut to (0.6, 0.8); and by 0.6 deviations.
        Sent([4, 6], ([1.2], [VARIANCE + 3.2]), 99),
        Sent([1.3, 2], ([0], [VARIANCE])),
        Sent([9, 9], ([9], [9]), accepted=False),
      ],
      norms=(1.0, 1.0),
    )
    # Over four expected, whoever came and whatever examples they have.
    np.testing.assert_allclose(found.active_values, [1 + 0.9 / 4, 2.2], rtol=1e-5)
    np.testing.assert_allclose(found.mean_offset, [0.3], rtol=1e-4)
    np.testing.assert_allclose(found.second_moment, [VARIANCE + 0.8], rtol=1e-4)
    assert list(kept) == [1.0, 1.0]

  def test_each_part_has_its_clip_norm(self):
    sent = [Sent([4, 6], ([16], [VARIANCE]))]
    found, kept = _merged(Aggregation(privacy=QUIET), sent, norms=(2.5, 4.0))
    # (3, 4) is cut to half of it, eight deviations to four.
    np.testing.assert_allclose(found.active_values, [1 + 1.5 / 4, 2.5], rtol=1e-5)
    np.testing.assert_allclose(found.mean_offset, [2.0], rtol=1e-4)
    assert list(kept) == [2.5, 4.0]

  @pytest.mark.parametrize("secure", [None, SECURE])
  def test_without_batch_norm_nothing_is_revealed_of_it(self, secure):
    aggregation = Aggregation(privacy=QUIET, secure=secure)
    found, kept = _merged(aggregation, [Sent([1.3, 2])], 0, (1.0, 0.5))
    np.testing.assert_allclose(found.active_values, [1 + 0.3 / 4, 2], rtol=1e-5)
    assert found.mean_offset.shape == (0,)
    assert list(kept) == [1.0, 0.5]
