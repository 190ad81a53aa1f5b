"""FedRTS: votes, outcomes and draws, by hand and by their distribution."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.costs import device_cost
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.local_training.optimizers import OptimizerConfig
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import positions
from fedtiny_tff.strategies import base, fedrts
from fedtiny_tff.strategies.adjustment import ClientStart, ServerModel
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events
from tests.fedtiny_tff import support

# Layers of 4 and 6 weights in one block; two and three are active.
_SPEC = support.spec_of_sizes(4, 6, blocks=((0, 1),))
_MASK = np.isin(np.arange(10), (0, 1, 4, 5, 6))


def _planned(spec=_SPEC, active=5, seed=0):
  plan = base.AdjustmentPlan(spec, 0, (1, 1), seed, active)
  return fedrts.FedRTS().adjustment(plan)


def _marks(*places):
  return tf.constant(np.isin(np.arange(10), places))


def _mean_votes(adjustment, votes):
  """Returns what the server averages, from (places, examples) of each client."""
  total = adjustment.zero()
  for places, examples in votes:
    sent = adjustment.pack(_marks(*places))
    total = adjustment.accumulate(total, sent, tf.constant(float(examples)))
  return total / float(sum(examples for _, examples in votes))


def _apply(adjustment, weights, mean, counts=(1, 1), memory=None, number=3):
  ones = tf.ones([len(weights)])
  vectors = ModelWeights(
    tf.constant(weights, tf.float32), *(tf.zeros([0]) for _ in range(3))
  )
  model = ServerModel(vectors, tf.constant(_MASK), memory or (ones, ones))
  return adjustment.apply(model, mean, tf.constant(counts), tf.constant(number))


class TestOutcomes:
  # Layer 0: 0.4 and -0.5; layer 1: 0.1, 0.3 and -0.2.
  WEIGHTS = (0.4, -0.5, 0, 0, 0.1, 0.3, -0.2, 0, 0, 0)
  # Each votes for one and two active weights, and for one pruned one of each layer.
  VOTES = (((0, 2, 5, 6, 7), 10), ((1, 2, 4, 5, 9), 30))

  def moved(self, **changes):
    adjustment = _planned()
    mean = _mean_votes(adjustment, self.VOTES)
    return _apply(adjustment, self.WEIGHTS, mean, **changes)

  def test_by_hand(self):
    # Of the mean weights 1, 5 and 6 are the largest but one of their layers.
    # Votes: 1/4 for 0, 6 and 7; 3/4 for 1, 4 and 9; all for 2 and 5; none for 3 and 8.
    outcome = np.array([
      *(0 + 0.125, 0.5 + 0.375, 0.25 + 0.5, 0.25),
      *(0 + 0.375, 0.5 + 0.5, 0.5 + 0.125, 0.25 + 0.125, 0.25, 0.25 + 0.375),
    ])  # fmt: skip
    alpha, beta = self.moved().memory
    np.testing.assert_allclose(alpha, 1 + 10 * outcome, rtol=1e-6)
    np.testing.assert_allclose(beta, 1 + 10 * (1 - outcome), rtol=1e-6)

  def test_they_add_to_what_is_remembered(self):
    first = self.moved().memory
    start = (tf.range(1.0, 11.0), tf.fill([10], 3.0))
    alpha, beta = self.moved(memory=start).memory
    np.testing.assert_allclose(alpha, first[0] - 1 + start[0], rtol=1e-6)
    np.testing.assert_allclose(beta, first[1] - 1 + start[1], rtol=1e-6)

  def test_each_event_is_ten_observations(self):
    alpha, beta = self.moved().memory
    np.testing.assert_allclose(alpha + beta, np.full(10, 12.0), rtol=1e-6)

  def test_what_is_certain_is_what_is_drawn(self):
    # So much is remembered of 3, 1, 7, 8 and 9 that no draw of another comes near.
    sure = np.isin(np.arange(10), (1, 3, 7, 8, 9))
    memory = tuple(
      tf.constant(np.where(x, 1e7, 1.0), tf.float32) for x in (sure, ~sure)
    )
    found = self.moved(memory=memory)
    np.testing.assert_array_equal(found.mask, sure)
    # What stays keeps its mean, what comes starts at zero, what goes is zero.
    wanted = [0, -0.5] + [0] * 8
    np.testing.assert_array_equal(found.weights.prunable, support.floats(wanted))

  def test_a_client_without_examples_has_no_vote(self):
    adjustment = _planned()
    alone = _mean_votes(adjustment, self.VOTES[:1])
    both = _mean_votes(adjustment, [self.VOTES[0], ((1, 3, 4, 5, 8), 0)])
    np.testing.assert_array_equal(alone, both)

  def test_the_first_memory_is_one_and_one(self):
    alpha, beta = fedrts.FedRTS().initial_memory(_MASK)
    assert alpha.dtype == beta.dtype == np.float32
    assert alpha.tolist() == beta.tolist() == [1.0] * 10


class TestClient:
  """A linear model from zero weights: every logit's gradient is ±1/2 at first.

  One step on x = (2, 1), class 0: kernel gradient [[-1, 1], [-1/2, 1/2]].
  """

  def votes(self, mask, count):
    model = support.linear()
    config = training.TrainingConfig(OptimizerConfig("sgd", 0.1, 0.0), 1, 1)
    trainer = training.LocalTrainer(model, config, support.decode_vectors)
    records, _ = support.labelled_records(support.floats([[2, 1]]), np.array([0]))
    start = ClientStart(
      support.random_weights(model)._replace(prunable=tf.zeros([4])),
      tf.constant(mask),
      batches.in_stored_order(records),
      tf.constant(0.1),
      tf.constant([count]),
    )
    found = _planned(model.spec, int(np.sum(mask))).train(trainer, start)
    code = positions.smallest_code(4, int(np.sum(mask)))
    assert found.metrics.examples == 1.0
    return code.decode(found.statistics.positions).numpy().tolist(), found.weights

  def test_the_largest_of_its_own_weights_and_of_the_gradient_elsewhere(self):
    # 0 becomes 0.1 and 2 becomes 0.05; of 1 and 3 the gradient is 1 and 1/2.
    places, weights = self.votes([True, False, True, False], 1)
    assert places == [0, 1]
    np.testing.assert_allclose(weights.prunable, [0.1, 0, 0.05, 0], rtol=1e-6)

  def test_no_gradient_for_a_count_of_zero(self):
    places, _ = self.votes([True, False, True, False], 0)
    assert places == [0, 2]

  def test_weights_count_after_the_last_step(self):
    # Both are zero before it; after it 1 is larger than 3.
    places, _ = self.votes([False, True, False, True], 1)
    assert places == [0, 1]

  def test_the_message_is_as_long_as_it_is_said_to_be(self):
    adjustment = _planned()
    sent = adjustment.pack(_marks(0, 2, 5, 6, 7))
    (spec,) = adjustment.statistics_specs()
    assert (spec.shape, spec.dtype) == (sent.positions.shape, sent.positions.dtype)
    assert spec.shape == [2]

  def test_another_number_of_votes_is_refused(self):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="shape"):
      _planned().pack(_marks(0, 1))


class TestDraws:
  def test_have_the_distributions_moments(self):
    alpha, beta, count = 6.0, 2.0, 40_000
    draws = fedrts.beta_draws(
      tf.fill([count], alpha), tf.fill([count], beta), tf.constant([1, 2])
    ).numpy()
    assert draws.dtype == np.float64
    # Mean 3/4, variance 12 / (64 * 9) = 1/48; five standard errors of the mean.
    assert draws.mean() == pytest.approx(0.75, abs=5 * np.sqrt(1 / 48 / count))
    assert draws.var() == pytest.approx(1 / 48, rel=0.05)
    assert 0.0 < draws.min() < draws.max() < 1.0

  def test_are_uniform_at_first(self):
    draws = fedrts.beta_draws(
      tf.ones([40_000]), tf.ones([40_000]), tf.constant([3, 4])
    ).numpy()
    shares = np.histogram(draws, 10, (0, 1))[0] / 40_000
    # A tenth in each; five standard errors are 0.0075.
    np.testing.assert_allclose(shares, np.full(10, 0.1), atol=0.0075)

  def test_two_variables_of_zero_are_a_half(self):
    # Gamma variables of so small a shape are below every float.
    tiny = tf.fill([5], 1e-30)
    draws = fedrts.beta_draws(tiny, tiny, tf.constant([1, 2])).numpy()
    assert draws.tolist() == [0.5] * 5

  def test_good_weights_do_not_tie(self):
    draws = fedrts.beta_draws(
      tf.fill([1000], 1e6), tf.fill([1000], 1e-3), tf.constant([1, 2])
    ).numpy()
    assert len(np.unique(draws.astype(np.float32))) < len(np.unique(draws))

  def draw(self, seed, number, mask=_MASK, spec=_SPEC):
    ones = tf.ones([mask.size])
    adjustment = _planned(spec, int(mask.sum()), seed)
    return adjustment.draw(ones, ones, tf.constant(mask), tf.constant(number)).numpy()

  def test_depend_on_seed_and_round_alone(self):
    mask = np.arange(200) < 100
    spec = support.spec_of_sizes(200)
    drawn = [
      self.draw(seed, number, mask, spec).tobytes()
      for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1), (2**31, 1))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 4

  def test_layers_of_one_size_draw_apart(self):
    spec = support.spec_of_sizes(100, 100, blocks=((0, 1),))
    found = self.draw(0, 1, np.arange(200) % 2 == 0, spec)
    assert (found[:100] != found[100:]).any()

  def test_work_in_a_graph(self):
    adjustment = _planned()
    mean = _mean_votes(adjustment, TestOutcomes.VOTES)
    apply = tf.function(lambda: _apply(adjustment, TestOutcomes.WEIGHTS, mean))
    found, eager = apply(), _apply(adjustment, TestOutcomes.WEIGHTS, mean)
    assert found.mask.shape == [10]
    np.testing.assert_array_equal(found.mask, eager.mask)


@support.quick
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]))
def test_every_layer_keeps_its_count_in_whole_groups(seed, size):
  generator = np.random.default_rng(seed)
  spec = support.spec_of_sizes(24, 16, blocks=((0, 1),)).with_channel_block(size)
  mask = np.repeat(generator.random(40 // size) < 0.5, size)
  counts = support.movable_groups(generator, spec, mask)
  adjustment = _planned(spec, int(mask.sum()), seed)
  # Few values, so that ties are common.
  weights, gradients = (
    tf.constant(generator.integers(-1, 2, 40), tf.float32) for _ in range(2)
  )
  masked = tf.where(mask, weights, 0.0)
  grown = adjustment.largest_gradients(
    tf.split(gradients, spec.sizes), tf.constant(mask), tf.constant(counts)
  ).numpy()
  assert not (grown & mask).any()
  moved = tuple(n * size for n in counts)
  assert spec.active_counts(grown) == moved
  vectors = ModelWeights(masked, *(tf.zeros([0]) for _ in range(3)))
  ones = tf.ones([40])
  model = ServerModel(vectors, tf.constant(mask), (ones, ones))
  found = adjustment.apply(
    model, tf.cast(grown, tf.float32), tf.constant(counts), tf.constant(7)
  )
  new_mask = found.mask.numpy()
  assert spec.active_counts(new_mask) == spec.active_counts(mask)
  for each in (new_mask, grown, *(memory.numpy() for memory in found.memory)):
    groups = each.reshape(-1, size)
    assert (groups == groups[:, :1]).all()
  prunable = found.weights.prunable.numpy()
  assert not prunable[~(mask & new_mask)].any()
  np.testing.assert_array_equal(prunable[mask & new_mask], masked[mask & new_mask])


def test_weights_that_are_no_numbers_keep_the_counts():
  adjustment = _planned()
  found = _apply(adjustment, [np.nan] * 10, tf.fill([10], 0.5))
  assert _SPEC.active_counts(found.mask.numpy()) == (2, 3)
  assert np.isfinite(found.memory[0]).all()


def test_good_weights_are_found_in_the_end():
  """Clients that always vote for the same three of eight weights get them."""
  spec = support.spec_of_sizes(8)
  good = np.isin(np.arange(8), (2, 5, 7))
  mask = tf.constant(np.arange(8) < 3)
  vectors = ModelWeights(tf.zeros([8]), *(tf.zeros([0]) for _ in range(3)))
  model = ServerModel(vectors, mask, (tf.ones([8]), tf.ones([8])))
  adjustment = _planned(spec, 3)
  for number in range(20):
    # Good weights are large where they are active.
    prunable = tf.where(model.mask, tf.where(good, 1.0, 0.1), 0.0)
    model = adjustment.apply(
      model._replace(weights=vectors._replace(prunable=prunable)),
      tf.cast(good, tf.float32),
      tf.constant([1]),
      tf.constant(number),
    )
  np.testing.assert_array_equal(model.mask, good)


def test_the_whole_model_is_adjusted_at_once():
  strategy = fedrts.FedRTS()
  assert strategy.granularity == "entire"
  assert not fedrts.ThompsonAdjustment.replaces_weights
  config = PruningConfig(0.5, 30)
  events = strategy.plan_events(_SPEC, (2, 3), config)
  assert events == regular_events(_SPEC, (2, 3), config)
  by_layer = _SPEC.with_blocks([[0], [1]])
  with pytest.raises(
    ValueError, match=r"fedrts adjusts the whole model at once, got bl"
  ):
    strategy.adjustment(base.AdjustmentPlan(by_layer, 0, (1,), 0, 5))


def test_one_dense_gradient_of_a_round_and_top_pairs_are_charged():
  profile = ModelProfile(115, (40, 60), (1000, 600), 7, 0, 9, 0)
  workload = device_cost.Workload(3, 2, 2)
  found = fedrts.FedRTS().round_cost(profile, workload, (10, 30), ((0, 1),))
  forward = 2 * (250 + 300 + 7)
  assert found.adjust_round_flops == pytest.approx(3 * forward + 2 * (750 + 300) / 4)
  assert found.memory == device_cost.MemoryCost(4 * 55, 4 * 55, 4 * 40, 8 * 12)
