"""One client cannot choose the candidate, nor the statistics it is scored under."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated import messages
from fedtiny_tff.federated.adaptive_selection import selection_votes
from fedtiny_tff.masked_models.batch_statistics import BatchMoments
from fedtiny_tff.protection.aggregation_config import AGGREGATIONS, Aggregation
from fedtiny_tff.tasks import Metrics

pytestmark = pytest.mark.usefixtures("local_runtime")

GUARDED = [name for name in AGGREGATIONS if name != "mean"]
# Of two candidates the second is better, for each of four honest clients.
HONEST = [(8.0, 4.0), (9.0, 4.0), (8.0, 5.0), (7.0, 3.0)]
LIE = (0.0, 1e27)


def _references(count):
  return [ClientReference(*map(np.int64, (k, 0, 9, 10))) for k in range(count)]


def _scores(losses, examples=10.0):
  return Metrics(
    np.float32(losses), np.full(2, 5, np.float32), np.full(2, examples, np.float32)
  )


def _moments(mean, count=40.0):
  counts = np.full((2, 1), count)
  return BatchMoments(counts, counts * mean, counts * (mean**2 + 1))


def _voted(build, name, reports):
  reported = tff.types.to_type(
    type(reports[0])(*(tff.TensorType(x.dtype.type, x.shape) for x in reports[0]))
  )
  vote = build(Aggregation(name, 0.2, len(reports)), reported)

  @tff.federated_computation(
    tff.FederatedType(reported, tff.CLIENTS),
    tff.FederatedType(messages.reference_type(), tff.CLIENTS),
  )
  def run(sent: Any, references: Any) -> Any:
    return vote(sent, references)

  return run(list(reports), _references(len(reports)))


def _best(name, losses):
  scores, count = _voted(selection_votes.score_vote, name, [_scores(x) for x in losses])
  means = np.asarray(scores.loss_sum) / np.asarray(scores.examples)
  return int(np.argmin(means)), float(count), means


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_the_better_candidate_wins(name):
  best, count, means = _best(name, HONEST)
  assert (best, count) == (1, 4)
  if name == "mean":
    np.testing.assert_allclose(means, [0.8, 0.4])


@pytest.mark.parametrize("name", GUARDED)
def test_one_client_cannot_choose_it(name):
  best, count, means = _best(name, [*HONEST, LIE])
  assert (best, count) == (1, 5)
  assert 0.3 <= means[1] < means[0] <= 0.9


def test_without_a_guard_it_can():
  assert _best("mean", [*HONEST, LIE])[0] == 0


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("lie", [(np.nan, 1.0), (-1.0, 9.0), (np.inf, 9.0)])
def test_scores_that_cannot_be_are_left_out(name, lie):
  best, count, means = _best(name, [*HONEST, lie])
  assert (best, count) == (1, 4)
  assert np.isfinite(means).all()


@pytest.mark.parametrize(
  "report",
  [
    _scores((1, 1), examples=11),
    _scores((1, 1), examples=1e6),
    _scores((1, 1))._replace(correct=np.array([11, 0], np.float32)),
    _scores((1, 1))._replace(correct=np.array([-1, 0], np.float32)),
  ],
)
def test_counts_that_cannot_be_do_not_count(report):
  tensors = Metrics(*map(tf.constant, report))
  assert not selection_votes.scores_count(tensors, tf.constant(10, tf.int64))
  honest = Metrics(*map(tf.constant, _scores((1, 1))))
  assert selection_votes.scores_count(honest, tf.constant(10, tf.int64))


@pytest.mark.parametrize("name", GUARDED)
def test_one_client_cannot_move_the_statistics(name):
  reports = [*(_moments(mean) for mean in (1.0, 1.2, 0.9, 1.1)), _moments(1e6)]
  pooled, count = _voted(selection_votes.moments_vote, name, reports)
  assert count == 5
  means = np.asarray(pooled.first) / np.asarray(pooled.count)
  assert (means >= 0.9).all()
  assert (means <= 1.2).all()


def test_sums_are_those_of_all_where_nobody_lies():
  reports = [_moments(1.0, 40.0), _moments(3.0, 120.0)]
  pooled, count = _voted(selection_votes.moments_vote, "mean", reports)
  assert count == 2
  np.testing.assert_allclose(pooled.count, np.full((2, 1), 160.0))
  np.testing.assert_allclose(pooled.first, np.full((2, 1), 400.0))


@pytest.mark.parametrize(
  "report",
  [
    _moments(1.0, 45.0),  # No whole number of positions an example.
    _moments(1.0, 5.0),
    _moments(np.nan),
    _moments(1.0)._replace(second=np.full((2, 1), 0.5 * 40)),  # Below the mean squared.
    _moments(1.0)._replace(count=np.array([[40.0], [80.0]])),
  ],
)
def test_moments_that_cannot_be_do_not_count(report):
  tensors = BatchMoments(*map(tf.constant, report))
  assert not selection_votes.moments_count(tensors, tf.constant(10, tf.int64))
  honest = BatchMoments(*map(tf.constant, _moments(1.0)))
  assert selection_votes.moments_count(honest, tf.constant(10, tf.int64))
