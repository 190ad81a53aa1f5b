"""Tests of training and evaluation in int8, and of fine-tuning on rows."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import (
  batches,
  optimizers,
  quantisation_training,
  training,
)
from fedtiny_tff.local_training.quantisation_training import QuantisedWeights
from fedtiny_tff.masked_models import tfmot_quantisation
from fedtiny_tff.masked_models.tfmot_quantisation import Ranges
from tests.fedtiny_tff import support

SGD = optimizers.OptimizerConfig("sgd", 0.1, 0.9)


@functools.cache
def plan():
  return tfmot_quantisation.plan_quantisation(support.cnn())


@pytest.fixture(scope="module")
def records():
  return support.labelled_records(*support.random_images(20))[0]


@functools.cache
def evaluator() -> quantisation_training.QuantisedEvaluator:
  return quantisation_training.QuantisedEvaluator(plan(), support.decode_images, 8)


def start(records, seed: int = 0):
  weights = support.random_weights(support.cnn(), seed)
  mask = support.random_mask(63, 30, seed)
  weights = weights._replace(prunable=weights.prunable * tf.cast(mask, tf.float32))
  return QuantisedWeights(weights, evaluator().observe(weights, mask, records)), mask


def train(records, begun, mask, optimizer=SGD, epochs=3):
  config = training.TrainingConfig(optimizer, epochs, 8)
  trainer = quantisation_training.QuantisedTrainer(
    plan(), config, support.decode_images
  )
  examples = batches.shuffled(records, epochs, tf.constant([1, 2], tf.int32))
  rate = tf.constant(optimizer.learning_rate, tf.float32)
  return trainer.train_quantised(begun, mask, examples, rate)


class TestQuantisedTrainer:
  @pytest.mark.parametrize(
    "optimizer",
    [
      SGD,
      optimizers.OptimizerConfig("adam", 0.05, weight_decay=0.1),
      optimizers.OptimizerConfig("adamw", 0.05, weight_decay=0.1),
    ],
    ids=lambda config: config.name,
  )
  def test_zeros_stay_exactly_zero(self, records, optimizer):
    begun, mask = start(records)
    (trained, _), metrics = train(records, begun, mask, optimizer)
    assert metrics.examples == 60
    pruned = np.asarray(trained.prunable)[~mask.numpy()]
    assert not pruned.any()
    moved = np.asarray(trained.prunable - begun.weights.prunable)
    # Some of the 30 are behind units that never fire.
    assert 15 < np.count_nonzero(moved) <= 30

  def test_without_the_mask_they_drift(self, records):
    begun, mask = start(records)
    (trained, _), _ = train(records, begun, tf.ones_like(mask))
    assert np.count_nonzero(np.asarray(trained.prunable)[~mask.numpy()]) > 20

  def test_weights_that_are_pushed_are_put_back(self, records):
    begun, mask = start(records)
    config = training.TrainingConfig(SGD, 1, 8)
    trainer = quantisation_training.QuantisedTrainer(
      plan(), config, support.decode_images
    )
    trainer.start(begun.weights, mask, tf.constant(0.1))
    model = trainer._quantised
    for kernel in model.kernels:
      kernel.assign_add(tf.ones_like(kernel))
    trainer.apply([tf.zeros_like(v) for v in model.trainable_variables])
    flat = np.concatenate([np.reshape(k, -1) for k in model.kernels])
    assert not flat[~mask.numpy()].any()

  def test_same_seed_same_bytes(self, records):
    begun, mask = start(records)
    first, second = (train(records, begun, mask)[0] for _ in range(2))
    for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
      np.testing.assert_array_equal(one, other)

  def test_lowers_the_loss_of_the_rounded_model(self, records):
    begun, mask = start(records)
    trained, _ = train(records, begun, mask, epochs=20)
    before = evaluator().evaluate_quantised(begun, mask, records)
    after = evaluator().evaluate_quantised(trained, mask, records)
    assert after.loss_sum < 0.9 * before.loss_sum


class TestQuantisedEvaluator:
  def test_observes_all_records_whatever_the_batches(self, records):
    begun, mask = start(records)
    one_batch = quantisation_training.QuantisedEvaluator(
      plan(), support.decode_images, 64
    )
    at_once = one_batch.observe(begun.weights, mask, records)
    for found, wanted in zip(begun.ranges, at_once, strict=True):
      np.testing.assert_allclose(found, wanted, rtol=1e-5)
    # The first quantiser is the input's.
    images, _ = support.decode_images(records)
    assert float(begun.ranges.minimum[0]) == float(tf.reduce_min(images))
    assert float(begun.ranges.maximum[0]) == float(tf.reduce_max(images))

  def test_no_record_gives_empty_ranges(self, records):
    begun, mask = start(records)
    ranges = evaluator().observe(begun.weights, mask, records[:0])
    assert not np.any(ranges)

  def test_narrow_ranges_cost_accuracy(self, records):
    begun, mask = start(records)
    narrow = begun._replace(ranges=Ranges(*(ends * 0.02 for ends in begun.ranges)))
    wide = evaluator().evaluate_quantised(begun, mask, records)
    cut = evaluator().evaluate_quantised(narrow, mask, records)
    assert abs(float(cut.loss_sum - wide.loss_sum)) > 0.01 * float(wide.loss_sum)


class TestFinishedModel:
  def test_computes_what_was_evaluated(self, records):
    begun, mask = start(records)
    model = quantisation_training.finished_model(plan(), begun, mask.numpy())
    images, labels = support.decode_images(records)
    metrics = tasks.CLASSIFY.batch_metrics(
      images, labels, model(images, training=False)
    )
    wanted = evaluator().evaluate_quantised(begun, mask, records)
    assert float(metrics.loss_sum) == pytest.approx(float(wanted.loss_sum), rel=1e-5)


def masks_of(model, names):
  return {name: model.get_layer(name).kernel.numpy() != 0 for name in names}


class TestFineTune:
  @pytest.fixture(scope="class")
  def pruned(self):
    weights = support.random_weights(support.cnn(), 4)
    mask = support.random_mask(63, 30, 4)
    model = support.plain_model(support.cnn(), weights, mask)
    return model, masks_of(model, ["conv2", "logits"])

  def tune(self, pruned, epochs: int = 2):
    images, labels = support.random_images(24)
    how = quantisation_training.FineTuning(SGD, epochs, 8)
    model, masks = pruned
    return quantisation_training.fine_tune(
      model, masks, tasks.CLASSIFY, images, labels, how
    )

  def test_keeps_zeros_moves_the_rest_and_repeats_itself(self, pruned):
    model, masks = pruned
    tuned, again = self.tune(pruned), self.tune(pruned)
    for name, mask in masks.items():
      variables = tuned.get_layer(name).weights
      kernel = next(v for v in variables if "kernel:" in v.name).numpy()
      assert not kernel[~mask].any()
      assert np.abs(kernel - model.get_layer(name).kernel)[mask].min() > 0
    for one, two in zip(tuned.get_weights(), again.get_weights(), strict=True):
      np.testing.assert_array_equal(one, two)

  def test_without_epochs_only_ranges_are_set(self, pruned):
    tuned = self.tune(pruned, epochs=0)
    kernel = next(v for v in tuned.get_layer("conv2").weights if "kernel:" in v.name)
    np.testing.assert_array_equal(kernel, pruned[0].get_layer("conv2").kernel)

  @pytest.mark.parametrize(
    ("masks", "rows", "message"),
    [
      ({}, 4, "no masked layer"),
      ({"conv2": np.ones((3, 3), bool)}, 4, r"'conv2' is bool\[3, 3\]"),
      ({"absent": np.ones((3, 3), bool)}, 4, "'absent'"),
      ({"conv2": np.ones((3, 3, 2, 3), bool)}, 0, "0 rows"),
    ],
  )
  def test_refuses_what_does_not_fit(self, pruned, masks, rows, message):
    images, labels = support.random_images(4)
    how = quantisation_training.FineTuning(SGD, 1)
    with pytest.raises(InputError, match=message):
      quantisation_training.fine_tune(
        pruned[0], masks, tasks.CLASSIFY, images[:rows], labels[:rows], how
      )
