"""Rounds of which the server learns sums only, or private ones.

Of the linear model with zero weights and rate 0.1, a client with x = (2, 0) of class 0
moves the kernel by [[0.1, -0.1], [0, 0]]; one with x = (c, 0) by c/2 times that. Biases
move by ±0.05.
"""

import numpy as np
import pytest

from fedtiny_tff.federated import evaluation
from fedtiny_tff.federated.runtimes import spreading
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.secure_config import BITWIDTH, MODULAR, SecureSums
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import feddst, fedtiny
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

CONFIG = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1, 0.0), 1, 8)
QUIET = Privacy(1e-7, 3.0, 0, adaptive=False)
SECURE = SecureSums(BITWIDTH, 32, 5, 8)


def _builder(federation, model, aggregation, active, events=(), strategy=None):
  return rounds.RoundBuilder(
    model, federation[0], CONFIG, strategy or fedtiny.FedTiny(), events,
    active_count=active, seed=0, aggregation=aggregation,
  )  # fmt: skip


def _linear(folder, firsts):
  return support.write_store(folder / "records", support.clients_of_one(firsts))


class _Linear:
  """Rounds of the linear model from zero weights, all built once."""

  def __init__(self, federation, aggregation):
    self._references = federation[1]
    self._builder = _builder(federation, support.linear_model(), aggregation, 4)

  def run(self, number=0, references=None):
    weights = ModelWeights(*(np.zeros(size, np.float32) for size in (4, 2, 0, 0)))
    state = support.make_state(weights, np.ones(4, bool))
    return self._builder.computation(number).run(
      state._replace(round_index=np.int32(number)),
      self._references if references is None else references,
      self._builder.instruction(number, 0.1),
    )


def test_a_private_state_holds_a_clip_norm_for_each_part(tmp_path):
  federation = _linear(tmp_path, [2.0])
  for aggregation, kept in (
    (Aggregation(privacy=QUIET), "<float32,float32>"),
    (Aggregation(secure=SECURE), "<>"),
  ):
    builder = _builder(federation, support.linear_model(), aggregation, 4)
    signature = builder.computation(0).next.type_signature
    assert f"memory=<>,aggregation={kept}>@SERVER" in str(signature.parameter[0])
    assert str(signature.result[0]) == str(signature.parameter[0])


@pytest.mark.parametrize("mode", [BITWIDTH, MODULAR])
def test_secure_sums_are_the_weighted_mean(tmp_path, mode):
  part = support.make_part([[4, 0]] * 3, [0] * 3)
  nothing = support.make_part(np.zeros([0, 2]), [])
  one = support.make_part([[2, 0]], [0])
  federation = support.write_store(
    tmp_path / "records", [support.Client(one, nothing), support.Client(part, nothing)]
  )
  secure = Aggregation(secure=SecureSums(mode, 32, 2, 3))
  state, metrics = _Linear(federation, secure).run()
  # One client of one example moved by 0.1, one of three by 0.2.
  expected = np.array([1, -1, 0, 0]) * (0.1 + 3 * 0.2) / 4
  np.testing.assert_allclose(state.weights.prunable, expected, atol=1e-6)
  np.testing.assert_allclose(state.weights.dense, [0.05, -0.05], atol=1e-6)
  assert (metrics.accepted, metrics.examples) == (2, 4)
  np.testing.assert_allclose(metrics.loss_sum, 4 * np.log(2), rtol=1e-6)


def test_what_is_out_of_bounds_is_left_out_of_secure_sums(tmp_path):
  federation = _linear(tmp_path, [2.0, 400.0, np.inf])
  state, metrics = _Linear(federation, Aggregation(secure=SECURE)).run()
  np.testing.assert_allclose(state.weights.prunable, [0.1, -0.1, 0, 0], atol=1e-6)
  assert (metrics.accepted, metrics.outlandish, metrics.not_finite) == (1, 1, 1)


def test_private_updates_are_clipped_and_divided_by_the_number_expected(tmp_path):
  federation = _linear(tmp_path, [2.0, 100.0])
  state, _ = _Linear(federation, Aggregation(privacy=QUIET)).run()
  # The second is clipped to norm 1: 5 in each of two directions, and biases of 0.05.
  length = np.sqrt(2 * 5.0**2 + 2 * 0.05**2)
  expected = (0.1 + 5 / length) / 3
  np.testing.assert_allclose(
    state.weights.prunable[:2], [expected, -expected], rtol=1e-5
  )
  np.testing.assert_allclose(
    state.weights.dense[0], (0.05 + 0.05 / length) / 3, rtol=1e-5
  )


@pytest.mark.parametrize("secure", [None, SECURE])
def test_no_client_moves_a_private_model_farther_than_the_clip_norm(tmp_path, secure):
  """The noise of a round is the same with and without a client; what is left is it."""
  privacy = Privacy(1.0, 4.0, 0, clip_norm=0.5)
  federation = _linear(tmp_path, [2.0, 2.0, 100.0, -100.0])
  linear = _Linear(federation, Aggregation(privacy=privacy, secure=secure))
  every, _ = linear.run()
  for left_out in range(4):
    others = [each for i, each in enumerate(federation[1]) if i != left_out]
    without, _ = linear.run(references=others)
    moved = [
      every.weights.prunable - without.weights.prunable,
      every.weights.dense - without.weights.dense,
    ]
    length = np.linalg.norm(np.concatenate(moved))
    assert length <= 0.5 / 4 * (1 + 1e-5)
    assert length > (0.12 if left_out >= 2 else 0.03)


def test_noise_is_of_a_round_and_a_seed(tmp_path):
  federation = _linear(tmp_path, [2.0])

  first, other = (
    _Linear(federation, Aggregation(privacy=Privacy(1.0, 3.0, seed))) for seed in (0, 1)
  )
  drawn = [
    linear.run(number)[0].weights.prunable.tolist()
    for linear, number in ((first, 0), (first, 0), (first, 1), (other, 0))
  ]
  assert drawn[0] == drawn[1]
  assert len(set(map(tuple, drawn))) == 3
  # Without any client there is the same noise, and nothing else.
  state, metrics = first.run(references=[])
  assert metrics.accepted == 0
  alone = np.array(drawn[0]) - state.weights.prunable
  np.testing.assert_allclose(alone, np.array([0.1, -0.1, 0, 0]) / 3, atol=1e-6)


def test_the_clip_norm_follows_the_lengths(tmp_path):
  """All longer than it: it grows by exp(0.2 · 0.5); all shorter: it shrinks by that."""
  federation = _linear(tmp_path, [2.0] * 3)
  for first, factor in ((0.01, 0.1), (1.0, -0.1)):
    privacy = Privacy(1e-6, 3.0, 0, clip_norm=first)
    # The share's noise is a twentieth of three clients: too much to see the factor.
    state, _ = _Linear(federation, Aggregation(privacy=privacy)).run()
    ratio = np.log(state.aggregation[0] / first)
    assert np.sign(ratio) == np.sign(factor)
    assert abs(ratio - factor) < 0.06


class TestVotes:
  """Twelve weights of the hidden layer, four active; two move at the event."""

  EVENTS = (schedules.AdjustmentEvent(0, 0, (2,)),)

  @pytest.fixture(scope="class", name="federation")
  def fixture_federation(self, tmp_path_factory):
    return support.write_voters(tmp_path_factory.mktemp("votes"))

  @pytest.fixture(scope="class", name="plain")
  def fixture_plain(self, local_runtime, federation):
    del local_runtime  # Only has to be there.
    return self.run(federation, Aggregation())

  def builder(self, federation, aggregation, strategy=None):
    return _builder(
      federation, support.perceptron(), aggregation, 12, self.EVENTS, strategy
    )

  def run(self, federation, aggregation):
    builder = self.builder(federation, aggregation)
    computation = builder.computation(0)
    state, metrics = computation.run(
      support.voters_state(), federation[1], builder.instruction(0, 0.1)
    )
    assert metrics.accepted == 5
    return state, computation

  @pytest.mark.parametrize(
    "aggregation",
    [
      Aggregation(secure=SECURE),
      Aggregation(secure=SecureSums(MODULAR, 32, 5, 8, vote_buckets=4096)),
      Aggregation(privacy=Privacy(1e-7, 5.0, 0, clip_norm=100.0, adaptive=False)),
      Aggregation(
        privacy=Privacy(1e-7, 5.0, 0, clip_norm=100.0, adaptive=False), secure=SECURE
      ),
    ],
    ids=["secure", "hashed", "private", "both"],
  )
  def test_the_same_mask_and_model_come_of_them(self, federation, plain, aggregation):
    plain, _ = plain
    hidden, _ = self.run(federation, aggregation)
    assert hidden.mask.tolist() == plain.mask.tolist()
    for one, two in zip(hidden.weights, plain.weights, strict=True):
      np.testing.assert_allclose(one, two, atol=1e-5)

  def test_noise_moves_the_mask(self, federation, plain):
    noisy, _ = self.run(federation, Aggregation(privacy=Privacy(20.0, 5.0, 0)))
    assert noisy.mask.tolist() != plain[0].mask.tolist()

  def test_bytes_are_those_of_words_and_whole_votes(self, federation, plain):
    _, plain = plain
    _, secure = self.run(federation, Aggregation(secure=SECURE))
    assert plain.secure_extra_bytes == 0
    # 12 active values, 6 others and 12 votes in words of 32 bits; three metrics, four
    # verdicts and the weight in words of 60.
    assert secure.upload_bytes == (12 + 6 + 12) * 4 + 8 * 60 // 8
    assert secure.secure_extra_bytes == secure.upload_bytes - plain.upload_bytes

  def test_nothing_is_added_up_in_the_open(self, federation):
    found = support.open_aggregations
    for privacy in (None, QUIET):
      builder = self.builder(federation, Aggregation(privacy=privacy, secure=SECURE))
      for number in range(2):
        computation = builder.computation(number).next
        assert found(computation) == set()
        # Several machines can share it.
        assert spreading.make_plan(computation).merge is not None
    evaluated = evaluation.build_evaluation(
      support.perceptron(), federation[0], active_count=12, batch_size=8, secure=SECURE
    )
    assert found(evaluated) == set()
    plain = self.builder(federation, Aggregation()).computation(0).next
    assert {"federated_sum", "federated_aggregate"} <= found(plain)


def test_votes_without_a_bound_cannot_be_private(tmp_path):
  events = (schedules.AdjustmentEvent(0, 0, (1,)),)
  builder = _builder(
    _linear(tmp_path, [2.0]), support.linear_model(), Aggregation(privacy=QUIET), 2,
    events, feddst.FedDST(),
  )  # fmt: skip
  with pytest.raises(ValueError, match="cannot be made private"):
    builder.computation(0)
