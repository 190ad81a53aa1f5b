"""Local training against loops written out in plain TensorFlow and NumPy."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import batches, tasks, training
from fedtiny_tff.models import definition
from fedtiny_tff.optimizers import OptimizerConfig
from fedtiny_tff.training import TrainingConfig
from tests.fedtiny_tff import support

_RATE, _MOMENTUM, _BATCH = 0.1, 0.9, 4


class Seen(NamedTuple):
  """Dense gradients, as a strategy would see them."""

  gradients: tf.Tensor


def _keep(gradients):
  return Seen(tf.concat(list(gradients), 0))


def _examples(records, order):
  return batches.Examples(records, order, tf.constant([6, 7], tf.int32))


def _config(name="sgd", epochs=2):
  return TrainingConfig(
    OptimizerConfig(name, _RATE, _MOMENTUM), local_epochs=epochs, batch_size=_BATCH
  )


@pytest.fixture(name="case", scope="module")
def _case():
  """Ten images in batches of 4, 4, 2; two epochs; 25 of 63 weights active."""
  model = support.cnn()
  features, labels = support.random_images(10, seed=1)
  records, _ = support.labelled_records(features, labels)
  order = batches.shuffled_order(tf.constant(10), 2, tf.constant([1, 2], tf.int32))
  start = support.random_weights(model, seed=3)
  mask = support.random_mask(model.spec.size, 25, seed=4)
  trainer = training.LocalTrainer(model, _config(), support.decode_images)
  return model, features, labels, records, order, start, mask, trainer


def _softmax(logits):
  shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
  return shifted / shifted.sum(axis=1, keepdims=True)


def _reference_loop(model, features, labels, order, start, mask):
  """Trains a plain Keras model by hand-written masked SGD with momentum.

  Returns (model, summed loss, hits, kernel gradient of the last batch).
  """
  plain = support.plain_model(model, start, mask)
  masks = model.spec.masks_by_layer(np.asarray(mask))
  variables = plain.trainable_variables
  by_id = {id(plain.get_layer(n).kernel): m for n, m in masks.items()}
  velocities = [np.zeros(v.shape, np.float32) for v in variables]
  loss_sum, hits, last = 0.0, 0, None
  for epoch in np.asarray(order):
    for first in range(0, len(epoch), _BATCH):
      chosen = epoch[first : first + _BATCH]
      with tf.GradientTape() as tape:
        logits = plain(features[chosen], training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[chosen], logits)
        loss = tf.reduce_mean(losses)
      gradients = tape.gradient(loss, variables)
      named = dict(zip([id(v) for v in variables], gradients, strict=True))
      last = np.concatenate(
        [named[id(plain.get_layer(n).kernel)].numpy().reshape(-1) for n in masks]
      )
      for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        masked = gradient.numpy() * by_id.get(id(variable), 1.0)
        velocities[i] = _MOMENTUM * velocities[i] - _RATE * masked
        variable.assign_add(velocities[i])
      loss_sum += float(tf.reduce_sum(losses))
      hits += int((logits.numpy().argmax(1) == labels[chosen]).sum())
  return plain, loss_sum, hits, last


def _assert_same_weights(weights, plain, model):
  names = [layer.name for layer in model.spec.layers]
  kernels = [plain.get_layer(n).kernel for n in names]
  ids = {id(k) for k in kernels}
  dense = [v for v in plain.trainable_variables if id(v) not in ids]
  norms = [x for x in plain.layers if isinstance(x, tf.keras.layers.BatchNormalization)]
  expected = (
    kernels,
    dense,
    [n.moving_mean for n in norms],
    [n.moving_variance for n in norms],
  )
  for vector, variables in zip(weights, expected, strict=True):
    flat = np.concatenate([v.numpy().reshape(-1) for v in variables])
    np.testing.assert_allclose(vector, flat, rtol=1e-4, atol=1e-5)


def test_one_step_by_hand():
  """Checks logits = x W, gradient x^T (p - y) / n, W -= 0.1 * gradient * mask."""
  x = support.floats([[1.0, 2.0], [-1.0, 0.5]])
  labels = np.array([0, 1])
  kernel = support.floats([[0.5, -0.2], [0.3, 0.0]])
  keep = np.array([[True, True], [True, False]])
  probability = _softmax(x @ kernel)
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
    tf.constant(0.1), _keep,
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
  plain, loss_sum, hits, _ = _reference_loop(
    model, features, labels, order, start, mask
  )
  weights, metrics = trainer.train(
    start, mask, _examples(records, order), tf.constant(_RATE)
  )
  _assert_same_weights(weights, plain, model)
  np.testing.assert_allclose(metrics.loss_sum, loss_sum, rtol=1e-4)
  assert metrics.correct == hits
  # Ten examples, seen twice.
  assert metrics.examples == 20.0
  # Pruned weights are exactly zero, active ones have moved.
  assert not np.count_nonzero(weights.prunable.numpy()[~mask.numpy()])
  moved = weights.prunable.numpy() != start.prunable.numpy()
  assert moved[mask.numpy()].all()


def test_the_statistics_are_of_the_last_batch_before_its_update(case):
  model, features, labels, records, order, start, mask, trainer = case
  *_, last = _reference_loop(model, features, labels, order, start, mask)
  arguments = (start, mask, _examples(records, order), tf.constant(_RATE))
  weights, metrics, seen = trainer.train_with_statistics(*arguments, _keep)
  np.testing.assert_allclose(seen.gradients, last, rtol=1e-3, atol=1e-5)
  assert np.count_nonzero(seen.gradients.numpy()[~mask.numpy()])
  plainly_trained, plain_metrics = trainer.train(*arguments)
  for ours, theirs in zip(weights, plainly_trained, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(metrics, plain_metrics, rtol=1e-5)


def test_statistics_of_a_single_step_are_of_the_start(case):
  model, features, labels, records, _, start, mask, trainer = case
  order = tf.constant([[5, 0]])
  plain, *_, last = _reference_loop(model, features, labels, order, start, mask)
  weights, _, seen = trainer.train_with_statistics(
    start, mask, _examples(records, order), tf.constant(_RATE), _keep
  )
  np.testing.assert_allclose(seen.gradients, last, rtol=1e-3, atol=1e-5)
  _assert_same_weights(weights, plain, model)


def _count_and_add(seen, gradients):
  steps, total = seen
  return steps + 1, total + tf.concat(list(gradients), 0)


def test_observing_sees_the_dense_gradient_of_every_step_before_its_update():
  """Two steps by hand: of x W with W = 0, and of what the first step made of it."""
  x = support.floats([[1.0, 2.0], [-1.0, 0.5]])
  wanted = np.eye(2)[[0, 1]]
  keep = np.array([[True, True], [True, False]])
  kernel, gradients = np.zeros([2, 2]), []
  for step in range(2):
    row = x[step : step + 1]
    gradients.append(row.T @ (_softmax(row @ kernel) - wanted[step : step + 1]))
    kernel = kernel - 0.1 * gradients[-1] * keep
  records, _ = support.labelled_records(x, np.array([0, 1]))
  config = TrainingConfig(OptimizerConfig("sgd", 0.1, 0.0), 1, 1)
  trainer = training.LocalTrainer(support.linear(), config, support.decode_vectors)
  start = support.random_weights(support.linear())._replace(prunable=tf.zeros([4]))
  weights, metrics, (steps, total) = trainer.train_observed(
    start, tf.constant(keep.reshape(-1)), batches.in_stored_order(records),
    tf.constant(0.1), _count_and_add, (tf.constant(0), tf.zeros([4])),
  )  # fmt: skip
  np.testing.assert_allclose(weights.prunable, kernel.reshape(-1), rtol=1e-5)
  assert steps == 2
  # Dense: the pruned weight has a gradient too, and it does not move.
  np.testing.assert_allclose(total, np.sum(gradients, 0).reshape(-1), rtol=1e-5)
  assert total[3] != 0.0
  assert metrics.examples == 2.0


def test_observing_changes_nothing(case):
  *_, records, order, start, mask, trainer = case
  arguments = (start, mask, _examples(records, order), tf.constant(_RATE))
  plainly_trained, plain_metrics = trainer.train(*arguments)
  weights, metrics, (steps, total) = trainer.train_observed(
    *arguments, _count_and_add, (tf.constant(0), tf.zeros([63]))
  )
  for ours, theirs in zip(weights, plainly_trained, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(metrics, plain_metrics, rtol=1e-5)
  # Batches of 4, 4, 2 in each of two epochs.
  assert steps == 6
  assert np.count_nonzero(total.numpy()[~mask.numpy()])


def test_observing_no_record_sees_what_was_seen_before(case):
  *_, records, _, start, mask, trainer = case
  nothing = _examples(records[:0], tf.zeros([2, 0], tf.int32))
  _, metrics, (steps, total) = trainer.train_observed(
    start, mask, nothing, tf.constant(_RATE), _count_and_add,
    (tf.constant(7), tf.ones([63])),
  )  # fmt: skip
  assert steps == 7
  assert total.numpy().tolist() == [1.0] * 63
  assert metrics.examples == 0.0


class TestReadjusted:
  """Six steps in all: batches of 4, 4, 2 in each of two epochs."""

  def readjust(self, case, mask, steps_before):
    """Trains for another mask after some steps."""
    *_, records, order, start, before, trainer = case

    def change(weights, gradients):
      del gradients
      kept = tf.where(mask, weights.prunable, 0.0)
      return weights._replace(prunable=kept), mask

    return trainer.train_readjusted(
      start, before, _examples(records, order), tf.constant(_RATE),
      tf.constant(steps_before), change,
    )  # fmt: skip

  @pytest.mark.parametrize("steps_before", [1, 3, 6])
  def test_the_same_mask_trains_as_ever(self, case, steps_before):
    *_, records, order, start, mask, trainer = case
    plainly_trained, plain_metrics = trainer.train(
      start, mask, _examples(records, order), tf.constant(_RATE)
    )
    weights, new_mask, metrics = self.readjust(case, mask, steps_before)
    np.testing.assert_array_equal(new_mask, mask)
    # Momentum goes on as well: nothing is begun anew in the middle.
    for ours, theirs in zip(weights, plainly_trained, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics, plain_metrics, rtol=1e-5)

  def test_a_dropped_weight_stays_zero_and_a_grown_one_trains(self, case):
    before = case[6].numpy()
    dropped, grown = np.flatnonzero(before)[:5], np.flatnonzero(~before)[:5]
    mask = before.copy()
    mask[dropped], mask[grown] = False, True
    weights, new_mask, metrics = self.readjust(case, tf.constant(mask), 3)
    np.testing.assert_array_equal(new_mask, mask)
    # The momentum of three steps would have brought the dropped ones back.
    assert not weights.prunable.numpy()[~mask].any()
    assert weights.prunable.numpy()[grown].all()
    assert metrics.examples == 20.0

  def test_equals_two_hand_written_parts(self, case):
    """Without momentum the two parts are two trainings, one after the other."""
    model, _, _, records, order, start, mask, _ = case
    config = TrainingConfig(OptimizerConfig("sgd", _RATE, 0.0), 2, _BATCH)
    trainer = training.LocalTrainer(model, config, support.decode_images)
    other = support.random_mask(model.spec.size, 25, seed=9)

    def change(weights, gradients):
      del gradients
      kept = tf.where(other, weights.prunable, 0.0)
      return weights._replace(prunable=kept), other

    weights, _, metrics = trainer.train_readjusted(
      start, mask, _examples(records, order), tf.constant(_RATE), tf.constant(3), change
    )
    first, first_metrics = trainer.train(
      start, mask, _examples(records, order[:1]), tf.constant(_RATE)
    )
    masked = first._replace(prunable=tf.where(other, first.prunable, 0.0))
    second, second_metrics = trainer.train(
      masked, other, _examples(records, order[1:]), tf.constant(_RATE)
    )
    for ours, theirs in zip(weights, second, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    both = training.add_metrics(first_metrics, second_metrics)
    np.testing.assert_allclose(metrics, both, rtol=1e-5)

  def test_the_change_sees_weights_and_gradient_of_the_step_before_it(self, case):
    """What the change returns as weights is what is trained on: here the gradient."""
    model, features, labels, records, order, start, mask, trainer = case
    *_, last = _reference_loop(model, features, labels, order[:, :8], start, mask)
    everywhere = tf.ones([model.spec.size], tf.bool)

    def change(weights, gradients):
      return weights._replace(prunable=tf.concat(list(gradients), 0)), everywhere

    # Four steps of full batches, the change after the last: nothing follows it.
    weights, _, metrics = trainer.train_readjusted(
      start, mask, _examples(records, order[:, :8]), tf.constant(_RATE), tf.constant(4),
      change,
    )  # fmt: skip
    np.testing.assert_allclose(weights.prunable, last, rtol=1e-3, atol=1e-5)
    assert metrics.examples == 16.0


def test_a_penalty_adds_its_gradient_and_leaves_the_metrics(case):
  model, features, labels, _, _, start, mask, trainer = case

  def penalty(kernels):
    first, second = kernels
    return 0.5 * tf.reduce_sum(tf.square(first)) + 3.0 * tf.reduce_sum(second)

  penalised = training.LocalTrainer(
    model, _config(), support.decode_images, penalty=penalty
  )
  found = []
  for each in (trainer, penalised):
    each.start(start, mask, tf.constant(_RATE))
    found.append(tf.function(each.gradients)(tf.constant(features), tf.constant(labels)))
  (plain, metrics), (with_penalty, same) = found
  masked = np.where(mask, start.prunable, 0.0)
  differences = [b.numpy() - a.numpy() for a, b in zip(plain, with_penalty, strict=True)]
  np.testing.assert_allclose(differences[0].reshape(-1), masked[:54], atol=1e-5)
  np.testing.assert_allclose(differences[1], np.full((3, 3), 3.0), atol=1e-5)
  for difference in differences[2:]:
    np.testing.assert_allclose(difference, np.zeros_like(difference), atol=1e-6)
  np.testing.assert_allclose(metrics, same, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_optimizers_state_is_new_in_every_call(case, name):
  model, _, _, records, order, start, mask, _ = case
  trainer = training.LocalTrainer(model, _config(name), support.decode_images)
  arguments = (start, mask, _examples(records, order), tf.constant(0.05))
  first, _ = trainer.train(*arguments)
  second, _ = trainer.train(*arguments)
  third, _, _ = trainer.train_with_statistics(*arguments, _keep)
  for a, b, c in zip(first, second, third, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-6)


def test_no_optimizer_state_grows_at_pruned_positions(case):
  *_, records, order, start, mask, trainer = case
  trainer.train(
    start, mask, _examples(records, order), tf.constant(_RATE)
  )
  # Masked weights alone would not show it, so this looks inside.
  momenta = trainer._optimizer.momentums[: len(trainer._masked.kernels)]
  flat = np.concatenate([m.numpy().reshape(-1) for m in momenta])
  assert not flat[~mask.numpy()].any()
  assert flat[mask.numpy()].all()


def test_the_learning_rate_of_the_call_counts(case):
  *_, records, order, start, mask, trainer = case
  still, _ = trainer.train(start, mask, _examples(records, order), tf.constant(0.0))
  np.testing.assert_array_equal(still.prunable, np.where(mask, start.prunable, 0.0))
  np.testing.assert_array_equal(still.dense, start.dense)
  # Batch norm has seen the data all the same.
  assert (still.batch_norm_mean.numpy() != start.batch_norm_mean.numpy()).any()


def test_no_record_trains_nothing(case):
  *_, records, _, start, mask, trainer = case
  order = tf.zeros([2, 0], tf.int32)
  weights, metrics = trainer.train(
    start, mask, _examples(records[:0], order), tf.constant(_RATE)
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
    model, TrainingConfig(OptimizerConfig("sgd", 0.1, 0.0), 1, 2), support.decode_vectors
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
  losses = -np.log(_softmax(logits)[np.arange(10), labels])
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
  *_, last = _reference_loop(model, features, labels, order, start, mask)
  optimizer = OptimizerConfig("sgd", _RATE, 0.0, weight_decay=0.01, clip_norm=1e-3)
  config = TrainingConfig(optimizer, 1, _BATCH)
  trainer = training.LocalTrainer(model, config, support.decode_images)
  weights, _ = trainer.train(
    start, mask, _examples(records, order), tf.constant(_RATE)
  )
  # The clipped gradient is at most 1e-3 long, so the decay explains the rest.
  moved = (weights.prunable - start.prunable * (1 - _RATE * 0.01)).numpy()
  assert 0.0 < np.linalg.norm(moved[mask.numpy()]) <= _RATE * 1e-3 * 1.01
  # In the direction of the masked gradient.
  direction = -moved[mask.numpy()] @ last[mask.numpy()]
  assert direction > 0.99 * np.linalg.norm(moved[mask.numpy()]) * np.linalg.norm(
    last[mask.numpy()]
  )


def test_augmentation_follows_the_seed(case):
  model, _, _, records, order, start, mask, _ = case
  config = dataclasses.replace(_config(), augmentations=("crop", "flip"))
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
  config = dataclasses.replace(_config(), compute_dtype="bfloat16")
  other = training.LocalTrainer(model, config, support.decode_images)
  arguments = (start, mask, _examples(records, order), tf.constant(_RATE))
  weights, metrics = other.train(*arguments)
  exact, exact_metrics = trainer.train(*arguments)
  assert {vector.dtype for vector in weights} == {tf.float32}
  assert metrics.loss_sum.dtype == tf.float32
  moved = np.abs(exact.prunable.numpy() - start.prunable.numpy() * mask.numpy()).max()
  error = np.abs(weights.prunable.numpy() - exact.prunable.numpy()).max()
  # Rounded to 8 bits at every layer, and yet the same training.
  assert 0.0 < error < 0.2 * moved
  assert float(metrics.loss_sum) == pytest.approx(float(exact_metrics.loss_sum), rel=0.02)
  assert not np.count_nonzero(weights.prunable.numpy()[~mask.numpy()])


def test_an_unknown_compute_dtype_is_refused():
  with pytest.raises(ValueError, match="float32, bfloat16, got 'auto'"):
    dataclasses.replace(_config(), compute_dtype="auto")
