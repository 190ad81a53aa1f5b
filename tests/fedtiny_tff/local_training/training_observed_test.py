"""What a strategy sees of a training, and what it may change in the middle of it."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.local_training import batches, training
from fedtiny_tff.local_training.optimizers import OptimizerConfig
from fedtiny_tff.local_training.training import TrainingConfig
from tests.fedtiny_tff import support
from tests.fedtiny_tff.local_training.training_cases import (
  BATCH,
  RATE,
  assert_same_weights,
  examples,
  make_case,
  reference_loop,
  seen_gradients,
  softmax,
)


@pytest.fixture(name="case", scope="module")
def fixture_case():
  return make_case()


def test_the_statistics_are_of_the_last_batch_before_its_update(case):
  model, features, labels, records, order, start, mask, trainer = case
  *_, last = reference_loop(model, features, labels, order, start, mask)
  arguments = (start, mask, examples(records, order), tf.constant(RATE))
  weights, metrics, seen = trainer.train_with_statistics(*arguments, seen_gradients)
  np.testing.assert_allclose(seen.gradients, last, rtol=1e-3, atol=1e-5)
  assert np.count_nonzero(seen.gradients.numpy()[~mask.numpy()])
  plainly_trained, plain_metrics = trainer.train(*arguments)
  for ours, theirs in zip(weights, plainly_trained, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(metrics, plain_metrics, rtol=1e-5)


def test_statistics_of_a_single_step_are_of_the_start(case):
  model, features, labels, records, _, start, mask, trainer = case
  order = tf.constant([[5, 0]])
  plain, *_, last = reference_loop(model, features, labels, order, start, mask)
  weights, _, seen = trainer.train_with_statistics(
    start, mask, examples(records, order), tf.constant(RATE), seen_gradients
  )
  np.testing.assert_allclose(seen.gradients, last, rtol=1e-3, atol=1e-5)
  assert_same_weights(weights, plain, model)


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
    gradients.append(row.T @ (softmax(row @ kernel) - wanted[step : step + 1]))
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
  arguments = (start, mask, examples(records, order), tf.constant(RATE))
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
  nothing = examples(records[:0], tf.zeros([2, 0], tf.int32))
  _, metrics, (steps, total) = trainer.train_observed(
    start, mask, nothing, tf.constant(RATE), _count_and_add,
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
      start, before, examples(records, order), tf.constant(RATE),
      tf.constant(steps_before), change,
    )  # fmt: skip

  @pytest.mark.parametrize("steps_before", [1, 3, 6])
  def test_the_same_mask_trains_as_ever(self, case, steps_before):
    *_, records, order, start, mask, trainer = case
    plainly_trained, plain_metrics = trainer.train(
      start, mask, examples(records, order), tf.constant(RATE)
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
    config = TrainingConfig(OptimizerConfig("sgd", RATE, 0.0), 2, BATCH)
    trainer = training.LocalTrainer(model, config, support.decode_images)
    other = support.random_mask(model.spec.size, 25, seed=9)

    def change(weights, gradients):
      del gradients
      kept = tf.where(other, weights.prunable, 0.0)
      return weights._replace(prunable=kept), other

    weights, _, metrics = trainer.train_readjusted(
      start, mask, examples(records, order), tf.constant(RATE), tf.constant(3), change
    )
    first, first_metrics = trainer.train(
      start, mask, examples(records, order[:1]), tf.constant(RATE)
    )
    masked = first._replace(prunable=tf.where(other, first.prunable, 0.0))
    second, second_metrics = trainer.train(
      masked, other, examples(records, order[1:]), tf.constant(RATE)
    )
    for ours, theirs in zip(weights, second, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    both = training.add_metrics(first_metrics, second_metrics)
    np.testing.assert_allclose(metrics, both, rtol=1e-5)

  def test_the_change_sees_weights_and_gradient_of_the_step_before_it(self, case):
    """What the change returns as weights is what is trained on: here the gradient."""
    model, features, labels, records, order, start, mask, trainer = case
    *_, last = reference_loop(model, features, labels, order[:, :8], start, mask)
    everywhere = tf.ones([model.spec.size], tf.bool)

    def change(weights, gradients):
      return weights._replace(prunable=tf.concat(list(gradients), 0)), everywhere

    # Four steps of full batches, the change after the last: nothing follows it.
    weights, _, metrics = trainer.train_readjusted(
      start, mask, examples(records, order[:, :8]), tf.constant(RATE), tf.constant(4),
      change,
    )  # fmt: skip
    np.testing.assert_allclose(weights.prunable, last, rtol=1e-3, atol=1e-5)
    assert metrics.examples == 16.0
