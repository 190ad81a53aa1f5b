"""FedDST's client masks and the server's average of them, worked out by hand."""

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
from fedtiny_tff.strategies import base, feddst
from fedtiny_tff.strategies.adjustment import ClientStart, ServerModel
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events
from tests.fedtiny_tff import support

# Layers of 4 and 6 weights in one block; two and three are active.
_SPEC = support.spec_of_sizes(4, 6, blocks=((0, 1),))
_MASK = np.isin(np.arange(10), (0, 1, 4, 5, 6))


def _planned(spec=_SPEC, active=5, capacities=(1, 1)):
  return feddst.FedDST().adjustment(base.AdjustmentPlan(spec, 0, capacities, 0, active))


def _own(adjustment, weights):
  """Returns what a client sends whose active weights are those that are not 0."""
  values = support.floats(weights)
  return adjustment.pack(tf.constant(values), tf.constant(values != 0))


def _applied(adjustment, mask, clients, before=None):
  """Returns weights and mask, from (weights of a client, its examples) of each."""
  total = adjustment.zero()
  for weights, examples in clients:
    sent = _own(adjustment, weights)
    total = adjustment.accumulate(total, sent, tf.constant(float(examples)))
  summed = float(sum(examples for _, examples in clients))
  mean = feddst.MaskedSums(*(vector / summed for vector in total))
  prunable = tf.zeros([mask.size]) if before is None else before
  vectors = ModelWeights(prunable, *(tf.zeros([0]) for _ in range(3)))
  moved = adjustment.apply(
    ServerModel(vectors, tf.constant(mask), ()),
    mean,
    tf.constant([1, 1]),
    tf.constant(3),
  )
  assert moved.memory == ()
  return moved.weights.prunable.numpy(), moved.mask.numpy()


class TestServer:
  # Client 1 has moved 1 to 2, and 6 to 9; client 2 has moved 0 to 2, and 4 to 8.
  FIRST = (0.8, 0, 0.2, 0, 0.5, -0.1, 0, 0, 0, 0.3)
  SECOND = (0, 0.3, 0.6, 0, 0, -0.3, 0.7, 0, 0.9, 0)

  def test_a_mean_over_those_that_have_a_weight(self):
    weights, mask = _applied(_planned(), _MASK, [(self.FIRST, 10), (self.SECOND, 30)])
    # Layer 0: 0.8 and 0.3 by one each; 2: (10 * 0.2 + 30 * 0.6) / 40 = 0.5. Layer 1: 0.5,
    # (10 * -0.1 + 30 * -0.3) / 40 = -0.25, 0.7, 0.9 and 0.3; of these five three stay.
    assert np.flatnonzero(mask).tolist() == [0, 2, 4, 6, 8]
    wanted = support.floats([0.8, 0, 0.5, 0, 0.5, 0, 0.7, 0, 0.9, 0])
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)

  def test_a_mean_over_all_would_keep_others(self):
    """Shares of all examples, as a plain average has them, would make 0.8 only 0.2."""
    weights, _ = _applied(_planned(), _MASK, [(self.FIRST, 10), (self.SECOND, 30)])
    assert weights[0] == pytest.approx(0.8)

  def test_examples_decide_between_clients(self):
    weights, mask = _applied(_planned(), _MASK, [(self.FIRST, 90), (self.SECOND, 10)])
    # 2: (90 * 0.2 + 10 * 0.6) / 100 = 0.24, now below 0.3.
    assert np.flatnonzero(mask).tolist() == [0, 1, 4, 6, 8]
    assert weights[1] == pytest.approx(0.3)

  def test_one_client_gets_back_what_it_sent(self):
    weights, mask = _applied(_planned(), _MASK, [(self.FIRST, 7)])
    np.testing.assert_allclose(weights, support.floats(self.FIRST), rtol=1e-6)
    np.testing.assert_array_equal(mask, np.asarray(self.FIRST) != 0)

  def test_a_client_without_examples_changes_nothing(self):
    alone = _applied(_planned(), _MASK, [(self.FIRST, 7)])
    both = _applied(_planned(), _MASK, [(self.FIRST, 7), (self.SECOND, 0)])
    for one, other in zip(alone, both, strict=True):
      np.testing.assert_array_equal(one, other)

  def test_the_servers_weights_have_no_influence(self):
    clients = [(self.FIRST, 10), (self.SECOND, 30)]
    plain = _applied(_planned(), _MASK, clients)
    other = _applied(_planned(), _MASK, clients, tf.fill([10], 9.0))
    for one, another in zip(plain, other, strict=True):
      np.testing.assert_array_equal(one, another)

  def test_a_weight_of_zero_that_a_client_has_beats_one_that_none_has(self):
    adjustment = _planned()
    mask = np.isin(np.arange(10), (2, 3, 7, 8, 9))
    sent = adjustment.pack(tf.zeros([10]), tf.constant(mask))
    total = adjustment.accumulate(adjustment.zero(), sent, tf.constant(1.0))
    model = ServerModel(
      ModelWeights(*(tf.zeros([n]) for n in (10, 0, 0, 0))), _MASK, ()
    )
    moved = adjustment.apply(model, total, tf.constant([1, 1]), tf.constant(3))
    # By index alone, 0 and 1 would come first.
    np.testing.assert_array_equal(moved.mask, mask)

  def test_opposite_weights_cancel_and_keep_the_count(self):
    first = [1.0, 1.0, 0, 0, 1.0, 1.0, 1.0, 0, 0, 0]
    weights, mask = _applied(_planned(), _MASK, [(first, 5), (np.negative(first), 5)])
    assert not weights.any()
    np.testing.assert_array_equal(mask, _MASK)


class TestMessage:
  def test_values_in_order_and_positions_as_of_the_model(self):
    sent = _own(_planned(), TestServer.FIRST)
    np.testing.assert_array_equal(
      sent.values, support.floats([0.8, 0.2, 0.5, -0.1, 0.3])
    )
    code = positions.smallest_code(10, 5)
    assert code.decode(sent.positions).numpy().tolist() == [0, 2, 4, 5, 9]

  def test_is_as_long_as_it_is_said_to_be(self):
    specs = _planned().statistics_specs()
    sent = _own(_planned(), TestServer.FIRST)
    for spec, tensor in zip(specs, sent, strict=True):
      assert (spec.shape, spec.dtype) == (tensor.shape, tensor.dtype)
    # A bit for each of ten weights.
    assert specs.positions.shape == [2]
    assert specs.values.shape == [5]

  def test_another_number_of_weights_is_refused(self):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="shape"):
      _planned().pack(tf.ones([10]), tf.ones([10], tf.bool))


@support.quick
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]))
def test_every_layer_keeps_its_count_in_whole_groups(seed, size):
  generator = np.random.default_rng(seed)
  spec = support.spec_of_sizes(24, 16, blocks=((0, 1),)).with_channel_block(size)

  def permuted(layers):
    parts = [np.repeat(generator.permutation(groups), size) for groups in layers]
    return np.concatenate(parts)

  # At least a group in each layer; every client has as many.
  layers = [
    np.arange(n // size) < generator.integers(1, n // size + 1) for n in spec.sizes
  ]
  mask = permuted(layers)
  adjustment = _planned(spec, int(mask.sum()))
  total, union = adjustment.zero(), np.zeros(40, bool)
  for _ in range(3):
    own = permuted(layers)
    union |= own
    # Few values and zeros among them, so that ties are common.
    values = np.where(own, generator.integers(-1, 2, 40), 0).astype(np.float32)
    sent = adjustment.pack(tf.constant(values), tf.constant(own))
    total = adjustment.accumulate(total, sent, tf.constant(1.0 / 3.0))
  vectors = ModelWeights(*(tf.zeros([n]) for n in (40, 0, 0, 0)))
  moved = adjustment.apply(
    ServerModel(vectors, tf.constant(mask), ()),
    total,
    tf.constant([0, 0]),
    tf.constant(1),
  )
  found = moved.mask.numpy()
  assert spec.active_counts(found) == spec.active_counts(mask)
  assert not (found & ~union).any()
  groups = found.reshape(-1, size)
  assert (groups == groups[:, :1]).all()
  assert not moved.weights.prunable.numpy()[~found].any()


class TestClient:
  """A linear model from zero weights: every logit's gradient is ±1/2 at first.

  Records of one step each, x = (2, 0) of class 0: kernel gradient [[-1, 1], [0, 0]].
  """

  def trained(self, steps, mask, momentum=0.0, counts=(1,)):
    model = support.linear()
    config = training.TrainingConfig(OptimizerConfig("sgd", 0.1, momentum), 1, 1)
    trainer = training.LocalTrainer(model, config, support.decode_vectors)
    features = support.floats([[2, 0]] * steps)
    records, _ = support.labelled_records(features, np.zeros(steps, np.int64))
    start = ClientStart(
      support.random_weights(model)._replace(prunable=tf.zeros([4])),
      tf.constant(mask),
      batches.in_stored_order(records),
      tf.constant(0.1),
      tf.constant(counts),
    )
    adjustment = _planned(model.spec, int(np.sum(mask)))
    found = adjustment.train(trainer, start)
    places = positions.smallest_code(4, int(np.sum(mask))).decode(
      found.statistics.positions
    )
    return found, places.numpy().tolist()

  def test_one_step_then_the_mask_moves(self):
    found, places = self.trained(1, [True, False, True, False])
    # 0 becomes 0.1; 2 has no gradient and goes. Of 1 and 3 the gradient is 1 and 0.
    assert places == [0, 1]
    np.testing.assert_allclose(found.statistics.values, [0.1, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found.weights.prunable, [0.1, 0, 0, 0], rtol=1e-6)

  def test_what_was_grown_trains_in_the_other_half(self):
    found, places = self.trained(2, [True, False, True, False])
    assert places == [0, 1]
    # Logits 0.2 and 0 after one step; the second is at W = [[0.1, 0], [0, 0]].
    share = 1.0 / (1.0 + np.exp(-0.2))
    wanted = [0.1 + 0.1 * 2 * (1 - share), -0.1 * 2 * (1 - share)]
    np.testing.assert_allclose(found.statistics.values, wanted, rtol=1e-5)
    assert found.metrics.examples == 2.0

  def test_of_three_steps_two_are_before(self):
    found, places = self.trained(3, [True, False, True, False])
    assert places == [0, 1]
    # Weight 0 has had three steps, weight 1 only the last.
    first = 2.0 * 0.1 * 0.5
    second = first + 0.2 * (1 - 1 / (1 + np.exp(-2 * first)))
    left = 1 - 1 / (1 + np.exp(-2 * second))
    np.testing.assert_allclose(
      found.statistics.values, [second + 0.2 * left, -0.2 * left], rtol=1e-5
    )

  def test_momentum_does_not_bring_a_dropped_weight_back(self):
    # Both active weights have momentum; the later of the equal ones goes.
    found, places = self.trained(6, [True, True, False, False], momentum=0.9)
    assert places == [0, 2]
    assert found.weights.prunable[1] == found.weights.prunable[3] == 0.0
    np.testing.assert_array_equal(
      tf.gather(found.weights.prunable, places), found.statistics.values
    )

  def test_a_dropped_weight_does_not_come_back_at_once(self):
    # 1 is dropped although its gradient is the largest of all; 2 comes with none.
    _, places = self.trained(1, [True, True, False, False])
    assert places == [0, 2]

  def test_a_count_of_zero_leaves_the_mask(self):
    _, places = self.trained(2, [True, False, True, False], counts=(0,))
    assert places == [0, 2]


def test_the_whole_model_is_adjusted_at_once():
  strategy = feddst.FedDST()
  assert strategy.granularity == "entire"
  assert feddst.ClientMaskAdjustment.replaces_weights
  config = PruningConfig(0.5, 30)
  events = strategy.plan_events(_SPEC, (2, 3), config)
  assert events == regular_events(_SPEC, (2, 3), config)
  assert all(event.grows for event in events)
  by_layer = _SPEC.with_blocks([[0], [1]])
  with pytest.raises(
    ValueError, match=r"feddst adjusts the whole model at once, got bl"
  ):
    strategy.adjustment(base.AdjustmentPlan(by_layer, 0, (1,), 0, 5))


def test_one_dense_gradient_of_a_round_and_top_pairs_are_charged():
  # 3 examples in two epochs of batches of 2: 4 steps.
  profile = ModelProfile(115, (40, 60), (1000, 600), 7, 0, 9, 0)
  workload = device_cost.Workload(3, 2, 2)
  found = feddst.FedDST().round_cost(profile, workload, (10, 30), ((0, 1),))
  forward = 2 * (250 + 300 + 7)
  extra = 2 * (750 + 300) / 4
  assert found.adjust_round_flops == pytest.approx(3 * forward + extra)
  # ceil(0.3 * 40) pairs of an index and a value.
  assert found.memory == device_cost.MemoryCost(4 * 55, 4 * 55, 4 * 40, 8 * 12)
