"""FedMef's penalty, learning rate and cost, worked out by hand."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedtiny_tff.costs import cost
from fedtiny_tff.costs.device_cost import Workload
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import activation_pruning, schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base, fedmef, fedtiny
from fedtiny_tff.strategies.adjustment import ServerModel
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support

# Layers of 4 and 6 weights in one block; two events.
_SPEC = support.spec_of_sizes(4, 6, blocks=((0, 1),))
_EVENTS = (
  schedules.AdjustmentEvent(4, 0, (1, 2)),
  schedules.AdjustmentEvent(6, 0, (0, 1)),
)
_WEIGHTS = support.floats([5, -3, 0, 4, 0.3, 0, -0.4, 2, 0, -9])
_MASK = np.array([1, 1, 0, 1, 1, 0, 1, 1, 0, 1], bool)


def _penalty(round_index, weights=_WEIGHTS, events=_EVENTS, spec=_SPEC, mask=_MASK):
  rule = fedmef.FedMef().client_penalty(spec, events)
  assert rule is not None
  return rule(tf.constant(weights), tf.constant(mask), tf.constant(round_index))


def _kernels(weights=_WEIGHTS, spec=_SPEC):
  return [tf.constant(weights[spec.slice(i)]) for i in range(len(spec.layers))]


def _gradient(penalty, kernels):
  with tf.GradientTape() as tape:
    tape.watch(kernels)
    value = penalty(kernels)
  return value.numpy(), np.concatenate(tape.gradient(value, kernels))


class TestStrength:
  def test_grows_over_the_rounds_that_lead_to_an_event(self):
    found = [fedmef.strength(_EVENTS, r) for r in range(9)]
    # Quarters up to round 4, then halves up to round 6, then nothing.
    expected = [0, 0.0025, 0.005, 0.0075, 0.01, 0.005, 0.01, 0, 0]
    assert found == pytest.approx(expected)

  def test_an_event_in_the_first_round_has_no_budget(self):
    assert fedmef.strength([schedules.AdjustmentEvent(0, 0, (1, 2))], 0) == 0

  def test_nothing_without_events(self):
    assert fedmef.strength((), 3) == 0
    assert fedmef.FedMef().client_penalty(_SPEC, ()) is None


class TestPenalty:
  def test_only_what_the_event_would_drop_has_a_gradient(self):
    value, gradient = _gradient(_penalty(2), _kernels())
    # Layer 0: -3 alone, norm 3. Layer 1: 0.3 and -0.4, norm 0.5. Factor 0.005.
    assert value == pytest.approx(0.005 * 3.5)
    expected = np.zeros(10)
    expected[1] = -0.005
    expected[4], expected[6] = 0.005 * 0.6, -0.005 * 0.8
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)

  def test_the_counts_are_those_of_the_coming_event(self):
    value, gradient = _gradient(_penalty(5), _kernels())
    # Nothing of layer 0 and only 0.3 of layer 1.
    assert value == pytest.approx(0.005 * 0.3)
    assert np.flatnonzero(gradient).tolist() == [4]

  @pytest.mark.parametrize("round_index", [0, 7, 200])
  def test_nothing_at_the_start_and_after_the_last_event(self, round_index):
    value, gradient = _gradient(_penalty(round_index), _kernels())
    assert value == 0
    assert not gradient.any()

  def test_marks_are_those_of_what_the_server_sent(self):
    penalty = _penalty(4)
    moved = _kernels(support.floats([5, -3, 0, 0.1, 7, 0, -0.4, 0.2, 0, -9]))
    value, gradient = _gradient(penalty, moved)
    assert value == pytest.approx(0.01 * (3 + np.hypot(7, 0.4)))
    assert np.flatnonzero(gradient).tolist() == [1, 4, 6]

  def test_newly_grown_weights_are_no_division_by_zero(self):
    weights = support.floats([5, 0, 0, 4, 0, 0, 0, 2, 0, -9])
    value, gradient = _gradient(_penalty(4, weights), _kernels(weights))
    assert value == pytest.approx(0, abs=1e-10)
    assert not gradient.any()

  def test_groups_of_weights_are_pushed_out_together(self):
    spec = spec_lib.PrunableSpec((spec_lib.LayerSpec("a", (4, 2), 2),), ((0,),))
    weights = support.floats([0.1, 9, 3, 4, 0, 0, 5, 5])
    mask = np.array([1, 1, 1, 1, 0, 0, 1, 1], bool)
    penalty = _penalty(1, weights, [schedules.AdjustmentEvent(1, 0, (1,))], spec, mask)
    value, gradient = _gradient(penalty, _kernels(weights, spec))
    # Norms 9.0006, 5 and 7.07.
    assert value == pytest.approx(0.01 * 5)
    np.testing.assert_allclose(gradient, [0, 0, 0.006, 0.008, 0, 0, 0, 0], rtol=1e-6)

  def test_layers_of_other_blocks_are_left_alone(self):
    spec = support.spec_of_sizes(4, 6)
    events = [schedules.AdjustmentEvent(1, 1, (2,))]
    _, gradient = _gradient(_penalty(1, spec=spec, events=events), _kernels())
    assert np.flatnonzero(gradient).tolist() == [4, 6]

  @support.quick
  @hypothesis.given(st.data())
  def test_marks_are_what_the_event_drops(self, data):
    size = data.draw(st.integers(2, 12))
    values = data.draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))
    active = data.draw(st.integers(1, size))
    mask = np.asarray(
      data.draw(st.permutations([True] * active + [False] * (size - active)))
    )
    count = data.draw(st.integers(0, min(active, size - active)))
    weights = np.where(mask, support.floats(values), np.float32(0))
    spec = support.spec_of_sizes(size)
    marked = fedmef.mark_smallest(
      tf.constant(weights), tf.constant(mask), tf.constant([count]), spec
    )[0].numpy()
    assert np.count_nonzero(marked) == count
    adjustment = fedmef.FedMef().adjustment(
      base.AdjustmentPlan(spec, 0, (count,), 0, 0)
    )
    nothing = tf.zeros([0])
    model = ServerModel(
      ModelWeights(tf.constant(weights), nothing, nothing, nothing),
      tf.constant(mask),
      (),
    )
    moved = adjustment.apply(
      model, tf.zeros([size]), tf.constant([count]), tf.constant(1)
    )
    np.testing.assert_array_equal(moved.mask.numpy() & mask, mask & ~marked)
    assert np.count_nonzero(moved.mask) == active


class TestLearningRate:
  def factors(self, scheduled, rounds=range(9)):
    strategy = fedmef.FedMef()
    return [strategy.learning_rate_factor(r, _EVENTS, scheduled) for r in rounds]

  def test_a_constant_schedule_leaves_nothing_to_raise(self):
    assert self.factors(1.0) == [1.0] * 9

  def test_raised_to_rex_of_the_first_rate(self):
    # Budget of 4: 1, 6/7, 4/6, 2/5; of 2: 1, 2/3; nothing is raised afterwards.
    rex = [1, 1, 6 / 7, 2 / 3, 0.4, 1, 2 / 3]
    assert self.factors(0.1) == pytest.approx([r / 0.1 for r in rex] + [1, 1])
    # Where the schedule has left more it stays.
    assert self.factors(0.8)[3:5] == [1.0, 1.0]
    assert self.factors(0.8)[2] == pytest.approx(6 / 7 / 0.8)

  def test_other_methods_keep_the_schedule(self):
    assert fedtiny.FedTiny().learning_rate_factor(3, _EVENTS, 0.1) == 1.0
    assert fedtiny.FedTiny().client_penalty(_SPEC, _EVENTS) is None


def test_events_move_the_whole_model_by_top_gradients():
  strategy = fedmef.FedMef()
  config = PruningConfig(0.5, 7, adjust_every_rounds=3, adjust_until_round=7)
  events = strategy.plan_events(_SPEC, (3, 4), config)
  assert [event.round_index for event in events] == [3, 6]
  assert strategy.granularity == "entire"
  assert not strategy.selects
  plan = base.AdjustmentPlan(_SPEC, 0, schedules.capacities(events, 0), 0, 0)
  assert isinstance(strategy.adjustment(plan), fedtiny.TopGradientAdjustment)


def test_starts_from_one_mask_of_the_largest_weights():
  strategy = fedmef.FedMef()
  masks = strategy.candidate_masks(
    support.pretrained(_WEIGHTS, _SPEC),
    PruningConfig(0.5, 7, layer_densities="uniform"),
  )
  assert masks.shape == (1, 10)
  assert np.flatnonzero(masks[0]).tolist() == [0, 3, 6, 7, 9]


def test_weights_for_the_plain_model_are_standardised():
  model = support.cnn()
  weights = ModelWeights(*(part.numpy() for part in support.random_weights(model)))
  mask = support.random_mask(model.spec.size, 30).numpy()
  plain = fedmef.FedMef().plain_weights(model.spec, weights, mask)
  np.testing.assert_array_equal(
    plain.prunable,
    activation_pruning.standardise_convolutions(weights.prunable, mask, model.spec),
  )
  assert plain[1:] == weights[1:]
  assert fedtiny.FedTiny().plain_weights(model.spec, weights, mask) is weights


class TestCost:
  PROFILE = ModelProfile(
    115, (40, 60), (1000, 100), 5, 0, 70, 0, convolution_inputs=(10, 20)
  )
  WORKLOAD = Workload(3, 2, 2)
  BLOCKS = ((0, 1),)

  def test_by_hand(self):
    paid = fedmef.FedMef().round_cost(
      self.PROFILE, self.WORKLOAD, (20, 31), self.BLOCKS
    )
    other = cost.top_gradient_cost(self.PROFILE, self.WORKLOAD, (20, 31), self.BLOCKS)
    # ceil(0.3 * 51) = 16 pairs; a bit for each of 51 weights.
    assert paid.memory.buffer_bytes == 8 * 16 + 7
    assert paid.memory_bytes == other.memory_bytes + 7
    # Two examples: 140 values, of which 20 are stored as 6, a scale and 20 bits, and
    # 40 as 12, a scale and 40 bits.
    assert other.activation_bytes == 4 * 140
    assert paid.activation_bytes == 4 * (140 - 60) + (4 * 7 + 3) + (4 * 13 + 5)
    assert paid.adjust_round_flops == other.adjust_round_flops
    # A batch is no larger than the device's examples.
    for batch_size in (3, 64):
      load = Workload(3, 2, batch_size)
      paid = fedmef.FedMef().round_cost(self.PROFILE, load, (20, 31), self.BLOCKS)
      assert paid.activation_bytes == 4 * (210 - 90) + (4 * 10 + 4) + (4 * 19 + 8)

  def test_models_without_such_convolutions_keep_every_activation(self):
    profile = ModelProfile(115, (40, 60), (1000, 100), 5, 0, 70, 0)
    paid = fedmef.FedMef().round_cost(profile, self.WORKLOAD, (20, 31), self.BLOCKS)
    assert paid.activation_bytes == 4 * 140
