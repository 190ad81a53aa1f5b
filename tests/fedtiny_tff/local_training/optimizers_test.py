"""Client optimisers: steps worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.local_training import optimizers
from fedtiny_tff.local_training.optimizers import OptimizerConfig


def _run(config, gradients, start=2.0):
  optimizer = optimizers.build_optimizer(config)
  weight = tf.Variable([start])
  values = []
  for gradient in gradients:
    optimizer.apply_gradients([(tf.constant([gradient]), weight)])
    values.append(float(weight[0]))
  return values


def test_sgd_with_momentum():
  config = OptimizerConfig("sgd", learning_rate=0.1, momentum=0.5)
  # m = 0.5 m - 0.1 g: -0.1, then -0.05 - 0.2 = -0.25.
  np.testing.assert_allclose(_run(config, [1.0, 2.0]), [1.9, 1.65], rtol=1e-6)


def test_sgd_without_momentum():
  config = OptimizerConfig("sgd", learning_rate=0.1, momentum=0.0)
  np.testing.assert_allclose(_run(config, [1.0, 2.0]), [1.9, 1.7], rtol=1e-6)


def test_adam_moves_by_the_learning_rate_at_first():
  config = OptimizerConfig("adam", learning_rate=0.1)
  # m / (1 - b1) = g and v / (1 - b2) = g^2: the step is the rate, whatever g.
  np.testing.assert_allclose(_run(config, [7.0]), [1.9], rtol=1e-5)
  np.testing.assert_allclose(_run(config, [-0.5]), [2.1], rtol=1e-5)


def test_the_decay_of_adamw_is_decoupled_and_scaled_by_the_rate():
  config = OptimizerConfig("adamw", learning_rate=0.1, weight_decay=0.5)
  # No gradient, so only the decay acts: 2 - 0.1 * 0.5 * 2, then 1.9 * 0.95.
  np.testing.assert_allclose(_run(config, [0.0, 0.0]), [1.9, 1.805], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_decay_of_the_others_is_part_of_the_gradient(name):
  config = OptimizerConfig(name, weight_decay=0.5)
  assert config.l2_penalty == 0.5
  # 0.1 + 0.5 * 2.
  prepared = optimizers.prepare_gradients(
    config, [tf.constant(0.1)], [tf.Variable(2.0)]
  )
  np.testing.assert_allclose(prepared, [1.1], rtol=1e-6)
  assert OptimizerConfig("adamw", weight_decay=0.5).l2_penalty == 0.0


def test_gradients_are_clipped_together_before_the_decay():
  config = OptimizerConfig(weight_decay=0.5, clip_norm=1.0)
  gradients = [tf.constant([3.0]), tf.constant([4.0])]
  variables = [tf.Variable([2.0]), tf.Variable([0.0])]
  # Norm 5: divided by 5; then 0.6 + 0.5 * 2.
  prepared = optimizers.prepare_gradients(config, gradients, variables)
  np.testing.assert_allclose(np.concatenate(prepared), [1.6, 0.8], rtol=1e-6)
  small = optimizers.prepare_gradients(
    OptimizerConfig(clip_norm=9.0), gradients, variables
  )
  np.testing.assert_allclose(np.concatenate(small), [3.0, 4.0], rtol=1e-6)


def test_the_table_names_three():
  assert set(optimizers.OPTIMIZERS) == {"sgd", "adam", "adamw"}


def test_an_unknown_name_is_refused():
  with pytest.raises(
    ValueError, match="must be one of sgd, adam, adamw, got 'rmsprop'"
  ):
    OptimizerConfig("rmsprop")


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan")])
def test_a_rate_must_be_positive(rate):
  with pytest.raises(ValueError, match=f"learning rate must be positive, got {rate}"):
    OptimizerConfig(learning_rate=rate)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_momentum_must_be_below_one(momentum):
  message = rf"momentum must be in \[0, 1\), got {momentum}"
  with pytest.raises(ValueError, match=message):
    OptimizerConfig(momentum=momentum)


@pytest.mark.parametrize("decay", [-0.1, float("nan")])
def test_decay_must_not_be_negative(decay):
  with pytest.raises(ValueError, match=f"weight decay must be at least 0, got {decay}"):
    OptimizerConfig(weight_decay=decay)
  with pytest.raises(ValueError, match=f"clip norm must be at least 0, got {decay}"):
    OptimizerConfig(clip_norm=decay)
