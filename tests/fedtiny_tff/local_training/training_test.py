"""Local training against loops written out in plain TensorFlow and NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.local_training.optimizers import OptimizerConfig
from fedtiny_tff.local_training.training import TrainingConfig
from fedtiny_tff.model_structure import definition
from tests.fedtiny_tff import support
from tests.fedtiny_tff.local_training.training_cases import (
  BATCH,
  RATE,
  assert_same_weights,
  config_of,
  examples,
  make_case,
  reference_loop,
  seen_gradients,
  softmax,
)


@pytest.fixture(name="case", scope="module")
def fixture_case():
  return make_case()


def test_one_step_by_hand():
  """Checks logits = x W, gradient x^T (p - y) / n, W -= 0.1 * gradient * mask."""
  x = support.floats([[1.0, 2.0], [-1.0, 0.5]])
  labels = np.array([0, 1])
  kernel = support.floats([[0.5, -0.2], [0.3, 0.0]])
  keep = np.array([[True, True], [True, False]])
  probability = softmax(x @ kernel)
  wanted = np.eye(2)[labels]
  gradient = x.T @ (probability - wanted) / 2
  expected = kernel - 0.1 * gradient * keep
  records, _ = support.labelled_records(x, labels)
  config = TrainingConfig(OptimizerConfig("sgd", 0.1, 0.9), 1, 2)
  trainer = training.LocalTrainer(support.linear(), config, support.decode_vectors)
  start = support.random_weights(support.linear())._replace(
    prunable=tf.constant(kernel.reshape(-1))
  )
  weights, metrics, seen = trainer.train_with_statistics(
    start, tf.constant(keep.reshape(-1)), batches.in_stored_order(records),
    tf.constant(0.1), seen_gradients,
  )  # fmt: skip
  np.testing.assert_allclose(weights.prunable, expected.reshape(-1), rtol=1e-5)
  assert weights.prunable[3] == 0.0
  # The statistics see the dense gradient, also where the weight is pruned.
  np.testing.assert_allclose(seen.gradients, gradient.reshape(-1), rtol=1e-5)
  loss = -np.log(probability[[0, 1], labels]).sum()
  np.testing.assert_allclose(metrics.loss_sum, loss, rtol=1e-5)
  assert metrics.examples == 2.0


def test_training_equals_a_hand_written_loop(case):
  model, features, labels, records, order, start, mask, trainer = case
  plain, loss_sum, hits, _ = reference_loop(model, features, labels, order, start, mask)
  weights, metrics = trainer.train(
    start, mask, examples(records, order), tf.constant(RATE)
  )
  assert_same_weights(weights, plain, model)
  np.testing.assert_allclose(metrics.loss_sum, loss_sum, rtol=1e-4)
  assert metrics.correct == hits
  # Ten examples, seen twice.
  assert metrics.examples == 20.0
  # Pruned weights are exactly zero, active ones have moved.
  assert not np.count_nonzero(weights.prunable.numpy()[~mask.numpy()])
  moved = weights.prunable.numpy() != start.prunable.numpy()
  assert moved[mask.numpy()].all()


def test_a_penalty_adds_its_gradient_and_leaves_the_metrics(case):
  model, features, labels, _, _, start, mask, trainer = case

  def penalty(kernels):
    first, second = kernels
    return 0.5 * tf.reduce_sum(tf.square(first)) + 3.0 * tf.reduce_sum(second)

  penalised = training.LocalTrainer(
    model, config_of(), support.decode_images, penalty=penalty
  )
  found = []
  for each in (trainer, penalised):
    each.start(start, mask, tf.constant(RATE))
    found.append(
      tf.function(each.gradients)(tf.constant(features), tf.constant(labels))
    )
  (plain, metrics), (with_penalty, same) = found
  masked = np.where(mask, start.prunable, 0.0)
  differences = [
    b.numpy() - a.numpy() for a, b in zip(plain, with_penalty, strict=True)
  ]
  np.testing.assert_allclose(differences[0].reshape(-1), masked[:54], atol=1e-5)
  np.testing.assert_allclose(differences[1], np.full((3, 3), 3.0), atol=1e-5)
  for difference in differences[2:]:
    np.testing.assert_allclose(difference, np.zeros_like(difference), atol=1e-6)
  np.testing.assert_allclose(metrics, same, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_optimizers_state_is_new_in_every_call(case, name):
  model, _, _, records, order, start, mask, _ = case
  trainer = training.LocalTrainer(model, config_of(name), support.decode_images)
  arguments = (start, mask, examples(records, order), tf.constant(0.05))
  first, _ = trainer.train(*arguments)
  second, _ = trainer.train(*arguments)
  third, _, _ = trainer.train_with_statistics(*arguments, seen_gradients)
  for a, b, c in zip(first, second, third, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-6)


def test_no_optimizer_state_grows_at_pruned_positions(case):
  *_, records, order, start, mask, trainer = case
  trainer.train(start, mask, examples(records, order), tf.constant(RATE))
  # Masked weights alone would not show it, so this looks inside.
  momenta = trainer._optimizer.momentums[: len(trainer._masked.kernels)]
  flat = np.concatenate([m.numpy().reshape(-1) for m in momenta])
  assert not flat[~mask.numpy()].any()
  assert flat[mask.numpy()].all()


def test_the_learning_rate_of_the_call_counts(case):
  *_, records, order, start, mask, trainer = case
  still, _ = trainer.train(start, mask, examples(records, order), tf.constant(0.0))
  np.testing.assert_array_equal(still.prunable, np.where(mask, start.prunable, 0.0))
  np.testing.assert_array_equal(still.dense, start.dense)
  # Batch norm has seen the data all the same.
  assert (still.batch_norm_mean.numpy() != start.batch_norm_mean.numpy()).any()


def test_no_record_trains_nothing(case):
  *_, records, _, start, mask, trainer = case
  order = tf.zeros([2, 0], tf.int32)
  weights, metrics = trainer.train(
    start, mask, examples(records[:0], order), tf.constant(RATE)
  )
  np.testing.assert_array_equal(weights.dense, start.dense)
  assert [float(m) for m in metrics] == [0.0, 0.0, 0.0]


def test_a_models_own_losses_are_trained_on():
  def build():
    inputs = tf.keras.Input((2,))
    outputs = tf.keras.layers.Dense(
      2, use_bias=False, name="logits",
      kernel_regularizer=tf.keras.regularizers.L2(0.5),
    )(inputs)  # fmt: skip
    return tf.keras.Model(inputs, outputs)

  model = definition.define_model("regularised", build)
  trainer = training.LocalTrainer(
    model,
    TrainingConfig(OptimizerConfig("sgd", 0.1, 0.0), 1, 2),
    support.decode_vectors,
  )
  # Inputs of zero: the cross-entropy has no gradient; 0.5 w^2 has w.
  records, _ = support.labelled_records(np.zeros([2, 2], np.float32), np.array([0, 1]))
  start = support.random_weights(model)._replace(prunable=tf.constant([1.0, 2, 3, 4]))
  weights, metrics = trainer.train(
    start, tf.constant([True, True, False, True]), batches.in_stored_order(records),
    tf.constant(0.1),
  )  # fmt: skip
  np.testing.assert_allclose(weights.prunable, [0.9, 1.8, 0.0, 3.6], rtol=1e-6)
  # The reported loss is the cross-entropy alone: 2 ln 2.
  np.testing.assert_allclose(metrics.loss_sum, 2 * np.log(2), rtol=1e-6)


def test_metrics_add_up():
  one = tasks.Metrics(tf.constant(1.5), tf.constant(2.0), tf.constant(3.0))
  total = training.add_metrics(training.add_metrics(training.zero_metrics(), one), one)
  assert [float(m) for m in total] == [3.0, 4.0, 6.0]


def test_evaluation_uses_running_statistics_whatever_the_batch_size(case):
  model, features, labels, records, _, start, mask, _ = case
  plain = support.plain_model(model, start, mask)
  logits = plain(features, training=False).numpy()
  losses = -np.log(softmax(logits)[np.arange(10), labels])
  hits = (logits.argmax(1) == labels).sum()
  for size in (1, 3, 10, 64):
    evaluator = training.Evaluator(model, support.decode_images, size)
    metrics = evaluator.evaluate(start, mask, records)
    np.testing.assert_allclose(metrics.loss_sum, losses.sum(), rtol=1e-4)
    assert metrics.correct == hits
    assert metrics.examples == 10.0


def test_evaluation_of_nothing_is_zero(case):
  model, _, _, records, _, start, mask, _ = case
  evaluator = training.Evaluator(model, support.decode_images, 4)
  metrics = evaluator.evaluate(start, mask, records[:0])
  assert [float(m) for m in metrics] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("field", ["local_epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_one_are_refused(field, value):
  with pytest.raises(ValueError, match=f"{field} must be at least 1, got {value}"):
    TrainingConfig(OptimizerConfig(), **{field: value})


def test_gradients_are_masked_then_clipped_then_decayed(case):
  model, features, labels, records, _, start, mask, _ = case
  order = tf.constant([[5, 0]])
  *_, last = reference_loop(model, features, labels, order, start, mask)
  optimizer = OptimizerConfig("sgd", RATE, 0.0, weight_decay=0.01, clip_norm=1e-3)
  config = TrainingConfig(optimizer, 1, BATCH)
  trainer = training.LocalTrainer(model, config, support.decode_images)
  weights, _ = trainer.train(start, mask, examples(records, order), tf.constant(RATE))
  # The clipped gradient is at most 1e-3 long, so the decay explains the rest.
  moved = (weights.prunable - start.prunable * (1 - RATE * 0.01)).numpy()
  assert 0.0 < np.linalg.norm(moved[mask.numpy()]) <= RATE * 1e-3 * 1.01
  # In the direction of the masked gradient.
  direction = -moved[mask.numpy()] @ last[mask.numpy()]
  assert direction > 0.99 * np.linalg.norm(moved[mask.numpy()]) * np.linalg.norm(
    last[mask.numpy()]
  )


def test_augmentation_follows_the_seed(case):
  model, _, _, records, order, start, mask, _ = case
  config = dataclasses.replace(config_of(), augmentations=("crop", "flip"))
  trainer = training.LocalTrainer(model, config, support.decode_images)

  def losses(*seed):
    examples = batches.Examples(records, order, tf.constant(seed, tf.int32))
    return float(trainer.train(start, mask, examples, tf.constant(0.0))[1].loss_sum)

  assert losses(1, 2) == losses(1, 2)
  assert losses(1, 2) != losses(1, 3)


def test_an_unknown_augmentation_is_refused():
  with pytest.raises(ValueError, match="augmentations must be of crop, flip, cutout"):
    TrainingConfig(OptimizerConfig(), augmentations=("crop", "blur"))


def test_bfloat16_computes_in_bfloat16_and_keeps_float32(case):
  model, _, _, records, order, start, mask, trainer = case
  config = dataclasses.replace(config_of(), compute_dtype="bfloat16")
  other = training.LocalTrainer(model, config, support.decode_images)
  arguments = (start, mask, examples(records, order), tf.constant(RATE))
  weights, metrics = other.train(*arguments)
  exact, exact_metrics = trainer.train(*arguments)
  assert {vector.dtype for vector in weights} == {tf.float32}
  assert metrics.loss_sum.dtype == tf.float32
  moved = np.abs(exact.prunable.numpy() - start.prunable.numpy() * mask.numpy()).max()
  error = np.abs(weights.prunable.numpy() - exact.prunable.numpy()).max()
  # Rounded to 8 bits at every layer, and yet the same training.
  assert 0.0 < error < 0.2 * moved
  assert float(metrics.loss_sum) == pytest.approx(
    float(exact_metrics.loss_sum), rel=0.02
  )
  assert not np.count_nonzero(weights.prunable.numpy()[~mask.numpy()])


def test_an_unknown_compute_dtype_is_refused():
  with pytest.raises(ValueError, match="float32, bfloat16, got 'auto'"):
    dataclasses.replace(config_of(), compute_dtype="auto")
