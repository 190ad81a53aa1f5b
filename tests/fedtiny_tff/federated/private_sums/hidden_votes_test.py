"""Votes of which the server learns sums only, or private ones, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.private_sums import hidden_votes
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.secure_config import BITWIDTH, MODULAR, SecureSums
from fedtiny_tff.strategies import feddst
from fedtiny_tff.strategies.adjustment import Adjustment, OwnWeights
from tests.fedtiny_tff.federated import made_reports
from tests.fedtiny_tff.federated.made_reports import A, B, C
from tests.fedtiny_tff.support import floats

pytestmark = pytest.mark.usefixtures("local_runtime")

SECURE = SecureSums(BITWIDTH, 32, 3, 4)
HASHED = SecureSums(MODULAR, 32, 3, 4, vote_buckets=512, seed=5)
QUIET = Privacy(1e-9, 4.0, 0)
VOTES = made_reports.top_gradients()
UPDATE = made_reports.update_type(0, adjustment=VOTES)
# Of length 1 each.
UNIT_A = floats([0.6, 0, 0.8, 0])
UNIT_B = floats([0, 1, -2, 0]) / np.sqrt(np.float32(5))
UNIT_C = floats([-0.6, 0.8, 0, 0])


def _voting(aggregation, adjustment=VOTES, parts=2, update=UPDATE):
  mean = hidden_votes.vote_mean(aggregation, adjustment, update, parts)
  return made_reports.voting(mean, update)


def _mean(aggregation, sent):
  return np.asarray(_voting(aggregation)(sent, 0))


@pytest.mark.parametrize(
  ("aggregation", "travels"),
  [
    (Aggregation(secure=SECURE), "float32[4]"),
    (Aggregation(secure=HASHED), "float32[3,512]"),
    (Aggregation(privacy=QUIET), "float32[4]"),
    (Aggregation(privacy=QUIET, secure=HASHED), "float32[3,512]"),
  ],
)
def test_a_vote_travels_as_a_number_per_weight_or_as_a_sketch(aggregation, travels):
  found = hidden_votes.vote_type(aggregation, VOTES, UPDATE.statistics)
  assert str(found) == travels


@pytest.mark.parametrize("secure", [SECURE, HASHED], ids=["dense", "hashed"])
def test_secure_votes_weigh_what_examples_do_and_are_of_length_one(secure):
  found = _mean(Aggregation(secure=secure), [A, B])
  np.testing.assert_allclose(found, (UNIT_A + 3 * UNIT_B) / 4, atol=1e-6)


@pytest.mark.parametrize(
  "secure", [None, SECURE, HASHED], ids=["open", "dense", "hashed"]
)
def test_private_votes_count_alike_over_the_number_expected(secure):
  found = _mean(Aggregation(privacy=QUIET, secure=secure), [A, B, C])
  np.testing.assert_allclose(found, (UNIT_A + UNIT_B + UNIT_C) / 4, atol=1e-6)


@pytest.mark.parametrize(
  "aggregation", [Aggregation(secure=HASHED), Aggregation(privacy=QUIET)]
)
def test_what_was_left_out_is_blank_wherever_it_points(aggregation):
  lost = made_reports.vote([99, -7], [1e30, 1], 0.0, accepted=False)
  # A zero vote has no direction.
  nothing = made_reports.vote([0, 0], [0, 0], 0.0)
  found = _mean(aggregation, [A, lost, nothing])
  divisor = 4 if aggregation.privacy else 1
  np.testing.assert_allclose(found, UNIT_A / divisor, atol=1e-6)


def test_noise_is_what_all_parts_of_the_round_share():
  # 0.5 · √3 on the sum of votes, a quarter of it on the mean; anew in every round.
  vote = _voting(Aggregation(privacy=Privacy(0.5, 4.0, 0)), parts=3)
  drawn = np.array([vote([], number) for number in range(50)])
  np.testing.assert_allclose(np.std(drawn), 0.5 * np.sqrt(3) / 4, rtol=0.15)
  assert len(np.unique(drawn)) == 200
  np.testing.assert_array_equal(vote([], 7), drawn[7])
  other = _voting(Aggregation(privacy=Privacy(0.5, 4.0, 1)), parts=3)
  assert (np.asarray(other([], 7)) != drawn[7]).all()


def test_votes_without_a_bound_cannot_be_private():
  held = made_reports.top_gradients(feddst.FedDST())
  message = "^ClientMaskAdjustment sends what cannot be made private$"
  with pytest.raises(ValueError, match=message):
    _voting(
      Aggregation(privacy=QUIET),
      held,
      update=made_reports.update_type(0, adjustment=held),
    )


def test_weights_are_added_up_as_they_are():
  held = made_reports.top_gradients(feddst.FedDST())
  update = made_reports.update_type(0, adjustment=held)
  # Nor are they hashed.
  aggregation = Aggregation(secure=HASHED)
  assert str(hidden_votes.vote_type(aggregation, held, update.statistics)) == (
    "<values=float32[4],shares=float32[4]>"
  )
  # Two of four weights: 1010 0000 and 0110 0000.
  sent = [
    made_reports.Sent(
      [],
      weight=weight,
      statistics=OwnWeights(floats(values), np.array([places], np.uint8)),
    )
    for weight, values, places in ((1, [3, 4], 0xA0), (3, [2, -4], 0x60))
  ]
  found = _voting(aggregation, held, update=update)(sent, 0)
  np.testing.assert_allclose(found.values, [0.75, 1.5, -2, 0], atol=1e-5)
  np.testing.assert_allclose(found.shares, [0.25, 0.75, 1, 0], atol=1e-5)


class _OfTwo(Adjustment):
  """Adds up two vectors."""

  def statistics_specs(self):
    return VOTES.statistics_specs()

  def zero(self):
    return tf.zeros([2]), tf.zeros([2])

  def accumulate(self, total, statistics, weight):
    return total[0] + statistics.values * weight, total[1]


def test_only_a_vector_can_be_hashed():
  assert messages.statistics_type(_OfTwo()) == UPDATE.statistics
  with pytest.raises(ValueError, match="votes must be one vector to be hashed"):
    _voting(Aggregation(secure=HASHED), _OfTwo())
