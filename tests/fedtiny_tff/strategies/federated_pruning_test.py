"""Federated Pruning: which channels are kept, from event to event."""

import dataclasses
import functools
from typing import Any

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedtiny_tff.costs import device_cost
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models.channel_reduction import Reduction
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition, model_profile
from fedtiny_tff.models import layers
from fedtiny_tff.strategies import base, federated_pruning
from fedtiny_tff.strategies.adjustment import ServerModel
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support


def _find(width):
  """Returns a model that has 4 channels at width 1."""
  return _of(layers.scaled(4, width))


@functools.cache
def _of(channels):
  """Two 1x1 convolutions, joined by a sum, and a classifier."""

  def build():
    inputs = tf.keras.Input((2, 2, 1))
    x = tf.keras.layers.Conv2D(channels, 1, use_bias=False, name="stem")(inputs)
    y = tf.keras.layers.Conv2D(channels, 1, use_bias=False, name="conv")(x)
    x = tf.keras.layers.Add(name="add")([x, y])
    x = layers.relu(layers.batch_norm(x, "sum"), "sum")
    return tf.keras.Model(inputs, layers.logits(layers.pool(x), 2))

  found = definition.define_model("sum", build)
  return dataclasses.replace(found, spec=found.spec.with_blocks([(0, 1)]))


@functools.cache
def _plan(density, find=_find):
  config = PruningConfig(density, 10)
  return federated_pruning.FederatedPruning().plan_models(find, 1.0, config)


@functools.cache
def _reduction():
  return Reduction(_find(1.0), _find(0.5))


def _weights():
  """Norms of the stem's channels are 3, 1, 0, 3; of the convolution's 1, 2, 4, 0."""
  kernel = [[1, 0, 0, 0], [0, 0, 4, 0], [0, -2, 0, 0], [0, 0, 0, 0]]
  logits = [[10, 11], [20, 21], [30, 31], [40, 41]]
  prunable = [*np.ravel(kernel), *np.ravel(logits)]
  dense = [*(3, -1, 0, 3), *(1, 2, 3, 4), *(5, 6, 7, 8), *(50, 51)]
  vectors = (prunable, dense, [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8])
  return ModelWeights(*map(support.floats, vectors))


def _pretrained():
  public = (np.zeros([0, 2, 2, 1], np.float32), np.zeros([0], np.int64))
  return base.Pretrained(_find(1.0), _weights(), public)


class TestModels:
  def test_the_widest_that_the_density_allows(self):
    # n * n + 2 * n weights of 24: 15 of 3 channels, 8 of 2.
    for density, kept in ((1.0, 24), (0.99, 15), (15 / 24, 15), (0.6, 8), (8 / 24, 8)):
      plan = _plan(density)
      assert plan.trained.spec.size == kept
      assert plan.full is plan.pretrained is _find(1.0)
      assert plan.strategy.is_smaller
      assert not plan.strategy.is_sparse

  def test_one_channel_is_the_least(self):
    assert _plan(3 / 24).trained.spec.sizes == (1, 2)
    with pytest.raises(InputError, match=r"has 3 weights .* only 2 are allowed"):
      _plan(2.9 / 24)

  @support.quick
  @hypothesis.given(st.floats(3 / 24, 1.0))
  def test_no_more_weights_are_kept_than_asked_for(self, density):
    kernel, _ = _plan(density).trained.spec.layers
    channels, allowed = kernel.shape[-1], int(density * 24 + 1e-9)
    assert channels * (channels + 2) <= allowed
    assert (channels + 1) * (channels + 3) > allowed

  def test_groups_of_channels_are_none_of_its_business(self):
    def find(width):
      found = _find(width)
      return dataclasses.replace(found, spec=found.spec.with_channel_block(2))

    plan = _plan(0.6, find)
    assert plan.trained.spec.size == 8
    assert plan.trained.spec.channel_blocks == (2, 2)
    [mask] = plan.strategy.candidate_masks(_pretrained(), PruningConfig(0.6, 10))
    assert mask.all()
    assert mask.dtype == bool

  def test_without_its_models_it_says_so(self):
    strategy = federated_pruning.FederatedPruning()
    plan = base.AdjustmentPlan(_find(1.0).spec, 0, (0, 0), 0, 0)
    assert strategy.adjustment(plan).statistics_specs() == ()
    with pytest.raises(ValueError, match="call plan_models first"):
      strategy.begin(_pretrained(), np.ones(8, bool))
    model = ServerModel(_weights(), tf.ones([8], tf.bool), ())
    with pytest.raises(ValueError, match="call plan_models first"):
      strategy.adjustment(plan).apply(
        model, (), tf.zeros([2], tf.int32), tf.constant(0)
      )


class TestStart:
  def test_channels_of_largest_norm(self):
    strategy = _plan(0.6).strategy
    [mask] = strategy.candidate_masks(_pretrained(), PruningConfig(0.6, 10))
    weights, memory = strategy.begin(_pretrained(), mask)
    # Sums of norms are 4, 3, 4, 3.
    assert memory[-1].tolist() == [0, 2]
    assert memory[-1].dtype == np.int32
    assert weights.prunable.tolist() == [1, 0, 0, 0, 10, 11, 30, 31]
    assert weights.dense.tolist() == [3, 0, 1, 3, 5, 7, 50, 51]
    for one, another in zip(memory[:-1], _weights(), strict=True):
      np.testing.assert_array_equal(one, another)
      assert one.dtype == np.float32

  def test_kept_weights_are_those_of_the_full_model(self):
    strategy = _plan(0.6).strategy
    _, memory = strategy.begin(_pretrained(), np.ones(8, bool))
    kept = strategy.kept_weights(np.ones(8, bool), memory)
    assert np.flatnonzero(kept).tolist() == [0, 2, 8, 10, 16, 17, 20, 21]


def _adjusted(strategy, weights, memory, tracing=False):
  plan = base.AdjustmentPlan(_find(0.5).spec, 0, (0, 0), 0, 0)
  model = ServerModel(
    ModelWeights(*map(tf.constant, weights)),
    tf.ones([8], tf.bool),
    tuple(map(tf.constant, memory)),
  )
  apply = strategy.adjustment(plan).apply
  apply = tf.function(apply) if tracing else apply
  return apply(model, (), tf.zeros([2], tf.int32), tf.constant(3))


class TestEvent:
  @pytest.mark.parametrize("tracing", [False, True])
  def test_by_hand(self, tracing):
    strategy = _plan(0.6).strategy
    _, memory = strategy.begin(_pretrained(), np.ones(8, bool))
    # Channel 0's norms become 1 and 0.5, and channel 2's 6 and |(0.3, 4, 0.4)|.
    trained = ModelWeights(
      support.floats([0.5, 0.3, 0, 0.4, -10, -11, -30, -31]),
      support.floats([1, 6, 91, 93, 95, 97, 150, 151]),
      support.floats([-0.1, -0.3]),
      support.floats([1.5, 1.7]),
    )
    after = _adjusted(strategy, trained, memory, tracing)
    *vectors, kept = map(np.asarray, after.memory)
    full = ModelWeights(*vectors)
    # Sums are 1.5, 3, more than 10, 3: of channels 1 and 3 the first comes back.
    assert kept.tolist() == [1, 2]
    kernel = [[0.5, 0, 0.3, 0], [0, 0, 4, 0], [0, -2, 0.4, 0], [0, 0, 0, 0]]
    logits = [[-10, -11], [20, 21], [-30, -31], [40, 41]]
    rows: list[Any] = [*kernel, *logits]
    wanted = support.floats([value for row in rows for value in row])
    np.testing.assert_array_equal(full.prunable, wanted)
    dense = [*(1, -1, 6, 3), *(91, 2, 93, 4), *(95, 6, 97, 8), *(150, 151)]
    assert full.dense.tolist() == dense
    np.testing.assert_array_equal(
      full.batch_norm_mean, support.floats([-0.1, 0.2, -0.3, 0.4])
    )
    # The next small model: channel 1 as it was, channel 2 as it was trained.
    prunable = support.floats([0, 4, -2, 0.4, 20, 21, -30, -31])
    np.testing.assert_array_equal(after.weights.prunable, prunable)
    np.testing.assert_array_equal(after.weights.dense, [-1, 6, 2, 93, 6, 97, 150, 151])
    variance = support.floats([0.6, 1.7])
    np.testing.assert_array_equal(after.weights.batch_norm_variance, variance)
    assert np.asarray(after.mask).all()

  def test_nothing_moves_when_nothing_was_trained(self):
    strategy = _plan(0.6).strategy
    weights, memory = strategy.begin(_pretrained(), np.ones(8, bool))
    after = _adjusted(strategy, weights, memory)
    for one, another in zip(
      (*after.weights, *after.memory), (*weights, *memory), strict=True
    ):
      np.testing.assert_array_equal(one, another)

  @support.quick
  @hypothesis.given(st.integers(0, 10_000))
  def test_the_density_never_changes(self, seed):
    strategy, reduction = _plan(0.6).strategy, _reduction()
    generator = np.random.default_rng(seed)
    _, memory = strategy.begin(_pretrained(), np.ones(8, bool))
    # Few values, so that many are equal.
    trained = ModelWeights(
      *(generator.integers(-1, 2, n).astype(np.float32) for n in (8, 8, 2, 2))
    )
    after = _adjusted(strategy, trained, memory)
    kept = strategy.kept_weights(
      np.ones(8, bool), [np.asarray(m) for m in after.memory]
    )
    assert _find(1.0).spec.active_counts(kept) == (4, 4)
    small = reduction.gather(ModelWeights(*after.memory[:-1]), after.memory[-1])
    for one, another in zip(small, after.weights, strict=True):
      np.testing.assert_array_equal(one, another)


def test_events_are_regular_ones_of_the_whole_model():
  config = PruningConfig(0.6, 40, adjust_every_rounds=10, adjust_until_round=31)
  strategy, spec = _plan(0.6).strategy, _find(0.5).spec
  events = strategy.plan_events(spec, spec.sizes, config)
  assert [(e.round_index, e.block, e.counts) for e in events] == [
    (10, 0, (0, 0)), (20, 0, (0, 0)), (30, 0, (0, 0)),
  ]  # fmt: skip
  assert strategy.granularity == "entire"


def test_the_cost_is_that_of_the_small_dense_model():
  profile = model_profile.profile_model(_find(0.5))
  workload = device_cost.Workload(3, 2, 2)
  strategy, spec = _plan(0.6).strategy, _find(0.5).spec
  found = strategy.round_cost(profile, workload, spec.sizes, spec.blocks)
  # Stem 2, convolution 4, batch norm 4, classifier 4 and 2.
  assert found.parameters == 16
  assert found.memory_bytes == 8 * 16
  # 4 positions of 2 + 4 weights, 4 of the classifier.
  assert found.forward_flops == 2 * (4 * 6 + 4)
  assert found.adjust_round_flops == 3 * found.forward_flops
