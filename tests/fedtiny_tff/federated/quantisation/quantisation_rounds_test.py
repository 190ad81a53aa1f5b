"""Tests of the rounds in int8, against clients that are computed one by one."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated.quantisation import (
  quantisation_messages,
  quantisation_rounds,
)
from fedtiny_tff.federated.training_rounds import client_work
from fedtiny_tff.local_training import (
  batches,
  optimizers,
  quantisation_training,
  training,
)
from fedtiny_tff.local_training.quantisation_training import QuantisedWeights
from fedtiny_tff.masked_models import tfmot_quantisation
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.masked_models.tfmot_quantisation import Ranges
from fedtiny_tff.protection.aggregation_config import WEIGHTED_MEAN, Aggregation
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds.dense_reference import (
  average_reference,
)

pytestmark = pytest.mark.usefixtures("local_runtime")

MODEL = support.small_cnn()
COUNTS = (16, 10, 8, 6)
SEED = 11
CONFIG = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.05, 0.9), 2, 4)


@functools.cache
def plan():
  return tfmot_quantisation.plan_quantisation(MODEL)


@functools.cache
def linear_plan():
  return tfmot_quantisation.plan_quantisation(support.linear_model())


@pytest.fixture(scope="module")
def clients():
  generator = np.random.default_rng(21)
  return [
    support.Client(
      support.random_part(generator, training_, (4, 4, 1), 3, mean),
      support.random_part(generator, held_out, (4, 4, 1), 3, mean, deviation),
    )
    for training_, held_out, mean, deviation in [(6, 5, 0, 1), (9, 8, 2, 3)]
  ]


@pytest.fixture(scope="module")
def stored(tmp_path_factory, clients):
  return support.write_store(tmp_path_factory.mktemp("rounds") / "records", clients)


def build(store, plan_, active: int) -> quantisation_rounds.QuantisationRounds:
  return quantisation_rounds.QuantisationRounds(
    plan_, store, CONFIG, active_count=active, evaluation_batch_size=4, seed=SEED
  )


@pytest.fixture(scope="module")
def rounds(stored):
  return build(stored[0], plan(), 40)


@pytest.fixture(scope="module")
def mask():
  return support.random_mask(MODEL, COUNTS, 5)


@pytest.fixture(scope="module")
def begun(rounds, stored, mask):
  """Random weights, with the ranges that both clients observe."""
  weights = support.make_state(support.random_weights(MODEL, 5), mask).weights
  empty = np.zeros(plan().quantisers, np.float32)
  state = quantisation_messages.pack_state(
    QuantisedWeights(weights, Ranges(empty, empty)), mask, 3
  )
  ranges = rounds.observe(state, stored[1])
  return QuantisedWeights(weights, Ranges(*map(np.asarray, ranges)))


def tensors(quantised: QuantisedWeights) -> QuantisedWeights:
  return QuantisedWeights(
    ModelWeights(*map(tf.constant, quantised.weights)),
    Ranges(*map(tf.constant, quantised.ranges)),
  )


def trained_alone(stored, number: int, begun, mask, round_index: int):
  """What one client sends, computed here."""
  store, references = stored
  client = references[number]
  trainer = quantisation_training.QuantisedTrainer(plan(), CONFIG, store.decode)
  seed = client_work.client_seed(
    SEED, tf.constant(round_index), tf.constant(client.client)
  )
  records = store.read(client.first_record, client.training_examples)
  examples = batches.shuffled(records, CONFIG.local_epochs, seed)
  return trainer.train_quantised(
    tensors(begun), tf.constant(mask), examples, tf.constant(0.05)
  )


class TestTypes:
  def test_of_a_round(self, rounds):
    state = (
      "<model=<active_values=float32[40],positions=uint8[16],dense=float32[41],"
      "batch_norm_mean=float32[10],batch_norm_variance=float32[10]>,"
      "ranges=<minimum=float32[7],maximum=float32[7]>,round_index=int32>@SERVER"
    )
    clients = (
      "{<client=int64,first_record=int64,training_examples=int64,"
      "development_examples=int64>}@CLIENTS"
    )
    assert rounds.next.type_signature.compact_representation() == (
      f"(<state={state},clients={clients},instruction=<round_index=int32,"
      f"learning_rate=float32,counts=int32[0]>@SERVER> -> <{state},"
      "<loss_sum=float32,correct=float32,examples=float32>@SERVER>)"
    )
    assert rounds.observe.type_signature.compact_representation() == (
      f"(<state={state},clients={clients}> -> "
      "<minimum=float32[7],maximum=float32[7]>@SERVER)"
    )
    assert rounds.evaluate.type_signature.compact_representation() == (
      f"(<state={state},clients={clients}> -> "
      "<loss_sum=float32,correct=float32,examples=float32>@SERVER)"
    )

  def test_bytes(self, rounds):
    # 40 + 41 + 2 · 10 values, 2 · 7 ranges; down 16 bytes of positions and an
    # instruction of 2 numbers; up a weight and 3 metrics.
    assert rounds.download_bytes == 4 * (101 + 14) + 16 + 8
    assert rounds.upload_bytes == 4 * (101 + 14) + 4 + 12


class TestObserve:
  def test_is_the_extremes_of_what_each_client_observes(self, stored, begun, mask):
    store, references = stored
    alone = []
    for client in references:
      records = store.read(client.first_record, client.training_examples)
      evaluator = quantisation_training.QuantisedEvaluator(plan(), store.decode, 4)
      weights = tensors(begun).weights
      alone.append(evaluator.observe(weights, tf.constant(mask), records))
    low = np.minimum(*(seen.minimum for seen in alone))
    high = np.maximum(*(seen.maximum for seen in alone))
    np.testing.assert_allclose(begun.ranges.minimum, low, rtol=1e-5)
    np.testing.assert_allclose(begun.ranges.maximum, high, rtol=1e-5)
    # Neither client has all of them.
    for seen in alone:
      assert not np.allclose(seen.maximum, high)


class TestNext:
  def test_ranges_are_averaged_by_examples(self, tmp_path):
    """By hand: rate 0, one step a client, 1 example against 3."""
    parts = [
      support.make_part([[1.0, 2.0]], [0]),
      support.make_part([[3.0, -1.0], [0.0, 0.0], [0.0, 0.0]], [0, 1, 1]),
    ]
    clients = [support.Client(part, part) for part in parts]
    store, references = support.write_store(tmp_path / "records", clients)
    one_epoch = training.TrainingConfig(CONFIG.optimizer, 1, 4)
    rounds = quantisation_rounds.QuantisationRounds(
      linear_plan(), store, one_epoch, active_count=4, evaluation_batch_size=4, seed=0
    )
    weights = ModelWeights(
      np.asarray([1, 0, 0, 1], np.float32),
      *(np.zeros(n, np.float32) for n in (2, 0, 0)),
    )
    ranges = Ranges(np.full(2, -1, np.float32), np.full(2, 2, np.float32))
    mask = np.ones(4, bool)
    after, metrics = rounds.run(
      QuantisedWeights(weights, ranges), mask, references, 0, 0.0
    )
    np.testing.assert_array_equal(after.weights.prunable, weights.prunable)
    # -0.99 of the one, -1.00 of the other; 2.00 and 2.01.
    assert after.ranges.minimum[0] == pytest.approx((-0.99 - 3 * 1.0) / 4, abs=1e-6)
    assert after.ranges.maximum[0] == pytest.approx((2.0 + 3 * 2.01) / 4, abs=1e-6)
    assert metrics.examples == 4

  def test_equals_the_means_of_clients_computed_here(self, rounds, stored, begun, mask):
    after, metrics = rounds.run(begun, mask, stored[1], 3, 0.05)
    alone = [trained_alone(stored, number, begun, mask, 3) for number in (0, 1)]
    wanted = average_reference([one.weights for one, _ in alone], [6, 9])
    for found, mean in zip(after.weights, wanted, strict=True):
      np.testing.assert_allclose(found, mean, atol=1e-5)
    for end in Ranges._fields:
      first, second = (np.asarray(getattr(one.ranges, end)) for one, _ in alone)
      np.testing.assert_allclose(
        getattr(after.ranges, end), 0.4 * first + 0.6 * second, rtol=1e-5
      )
    losses = sum(float(sums.loss_sum) for _, sums in alone)
    assert metrics.loss_sum == pytest.approx(losses, rel=1e-5)

  def test_zeros_stay_zero_and_the_rest_moves(self, rounds, stored, begun, mask):
    current = begun
    for number in range(2):
      current, _ = rounds.run(current, mask, stored[1], number, 0.05)
    assert not current.weights.prunable[~mask].any()
    moved = current.weights.prunable != begun.weights.prunable
    assert np.count_nonzero(moved) > 20

  def test_same_seed_and_round_same_bytes(self, rounds, stored, begun, mask):
    first, second, other = (
      support.to_bytes(rounds.run(begun, mask, stored[1], number, 0.05)[0])
      for number in (3, 3, 4)
    )
    assert first == second
    assert first != other


class TestGuards:
  """Rate 0 and one step: ranges follow an example (2, c) by a hundredth.

  They start at -1 and 2; the first of them is that of the input.
  """

  def run(self, folder, seconds, aggregation=WEIGHTED_MEAN):
    parts = [support.make_part([[2.0, second]], [0]) for second in seconds]
    store, references = support.write_store(
      folder / "records", [support.Client(part, part) for part in parts]
    )
    rounds = quantisation_rounds.QuantisationRounds(
      linear_plan(), store, training.TrainingConfig(CONFIG.optimizer, 1, 4),
      active_count=4, evaluation_batch_size=4, seed=0, aggregation=aggregation,
    )  # fmt: skip
    weights = ModelWeights(
      np.asarray([1, 0, 0, 1], np.float32),
      *(np.zeros(n, np.float32) for n in (2, 0, 0)),
    )
    begun = QuantisedWeights(
      weights, Ranges(np.full(2, -1, np.float32), np.full(2, 2, np.float32))
    )
    mask = np.ones(4, bool)
    after, metrics = rounds.run(begun, mask, references, 0, 0.0)
    np.testing.assert_array_equal(after.weights.prunable, weights.prunable)
    return after.ranges.minimum[0], metrics.examples

  def test_a_client_of_broken_examples_is_left_out(self, tmp_path):
    lowest, examples = self.run(tmp_path, [-3.0, np.nan, -1.0])
    assert lowest == pytest.approx((-1.02 - 1.0) / 2, abs=1e-6)
    assert examples == 2

  def test_one_is_outvoted_where_reports_are_compared(self, tmp_path):
    median = Aggregation("median", slots=3)
    lowest, examples = self.run(tmp_path, [-1.0, -1.0, -901.0], median)
    assert (lowest, examples) == (pytest.approx(-1.0, abs=1e-6), 3)
    (tmp_path / "mean").mkdir()
    pulled, _ = self.run(tmp_path / "mean", [-1.0, -1.0, -901.0])
    assert pulled == pytest.approx(-4.0, abs=1e-3)

  @pytest.mark.parametrize("how", [WEIGHTED_MEAN, Aggregation("median", slots=3)])
  def test_without_a_report_nothing_moves(self, tmp_path, how):
    assert self.run(tmp_path, [np.nan, np.inf], how) == (-1.0, 0)


class TestEvaluate:
  def test_equals_the_rounded_model_on_all_held_out_parts(
    self, rounds, stored, clients, begun, mask
  ):
    state = quantisation_messages.pack_state(begun, mask, 3)
    found = rounds.evaluate(state, stored[1])
    part = support.concatenate([client.development for client in clients])
    model = quantisation_training.finished_model(plan(), begun, mask)
    wanted = MODEL.task.batch_metrics(
      tf.constant(part.features),
      tf.constant(part.labels),
      model(part.features, training=False),
    )
    assert found.examples == 13
    assert found.correct == float(wanted.correct)
    assert found.loss_sum == pytest.approx(float(wanted.loss_sum), rel=1e-4)
