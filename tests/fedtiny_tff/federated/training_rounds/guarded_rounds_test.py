"""Rounds with clients that misbehave: what they can do to the model and to the mask.

Of the linear model with zero weights and rate 0.1, a client with x = (2, 0) of class 0
moves the kernel by [[0.1, -0.1], [0, 0]]; one with x = (c, 0) by c/2 times that.
"""

import numpy as np
import pytest

from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection.aggregation_config import AGGREGATIONS, Aggregation
from fedtiny_tff.protection.poisoning import NOBODY, RANDOM_PAIRS, SIGN_FLIP, Poisoning
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import feddst, fedtiny
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

CONFIG = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1, 0.0), 1, 8)
GUARDED = [name for name in AGGREGATIONS if name != "mean"]


def _federation(folder, firsts):
  return support.write_store(folder / "records", support.clients_of_one(firsts))


def _zeros(mask):
  sizes = (len(mask), len(mask) // 2, 0, 0)
  weights = ModelWeights(*(np.zeros(size, np.float32) for size in sizes))
  return support.make_state(weights, np.array(mask))


def _run(federation, name, state=None, count=1, poisoned=NOBODY):
  state = state or _zeros([True] * 4)
  store, references = federation
  builder = rounds.RoundBuilder(
    support.linear_model(), store, CONFIG, fedtiny.FedTiny(), [],
    active_count=4, seed=0, poisoned=poisoned,
    aggregation=Aggregation(name, 0.34, len(references)),
  )  # fmt: skip
  for number in range(count):
    state, metrics = builder.computation(number).run(
      state, references, builder.instruction(number, 0.1)
    )
  return state, metrics


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_a_report_that_is_no_number_is_left_out_and_counted(tmp_path, name):
  federation = _federation(tmp_path, [2.0, np.inf, 2.0])
  state, metrics = _run(federation, name)
  expected = [0.1, -0.1, 0, 0]
  np.testing.assert_allclose(state.weights.prunable, expected, rtol=0, atol=1e-7)
  assert (metrics.accepted, metrics.not_finite, metrics.outlandish) == (2, 1, 0)
  assert metrics.examples == 2


def test_a_report_from_far_away_is_left_out_and_counted(tmp_path):
  # It would move the kernel by 20 · √2; ten times the zero model's norm and one are 10.
  state, metrics = _run(_federation(tmp_path, [2.0, 400.0, 2.0]), "mean")
  expected = [0.1, -0.1, 0, 0]
  np.testing.assert_allclose(state.weights.prunable, expected, rtol=0, atol=1e-7)
  assert (metrics.accepted, metrics.not_finite, metrics.outlandish) == (2, 0, 1)


def test_one_of_three_is_outvoted(tmp_path):
  state, metrics = _run(_federation(tmp_path, [2.0, 2.0, 100.0]), "median")
  expected = [0.1, -0.1, 0, 0]
  np.testing.assert_allclose(state.weights.prunable, expected, rtol=0, atol=1e-7)
  assert metrics.accepted == 3


def test_without_a_guard_one_pulls_all(tmp_path):
  state, _ = _run(_federation(tmp_path, [2.0, 2.0, 100.0]), "mean")
  np.testing.assert_allclose(state.weights.prunable[0], (0.1 + 0.1 + 5) / 3, rtol=1e-6)


def test_long_updates_are_clipped_to_a_norm_that_is_learnt(tmp_path):
  federation = _federation(tmp_path, [2.0, 2.0, 100.0])
  state, _ = _run(federation, "robust")
  # The third is clipped to norm 1, that is to 5 / √50.005 in each of two directions.
  length = np.sqrt(2 * 5.0**2 + 2 * 0.05**2)
  expected = (0.1 + 0.1 + 5 / length) / 3
  np.testing.assert_allclose(state.weights.prunable[0], expected, rtol=1e-4)
  again, _ = _run(federation, "robust")
  assert len(state.aggregation) > 0
  for one, two in zip(again.aggregation, state.aggregation, strict=True):
    np.testing.assert_array_equal(one, two)
  later, _ = _run(federation, "robust", count=2)
  assert any(
    not np.array_equal(one, two)
    for one, two in zip(later.aggregation, state.aggregation, strict=True)
  )


def test_norms_are_not_learnt_from_what_was_left_out(tmp_path):
  # From a model of norm 60; an excluded report must not look as if it moved to zero.
  start = _zeros([True] * 4)
  weights = start.weights._replace(prunable=np.full(4, 30.0, np.float32))
  norms = []
  for firsts in ([2.0, 2.0, np.nan], [2.0, 2.0]):
    (folder := tmp_path / str(len(firsts))).mkdir()
    federation = _federation(folder, firsts)
    state, metrics = _run(federation, "robust", start._replace(weights=weights))
    assert metrics.accepted == 2
    norms.append([each.tolist() for each in state.aggregation])
  # Zeroing and clipping estimate that all updates were short, both times.
  assert norms[0] == norms[1]


def test_what_is_learnt_is_kept_from_round_to_round(tmp_path):
  federation = _federation(tmp_path, [2.0, 2.0, 100.0])
  twice, _ = _run(federation, "robust", count=2)
  store, references = federation
  builder = rounds.RoundBuilder(
    support.linear_model(), store, CONFIG, fedtiny.FedTiny(), [], active_count=4, seed=0,
    aggregation=Aggregation("robust"),
  )  # fmt: skip
  once, _ = _run(federation, "robust")
  computation = builder.computation(1)
  forgotten = once._replace(aggregation=())
  kept, begun = (
    computation.run(state, references, builder.instruction(1, 0.1))[0]
    for state in (once, forgotten)
  )
  np.testing.assert_array_equal(kept.weights.prunable, twice.weights.prunable)
  assert [each.tolist() for each in kept.aggregation] == [
    each.tolist() for each in twice.aggregation
  ]
  assert [each.tolist() for each in begun.aggregation] != [
    each.tolist() for each in twice.aggregation
  ]


def test_a_flipped_update_cancels_one(tmp_path):
  poisoned = Poisoning(SIGN_FLIP, (1,), 2)
  federation = _federation(tmp_path, [2.0, 2.0, 2.0])
  state, _ = _run(federation, "mean", poisoned=poisoned)
  expected = np.array([0.1, -0.1, 0, 0]) / 3
  np.testing.assert_allclose(state.weights.prunable, expected, rtol=0, atol=1e-7)
  state, _ = _run(federation, "median", poisoned=poisoned)
  np.testing.assert_allclose(state.weights.prunable, 3 * expected, rtol=0, atol=1e-7)


class TestOwnMasks:
  """FedDST's clients send their weights beside the model, under masks of their own."""

  def run(self, folder, firsts, poisoned=NOBODY):
    store, references = _federation(folder, firsts)
    builder = rounds.RoundBuilder(
      support.linear_model(), store, CONFIG, feddst.FedDST(),
      (schedules.AdjustmentEvent(0, 0, (0,)),), active_count=2, seed=0, poisoned=poisoned,
    )  # fmt: skip
    start = _zeros([True, True, False, False])
    return builder.computation(0).run(start, references, builder.instruction(0, 0.1))

  @pytest.mark.parametrize("first", [400.0, 1e18])
  def test_weights_from_far_away_are_left_out_and_counted(self, tmp_path, first):
    state, metrics = self.run(tmp_path, [2.0, first, 2.0])
    np.testing.assert_allclose(state.weights.prunable, [0.1, -0.1, 0, 0], atol=1e-7)
    assert (metrics.accepted, metrics.not_finite, metrics.outlandish) == (2, 0, 1)

  def test_a_flipped_update_cancels_one(self, tmp_path):
    state, metrics = self.run(tmp_path, [2.0] * 3, Poisoning(SIGN_FLIP, (1,), 2))
    expected = np.array([0.1, -0.1, 0, 0]) / 3
    np.testing.assert_allclose(state.weights.prunable, expected, rtol=0, atol=1e-7)
    assert metrics.accepted == 3


class TestMask:
  """Twelve weights of the hidden layer, four active; two move at the event."""

  EVENTS = (schedules.AdjustmentEvent(0, 0, (2,)),)

  @pytest.fixture(scope="class", name="federation")
  def fixture_federation(self, tmp_path_factory):
    return support.write_voters(tmp_path_factory.mktemp("votes"))

  def mask(self, federation, name, poisoned):
    store, references = federation
    builder = rounds.RoundBuilder(
      support.perceptron(), store, CONFIG, fedtiny.FedTiny(), self.EVENTS,
      active_count=12, seed=0, poisoned=poisoned,
      aggregation=Aggregation(name, 0.2, len(references)),
    )  # fmt: skip
    state, metrics = builder.computation(0).run(
      support.voters_state(), references, builder.instruction(0, 0.1)
    )
    assert metrics.accepted == 5
    return state.mask.tolist()

  @pytest.mark.parametrize("name", GUARDED)
  def test_one_client_cannot_choose_it(self, federation, name):
    honest = self.mask(federation, name, NOBODY)
    assert self.mask(federation, name, Poisoning(RANDOM_PAIRS, (3,), 2)) == honest

  def test_without_a_guard_it_can(self, federation):
    honest = self.mask(federation, "mean", NOBODY)
    assert self.mask(federation, "mean", Poisoning(RANDOM_PAIRS, (3,), 2)) != honest
