"""Means of models and votes in the open, of all clients or of most, by hand."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated import aggregation, messages
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.protection.secure_config import BITWIDTH, SecureSums
from fedtiny_tff.strategies import feddst
from fedtiny_tff.strategies.adjustment import OwnWeights
from tests.fedtiny_tff.federated import made_reports
from tests.fedtiny_tff.federated.made_reports import A, B, C, Sent
from tests.fedtiny_tff.support import floats

pytestmark = pytest.mark.usefixtures("local_runtime")

VECTOR = tff.TensorType(np.float32, [2])
VOTES = made_reports.top_gradients()
HELD = made_reports.top_gradients(feddst.FedDST())


class TestRobustProcess:
  @pytest.fixture(scope="class", name="process")
  def fixture_process(self):
    return aggregation.robust_process(tff.types.to_type((VECTOR,)))

  def run(self, process, state, sent):
    values, weights = zip(*sent, strict=True)
    return process.next(
      state, [(floats(each),) for each in values], [np.float32(w) for w in weights]
    )

  def test_type_signature(self, process):
    signature = process.next.type_signature
    state = process.initialize.type_signature.result
    assert signature.parameter.state == signature.result.state == state
    sent = signature.parameter.value, signature.parameter.weight
    assert [each.compact_representation() for each in sent] == [
      "{<float32[2]>}@CLIENTS",
      "{float32}@CLIENTS",
    ]
    result = signature.result.result
    assert result.compact_representation() == "<float32[2]>@SERVER"

  def test_long_updates_are_clipped_and_outlandish_ones_zeroed(self, process):
    # Clipped to 1, (3, 4) is (0.6, 0.8); above 2 · 10 + 1 nothing is left of a length,
    # but the client's weight.
    sent = [([3, 4], 1), ([0.3, 0], 2), ([21.1, 0], 1)]
    found = self.run(process, process.initialize(), sent)
    np.testing.assert_allclose(found.result[0], [1.2 / 4, 0.2], rtol=1e-6)
    assert found.measurements["zeroing"]["clipped_count"] == 1
    assert found.measurements["zeroed_count"] == 1
    found = self.run(process, process.initialize(), [([20.9, 0], 1)])
    np.testing.assert_allclose(found.result[0], [1, 0], rtol=1e-6)
    assert found.measurements["zeroed_count"] == 0

  def test_norms_follow_those_of_the_rounds_before(self, process):
    # All are longer than the clip norm, which grows by exp(0.2 · 0.8),
    state = self.run(process, process.initialize(), [([3, 4], 1)] * 2).state
    found = self.run(process, state, [([3, 4], 1)])
    np.testing.assert_allclose(
      found.result[0], np.exp(0.16) * floats([0.6, 0.8]), rtol=1e-5
    )
    # and shorter than what is outlandish: 2 · 10 · 10^-0.02 + 1 = 20.1 from now on.
    for length, zeroed in ((20.0, 0), (20.2, 1)):
      found = self.run(process, state, [([length, 0], 1)])
      assert found.measurements["zeroed_count"] == zeroed


class TestStackedMean:
  def run(self, how, sent, **options):
    mean = aggregation.stacked_mean(how, VECTOR, **options)

    @tff.federated_computation(
      tff.FederatedType(VECTOR, tff.CLIENTS), tff.FederatedType(np.float32, tff.CLIENTS)
    )
    def run(value: Any, accepted: Any) -> Any:
      return mean(value, accepted)

    values, accepted = zip(*sent, strict=True)
    return run([floats(each) for each in values], [np.float32(one) for one in accepted])

  # Coordinate by coordinate: -9, 1, 2, 3, 100 and 0, 0, 5, 6, 7.
  SENT = (([1, 5], 1), ([100, 0], 1), ([2, 7], 1), ([-9, 6], 1), ([3, 0], 1))

  @pytest.mark.parametrize(
    ("how", "wanted"),
    [
      (Aggregation("median", slots=5), [2, 5]),
      (Aggregation("trimmed_mean", 0.2, 5), [2, 11 / 3]),
      (Aggregation("trimmed_mean", 0.0, 9), [97 / 5, 18 / 5]),
    ],
  )
  def test_by_hand(self, how, wanted):
    np.testing.assert_allclose(self.run(how, self.SENT), wanted, rtol=1e-6)

  def test_what_does_not_count_has_no_place(self):
    # Two are left, and so no middle but their mean; there are no slots for four.
    sent = [([1, 5], 1), ([0, 0], 0), ([2, 7], 1), ([0, 0], 0)]
    found = self.run(Aggregation("median", slots=4), sent)
    np.testing.assert_allclose(found, [1.5, 6])

  def test_what_is_averaged_may_be_made_of_what_is_reported(self):
    how = Aggregation("median", slots=3)
    sent = [([1, 5], 1), ([2, 9], 1), ([4, 1], 1)]
    found = self.run(
      how, sent, valued=lambda value: value[0] * value, one=tf.TensorSpec([2])
    )
    # (1, 5), (4, 18) and (16, 4).
    np.testing.assert_allclose(found, [4, 5])


class TestVoteMean:
  UPDATE = made_reports.update_type(0, adjustment=VOTES)

  def mean(self, how, sent):
    mean = aggregation.vote_mean(how, VOTES, self.UPDATE.statistics)
    return made_reports.voting(mean, self.UPDATE)(sent, 0)

  @pytest.mark.parametrize(
    ("how", "wanted"),
    [
      # Each over all examples: 1 · (3, 0, 4, 0), 3 · (0, 2, -4, 0), 2 · (-3, 4, 0, 0).
      (Aggregation(), [-0.5, 14 / 6, -8 / 6, 0]),
      # The same of length one: (0.6, 0, 0.8, 0), (0, 1, -2, 0) / √5, (-0.6, 0.8, 0, 0).
      (
        Aggregation("robust"),
        [-0.1, (3 / 5**0.5 + 1.6) / 6, (0.8 - 6 / 5**0.5) / 6, 0],
      ),
      # As many as they are: of 3, 0, -3; 0, 2, 4; 4, -4, 0; and nothing.
      (Aggregation("median", slots=3), [0, 2, 0, 0]),
      (Aggregation("trimmed_mean", 0.2, 3), [0, 2, 0, 0]),
    ],
    ids=["mean", "robust", "median", "trimmed_mean"],
  )
  def test_by_hand(self, how, wanted):
    np.testing.assert_allclose(self.mean(how, [A, B, C]), wanted, rtol=1e-6, atol=1e-7)

  @pytest.mark.parametrize(
    "how", [Aggregation(), Aggregation("robust"), Aggregation("median", slots=3)]
  )
  def test_what_was_left_out_is_blank_wherever_it_points(self, how):
    lost = made_reports.vote([99, -7], [1e30, 1], 0.0, accepted=False)
    found = self.mean(how, [lost, A])
    np.testing.assert_array_equal(found, self.mean(how, [A]))
    assert np.asarray(found)[0] > 0.0
    np.testing.assert_array_equal(self.mean(how, [lost]), [0, 0, 0, 0])

  def test_weights_are_compared_where_only_their_values_tell(self):
    update = made_reports.update_type(0, adjustment=HELD)
    # Two of four weights, 1010 0000; of what a client has, and of all it takes.
    sent = [
      Sent([], statistics=OwnWeights(floats(each), np.array([0xA0], np.uint8)))
      for each in ([1.0, 5.0], [2.0, 6.0], [1e30, -1e30])
    ]
    mean = aggregation.vote_mean(
      Aggregation("robust", slots=3), HELD, update.statistics
    )
    found = made_reports.voting(mean, update)(sent, 0)
    np.testing.assert_array_equal(found.values, [2, 0, 5, 0])
    np.testing.assert_array_equal(found.shares, [1, 0, 1, 0])


class TestMostClients:
  def test_a_mean_takes_any_number(self):
    assert aggregation.most_clients(Aggregation(), [HELD]) is None
    assert aggregation.most_clients(Aggregation("robust"), [VOTES]) is None
    assert aggregation.most_clients(Aggregation("robust"), []) is None

  def test_what_is_held_side_by_side_has_slots(self):
    assert aggregation.most_clients(Aggregation("median", slots=3), []) == 3
    robust = Aggregation("robust", slots=7)
    assert aggregation.most_clients(robust, [VOTES, HELD]) == 7
    assert aggregation.most_clients(Aggregation("robust"), [HELD]) == 0

  def test_secure_sums_fit_so_many(self):
    secure = Aggregation(secure=SecureSums(BITWIDTH, 32, 5, 8))
    assert aggregation.most_clients(secure, [VOTES]) == 5


class TestOffsets:
  VALUES = messages.ModelValues(floats([1, 2]), floats([3]), floats([0.5]), floats([4]))
  TRAINED = messages.TrainedModel(
    floats([1.5, 0]), floats([4]), floats([0.25]), floats([7])
  )

  @pytest.fixture(scope="class", name="offsets")
  def fixture_offsets(self):
    sizes = ModelWeights(2, 1, 1, 1)
    sent = messages.client_update_type(sizes, 2, tff.types.to_type(()))
    return aggregation.offsets_computation(
      sent.model, messages.model_values_type(sizes, 2)
    )

  def test_by_hand(self, offsets):
    found = offsets(self.TRAINED, self.VALUES, np.float32(1))
    assert isinstance(found, messages.TrainedModel)
    assert [each.tolist() for each in found] == [[0.5, -2], [1], [0.25], [3]]

  def test_what_does_not_count_did_not_move(self, offsets):
    # Blank, it would seem to have gone to zero.
    blank = messages.TrainedModel(*(np.zeros_like(each) for each in self.TRAINED))
    found = offsets(blank, self.VALUES, np.float32(0))
    assert [each.tolist() for each in found] == [[0, 0], [0], [0], [0]]
