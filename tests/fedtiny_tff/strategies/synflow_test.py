"""SynFlow's scores by hand, its conservation law, and models that are hard on it."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import densities
from fedtiny_tff.strategies import base, synflow
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support

layers = tf.keras.layers


def _start(model_definition, weights=None, shape=(4, 4, 1)):
  if weights is None:
    weights = tfmot_masking.initial_weights(model_definition, 1)
  arrays = ModelWeights(*(np.array(vector) for vector in weights))
  public = (np.zeros([0, *shape], np.float32), np.zeros([0], np.int64))
  return base.Pretrained(model_definition, arrays, public)


def _scores(start, mask=None):
  mask = np.ones(start.definition.spec.size, bool) if mask is None else mask
  return synflow._SynapticFlow(start).scores(mask)


def _mask(start, density):
  masks = synflow.SynFlow().candidate_masks(start, PruningConfig(density, 3))
  assert masks.shape == (1, start.definition.spec.size)
  return masks[0]


def _chain(*units, inputs=2, bias=False):
  """Dense layers, ReLU between them."""

  def build():
    image = layers.Input((inputs,))
    x = image
    for number, size in enumerate(units):
      x = layers.Dense(size, use_bias=bias, name=f"dense{number}")(x)
      if number < len(units) - 1:
        x = layers.ReLU(name=f"relu{number}")(x)
    return tf.keras.Model(image, x)

  return definition.define_model("chain", build)


def _chained(*kernels, inputs=2):
  """A chain of these kernels, one output column after the other."""
  prunable = np.concatenate([np.ravel(kernel) for kernel in kernels])
  nothing = np.zeros([0], np.float32)
  units = [np.shape(kernel)[1] for kernel in kernels]
  weights = ModelWeights(support.floats(prunable), nothing, nothing, nothing)
  return _start(_chain(*units, inputs=inputs), weights)


# Of an input of ones the hidden values are 4 and 6, the output 4*5 + 6*6 = 56.
_HAND = ([[1, -2], [3, 4]], [[5], [-6]])


def test_scores_by_hand():
  expected = [1 * 5, 2 * 6, 3 * 5, 4 * 6, 4 * 5, 6 * 6]
  np.testing.assert_array_equal(_scores(_chained(*_HAND)), expected)


def test_scores_of_the_masked_model_by_hand():
  # Without the 4 the second hidden value is 2.
  mask = np.array([True, True, True, False, True, True])
  expected = [5, 12, 15, 0, 20, 2 * 6]
  np.testing.assert_array_equal(_scores(_chained(*_HAND), mask), expected)


def test_scores_are_taken_anew_in_every_step():
  # Half of six weights by way of 5 and 4. First the score of 5 goes: flows are then 12,
  # 15, 24 and 15, 36; the 12 goes: 15, 24 and 15, 24. Of the two of 15 the first is
  # kept. At once, 24, 20 and 36 would be.
  mask = _mask(_chained(*_HAND), 0.5)
  assert np.flatnonzero(mask).tolist() == [2, 3, 5]


def _by_layer(start, scores):
  spec = start.definition.spec
  return [scores[spec.slice(i)].sum() for i in range(len(spec.layers))]


@pytest.mark.parametrize("active", [63, 30])
def test_every_layer_carries_the_same_flow(active):
  # The paper's theorem; biases, shifts and statistics would break it.
  start = _start(support.cnn(), support.random_weights(support.cnn()))
  first, second = _by_layer(
    start, _scores(start, support.random_mask(63, active).numpy())
  )
  assert first > 0
  np.testing.assert_allclose(first, second, rtol=1e-12)


def test_biases_carry_no_flow():
  plain = _chained(*_HAND)
  biases = support.floats([100, -100, 100])
  model = _chain(2, 1, bias=True)
  biased = _start(model, plain.weights._replace(dense=biases))
  np.testing.assert_array_equal(_scores(biased), _scores(plain))


def test_only_magnitudes_and_scales_have_a_say():
  cnn = support.cnn()
  weights = support.random_weights(cnn)
  expected = _scores(_start(cnn, weights))
  other = weights._replace(
    prunable=-weights.prunable,
    batch_norm_mean=weights.batch_norm_mean + 7.0,
    batch_norm_variance=weights.batch_norm_variance * 9.0,
  )
  np.testing.assert_array_equal(_scores(_start(cnn, other)), expected)
  scaled = weights._replace(dense=weights.dense * 2.0)
  assert not np.allclose(_scores(_start(cnn, scaled)), expected)


def _bounded(activation):
  def build():
    inputs = layers.Input((4, 4, 1))
    x = layers.Conv2D(3, 3, name="stem")(inputs)
    x = layers.Activation(activation, name="first")(x)
    x = layers.Conv2D(3, 2, activation=activation, name="conv")(x)
    x = layers.ReLU(6.0, name="limited")(x)
    x = layers.Flatten(name="flatten")(x)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

  return definition.define_model("bounded", build)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu6"])
def test_activations_that_end_somewhere_block_nothing(activation):
  found = []
  for name in (activation, "linear"):
    start = _start(_bounded(name))
    strong = start.weights._replace(dense=start.weights.dense * 1000.0)
    found.append(_scores(_start(start.definition, strong)))
  np.testing.assert_array_equal(*found)
  assert (found[0] > 0).all()


@pytest.mark.parametrize("weight", [10.0, 1e-4])
def test_deep_models_leave_float32_and_no_number_is_lost(weight):
  # 30 layers of 64 units: flows of about 640^30 = 1e84, or 0.0064^30 = 1e-66.
  generator = np.random.default_rng(0)
  shapes = [(64, 64)] * 30
  kernels = [weight * generator.uniform(0.5, 1.5, shape) for shape in shapes]
  start = _chained(*kernels, inputs=64)
  scores = _scores(start)
  assert np.isfinite(scores).all()
  assert (scores > 0).all()
  flows = _by_layer(start, scores)
  assert flows[0] > 1e80 or flows[0] < 1e-60
  np.testing.assert_allclose(flows, flows[0], rtol=1e-9)
  mask = _mask(start, 0.02)
  assert mask.sum() == densities.total_count(start.definition.spec, 0.02)
  # Every layer has a share: nothing is cut through.
  assert min(start.definition.spec.active_counts(mask)) > 1


def test_a_flow_beyond_float64_is_refused():
  start = _chained(*[np.full((64, 64), 1e10)] * 30, inputs=64)
  message = "^strategy synflow: the flow through model 'chain' is not finite; choose"
  with pytest.raises(InputError, match=message):
    _mask(start, 0.5)


def test_a_model_without_flow_is_refused():
  start = _chained([[1.0, 1.0]] * 2, [[0.0], [0.0]])
  with pytest.raises(InputError, match="'chain' never reaches its outputs; choose"):
    _mask(start, 0.5)


def test_a_layer_of_little_flow_keeps_a_weight():
  # The other branch carries a thousand times as much.
  def build():
    inputs = layers.Input((4,))
    x = layers.Dense(4, use_bias=False, name="strong")(inputs)
    y = layers.Dense(4, use_bias=False, name="weak")(inputs)
    return tf.keras.Model(inputs, layers.Add(name="sum")([x, y]))

  branches = definition.define_model("branches", build)
  nothing = np.zeros([0], np.float32)
  prunable = np.repeat(support.floats([1000, 1]), 16)
  weights = ModelWeights(prunable, nothing, nothing, nothing)
  mask = _mask(_start(branches, weights, (4,)), 0.5)
  assert branches.spec.active_counts(mask) == (15, 1)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("block", [1, 3])
def test_density_is_exact_in_whole_groups(density, block):
  grouped = support.blocked_cnn(block)
  mask = _mask(_start(grouped), density)
  assert mask.sum() == densities.total_count(grouped.spec, density)
  assert set(mask.reshape(-1, block).sum(axis=1)) == {0, block}


def test_a_reconstruction_needs_nothing_of_its_own():
  wanted = registry.get_model("autoencoder", (12,), width=0.1)
  start = _start(wanted, shape=(12,))
  flows = _by_layer(start, _scores(start))
  np.testing.assert_allclose(flows, flows[0], rtol=1e-9)
  assert _mask(start, 0.2).sum() == densities.total_count(wanted.spec, 0.2)


def test_residual_networks_have_flow_in_every_layer():
  model = registry.get_model("resnet18", (8, 8, 3), 10, 0.125)
  start = _start(model, shape=(8, 8, 3))
  scores = _scores(start)
  assert np.isfinite(scores).all()
  assert min(_by_layer(start, scores)) > 0
