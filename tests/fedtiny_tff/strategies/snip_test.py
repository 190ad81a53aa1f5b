"""SNIP's scores by hand and against plain Keras; what it needs and what it leaves."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import densities
from fedtiny_tff.strategies import base, snip
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support

layers = tf.keras.layers


def _arrays(weights):
  return ModelWeights(*(np.asarray(vector) for vector in weights))


def _start(model_definition, public, weights=None):
  if weights is None:
    weights = tfmot_masking.initial_weights(model_definition, 1)
  return base.Pretrained(model_definition, _arrays(weights), public)


def _linear(kernel, inputs, labels):
  nothing = np.zeros([0], np.float32)
  weights = ModelWeights(support.floats(kernel), nothing, nothing, nothing)
  public = (support.floats(inputs), np.asarray(labels, np.int64))
  return _start(support.linear(), public, weights)


def _scores(start, mask=None):
  mask = np.ones(start.definition.spec.size, bool) if mask is None else mask
  return snip._Sensitivity(start).scores(mask)


def _mask(start, density):
  masks = snip.SNIP().candidate_masks(start, PruningConfig(density, 3))
  assert masks.shape == (1, start.definition.spec.size)
  return masks[0]


def _reference(start, mask, batches, training):
  """|weight * gradient| of the mean loss, with plain Keras."""
  model = support.plain_model(start.definition, start.weights, mask)
  kernels = [model.get_layer(x.name).kernel for x in start.definition.spec.layers]
  total = np.zeros(start.definition.spec.size)
  for chosen in batches:
    with tf.GradientTape() as tape:
      outputs = model(start.public[0][chosen], training=training)
      loss = tf.keras.losses.sparse_categorical_crossentropy(
        start.public[1][chosen], outputs, from_logits=True
      )
      loss = tf.reduce_sum(loss)
    gradients = tape.gradient(loss, kernels)
    total += np.concatenate([g.numpy().ravel() for g in gradients])
  return np.abs(start.weights.prunable * mask * total) / len(start.public[1])


# Weights [[3, -1], [2, 0.5]] and one example (1, 2) of class 0: logits 7 and 0.
_HAND = ([3, -1, 2, 0.5], [[1, 2]], [0])


def test_scores_by_hand():
  # Of the wrong class the model gives q; dL/dlogits is (-q, q).
  q = 1 / (1 + np.exp(7))
  expected = np.array([3 * 1, 1 * 1, 2 * 2, 0.5 * 2]) * q
  np.testing.assert_allclose(_scores(_linear(*_HAND)), expected, rtol=1e-3)


def test_scores_of_the_masked_model_by_hand():
  mask = np.array([True, True, False, True])
  # Logits 3 and 0; the pruned weight has no score.
  q = 1 / (1 + np.exp(3))
  expected = np.array([3, 1, 0, 1]) * q
  np.testing.assert_allclose(_scores(_linear(*_HAND), mask), expected, rtol=1e-5)


def test_what_matters_to_the_loss_is_kept_and_not_what_is_large():
  # 4q of the weight 2, before 3q of the weight 3.
  assert _mask(_linear(*_HAND), 0.25).tolist() == [False, False, True, False]
  assert _mask(_linear(*_HAND), 0.5).tolist() == [True, False, True, False]


def test_the_loss_is_the_mean_over_the_samples():
  # Gradients of the second example are those of the first with the classes swapped:
  # what raises one loss lowers the other, and nothing is left of either.
  start = _linear([1, 1, 1, 1], [[1, 2], [1, 2]], [0, 1])
  np.testing.assert_allclose(_scores(start), np.zeros(4), atol=1e-7)
  alone = _linear([1, 1, 1, 1], [[1, 2]], [0])
  np.testing.assert_allclose(_scores(alone), [0.5, 0.5, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("count", [64, 65, 130])
def test_mini_batches_add_up(count):
  generator = np.random.default_rng(count)
  inputs, labels = generator.normal(size=(count, 2)), generator.integers(0, 2, count)
  start = _linear([0.3, -0.2, 0.5, 0.1], inputs, labels)
  everything = _reference(start, np.ones(4, bool), [np.arange(count)], False)
  np.testing.assert_allclose(_scores(start), everything, rtol=1e-4, atol=1e-7)


class TestBatchNorm:
  def test_normalises_with_the_statistics_of_its_mini_batch(self):
    cnn = support.cnn()
    start = _start(cnn, support.random_images(12), support.random_weights(cnn))
    for mask in (np.ones(63, bool), support.random_mask(63, 30).numpy()):
      expected = _reference(start, mask, [np.arange(12)], training=True)
      np.testing.assert_allclose(_scores(start, mask), expected, rtol=1e-3, atol=1e-6)
      inference = _reference(start, mask, [np.arange(12)], training=False)
      assert not np.allclose(expected, inference, rtol=0.1)

  def test_no_mini_batch_is_of_one_sample(self):
    cnn = support.cnn()
    start = _start(cnn, support.random_images(65), support.random_weights(cnn))
    batches = [np.arange(33), np.arange(33, 65)]
    expected = _reference(start, np.ones(63, bool), batches, training=True)
    np.testing.assert_allclose(_scores(start), expected, rtol=1e-3, atol=1e-6)

  def test_scores_change_no_weight(self):
    cnn = support.cnn()
    start = _start(cnn, support.random_images(8), support.random_weights(cnn))
    before = [vector.copy() for vector in start.weights]
    scored = snip._Sensitivity(start)
    first = scored.scores(np.ones(63, bool))
    scored.scores(support.random_mask(63, 9).numpy())
    # Nor do running statistics drift into what comes later.
    np.testing.assert_array_equal(scored.scores(np.ones(63, bool)), first)
    for vector, old in zip(start.weights, before, strict=True):
      np.testing.assert_array_equal(vector, old)


def _build_with_dropout():
  inputs = layers.Input((4, 4, 1))
  x = layers.Flatten(name="flatten")(inputs)
  x = layers.Dense(8, activation="relu", kernel_regularizer="l2", name="hidden")(x)
  x = layers.GaussianNoise(1.0, name="noise")(layers.Dropout(0.5, name="drop")(x))
  return tf.keras.Model(inputs, layers.Dense(3, name="logits")(x))


def test_nothing_is_drawn_and_penalties_have_no_say():
  noisy = definition.define_model("noisy", _build_with_dropout)
  start = _start(noisy, support.random_images(6))
  everything = np.ones(noisy.spec.size, bool)
  expected = _reference(start, everything, [np.arange(6)], training=False)
  np.testing.assert_allclose(_scores(start), expected, rtol=1e-4, atol=1e-7)


def _dead_branch():
  inputs = layers.Input((4, 4, 1))
  x = layers.Flatten(name="flatten")(inputs)
  dead = layers.Dense(3, activation="relu", bias_initializer="zeros", name="dead")(x)
  dead = layers.ReLU(negative_slope=0.0, threshold=1e9, name="never")(dead)
  logits = layers.Dense(3, name="logits")(x)
  return tf.keras.Model(inputs, layers.Add(name="sum")([logits, dead]))


def test_a_layer_without_any_gradient_keeps_a_weight():
  dead = definition.define_model("dead", _dead_branch)
  mask = _mask(_start(dead, support.random_images(9)), 0.25)
  assert dead.spec.active_counts(mask) == (1, 24 - 1)
  assert mask[0]


def test_a_reconstruction_is_scored_by_its_own_loss():
  wanted = registry.get_model("autoencoder", (12,), width=0.1)
  public = (np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32),)
  start = _start(wanted, (*public, np.zeros([20], np.int64)))
  mask = _mask(start, 0.1)
  assert mask.sum() == densities.total_count(wanted.spec, 0.1)
  assert min(wanted.spec.active_counts(mask)) >= 1
  assert _scores(start).any()
  other = _start(wanted, (public[0] + 1.0, np.zeros([20], np.int64)))
  assert not np.array_equal(_mask(other, 0.1), mask)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("block", [1, 3])
def test_density_is_exact_in_whole_groups(density, block):
  grouped = support.blocked_cnn(block)
  start = _start(grouped, support.random_images(10))
  mask = _mask(start, density)
  assert mask.sum() == densities.total_count(grouped.spec, density)
  assert set(mask.reshape(-1, block).sum(axis=1)) == {0, block}
  np.testing.assert_array_equal(mask, _mask(start, density))


def test_without_public_samples_it_says_how_to_get_some():
  start = _linear([1, 2, 3, 4], np.zeros([0, 2]), [])
  with pytest.raises(
    InputError,
    match=r"^strategy snip .* by --public_samples_per_class or public=$",
  ) as error:
    snip.SNIP().candidate_masks(start, PruningConfig(0.5, 3))
  assert "\n" not in str(error.value)
