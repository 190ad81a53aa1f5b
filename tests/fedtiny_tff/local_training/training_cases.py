"""A small training, and the same written out in plain TensorFlow and NumPy."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff.local_training import batches, training
from fedtiny_tff.local_training.optimizers import OptimizerConfig
from fedtiny_tff.local_training.training import TrainingConfig
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.definition import ModelDefinition
from tests.fedtiny_tff import support

RATE, MOMENTUM, BATCH = 0.1, 0.9, 4


class Seen(NamedTuple):
  """Dense gradients, as a strategy would see them."""

  gradients: tf.Tensor


def seen_gradients(gradients: Iterable[tf.Tensor]) -> Seen:
  """Keeps the gradients of all kernels, flat."""
  return Seen(tf.concat(list(gradients), 0))


def examples(records: tf.Tensor, order: tf.Tensor) -> batches.Examples:
  """Returns records in an order, with a seed."""
  return batches.Examples(records, order, tf.constant([6, 7], tf.int32))


def config_of(name: str = "sgd", epochs: int = 2) -> TrainingConfig:
  """Returns the configuration that the loop below is written for, by default."""
  return TrainingConfig(
    OptimizerConfig(name, RATE, MOMENTUM), local_epochs=epochs, batch_size=BATCH
  )


def make_case() -> tuple[Any, ...]:
  """Returns what is trained, and what trains it.

  Ten images in batches of 4, 4, 2; two epochs; 25 of 63 weights active.
  """
  model = support.cnn()
  features, labels = support.random_images(10, seed=1)
  records, _ = support.labelled_records(features, labels)
  order = batches.shuffled_order(tf.constant(10), 2, tf.constant([1, 2], tf.int32))
  start = support.random_weights(model, seed=3)
  mask = support.random_mask(model.spec.size, 25, seed=4)
  trainer = training.LocalTrainer(model, config_of(), support.decode_images)
  return model, features, labels, records, order, start, mask, trainer


def softmax(logits: np.ndarray) -> np.ndarray:
  """Returns the probabilities of the classes, by row."""
  shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
  return shifted / shifted.sum(axis=1, keepdims=True)


def reference_loop(
  model: ModelDefinition,
  features: np.ndarray,
  labels: np.ndarray,
  order: Any,
  start: ModelWeights,
  mask: Any,
) -> tuple[tf.keras.Model, float, int, Any]:
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
    for first in range(0, len(epoch), BATCH):
      chosen = epoch[first : first + BATCH]
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
        velocities[i] = MOMENTUM * velocities[i] - RATE * masked
        variable.assign_add(velocities[i])
      loss_sum += float(tf.reduce_sum(losses))
      hits += int((logits.numpy().argmax(1) == labels[chosen]).sum())
  return plain, loss_sum, hits, last


def assert_same_weights(
  weights: ModelWeights, plain: tf.keras.Model, model: ModelDefinition
) -> None:
  """Holds that vectors are the variables of a Keras model, but for rounding."""
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
