"""What tfmot's wrapper costs in training, against masking gradients by hand.

Both take the same steps on the same batch from the same masked weights: once through
`tfmot_masking.MaskedModel`, once with the plain Keras model, whose weights are zero
where pruned and whose gradients are multiplied by the mask.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import results_file
from benchmarks.rounds_under_test import CONFIG, fastest_seconds, starting_state
from fedtiny_tff.federated import states
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry

_BATCH = 64
# Model, shape, steps in one measurement.
_CASES = (
  ("digits_cnn", (8, 8, 1), 100),
  ("resnet8", (32, 32, 3), 20),
  ("resnet18", (32, 32, 3), 3),
)
_REPEATS = 7


class ByHand:
  """A plain Keras model with masked weights, trained with masked gradients."""

  def __init__(
    self, model_definition: definition.ModelDefinition, state: states.ServerState
  ):
    self._model = model_definition.build()
    self._variables = self._model.trainable_variables
    spec = model_definition.spec
    by_layer = spec.masks_by_layer(state.mask)
    masks = {}
    for i, layer in enumerate(spec.layers):
      kernel = self._model.get_layer(layer.name).kernel
      kernel.assign(state.weights.prunable[spec.slice(i)].reshape(layer.shape))
      masks[kernel.ref()] = tf.constant(by_layer[layer.name], tf.float32)
    self._masks = [masks.get(v.ref()) for v in self._variables]
    self._optimizer = optimizers.build_optimizer(CONFIG.optimizer)
    self._optimizer.build(self._variables)

  @tf.function
  def steps(self, features: tf.Tensor, labels: tf.Tensor, count: tf.Tensor) -> None:
    for _ in tf.range(count):
      with tf.GradientTape() as tape:
        logits = self._model(features, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(losses)
      gradients = tape.gradient(loss, self._variables)
      masked = [
        gradient if mask is None else gradient * mask
        for gradient, mask in zip(gradients, self._masks, strict=True)
      ]
      self._optimizer.apply_gradients(zip(masked, self._variables, strict=True))


class ByWrapper:
  """The product's trainer."""

  def __init__(
    self, model_definition: definition.ModelDefinition, state: states.ServerState
  ):
    self._trainer = training.LocalTrainer(
      model_definition, CONFIG, lambda records: records
    )
    weights = ModelWeights(*(tf.constant(v) for v in state.weights))
    rate = tf.constant(CONFIG.optimizer.learning_rate)
    self._trainer.start(weights, tf.constant(state.mask), rate)

  @tf.function
  def steps(self, features: tf.Tensor, labels: tf.Tensor, count: tf.Tensor) -> None:
    for _ in tf.range(count):
      self._trainer.apply(self._trainer.gradients(features, labels)[0])


def _measure(name: str, shape: tuple[int, ...], steps: int) -> dict[str, Any]:
  found = registry.get_model(name, shape, 10)
  state = starting_state(found, 0.1)
  generator = np.random.default_rng(0)
  batch = (
    tf.constant(generator.normal(size=(_BATCH, *shape)), tf.float32),
    tf.constant(generator.integers(0, 10, _BATCH), tf.int64),
    tf.constant(steps),
  )
  by_hand, by_wrapper = ByHand(found, state), ByWrapper(found, state)
  calls = {
    "by_hand": lambda: by_hand.steps(*batch),
    "by_wrapper": lambda: by_wrapper.steps(*batch),
  }
  seconds = fastest_seconds(calls, _REPEATS)
  return {
    "model": name,
    "by_hand_images_per_second": _BATCH * steps / seconds["by_hand"],
    "wrapper_images_per_second": _BATCH * steps / seconds["by_wrapper"],
    "price": seconds["by_wrapper"] / seconds["by_hand"] - 1.0,
  }


def main() -> None:
  """Measures every case."""
  results_file.publish("mask_adapter", [_measure(*case) for case in _CASES])


if __name__ == "__main__":
  main()
