"""A TFF round's images per second against three plain TensorFlow loops.

All train the same clients on the same batches from the same weights under the same
tfmot wrappers and mask, in turn, several times; the fastest time of each counts.

  step      one `tf.function` per step, preprocessed batches already in memory
  pipeline  one `tf.function` per step, records gathered and decoded in it
  loop      all steps of a client inside one `tf.function`
  tff       the product's round in TFF's runtime, broadcast and averaging included
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from benchmarks import cifar10, results_file
from benchmarks.rounds_under_test import (
  CONFIG,
  fastest_seconds,
  starting_state,
  tff_round,
)
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.federated import states
from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.federated.training_rounds import client_work
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry

_CLIENTS = 10


class Case(NamedTuple):
  """A model and the federation it is trained on.

  Attributes:
    model: Key of `registry.MODELS`.
    width: Width multiplier.
    examples: Images of each client.
    density: Active share of the prunable weights.
    repeats: Measured rounds.
  """

  model: str
  width: float
  examples: int
  density: float
  repeats: int


CASES = (
  Case("resnet8", 1.0, 320, 0.1, 5),
  Case("resnet18", 1.0, 320, 0.1, 2),
  Case("resnet18", 0.25, 500, 0.05, 3),
)


class PlainLoops:
  """The three loops over one model that is built once."""

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    config: training.TrainingConfig,
    store: ClientStore,
    clients: Sequence[ClientReference],
    state: states.ServerState,
  ):
    self._trainer = training.LocalTrainer(model_definition, config, store.decode)
    self._config = config
    self._weights = ModelWeights(*(tf.constant(v) for v in state.weights))
    self._mask = tf.constant(state.mask)
    self._rate = tf.constant(config.optimizer.learning_rate)
    self._examples = [self._shuffled(store, client) for client in clients]
    self._batches = [self._prepared(store, examples) for examples in self._examples]

  def _shuffled(self, store: ClientStore, client: ClientReference) -> batches.Examples:
    records = store.read(client.first_record, client.training_examples)
    seed = client_work.client_seed(0, tf.constant(0), tf.constant(client.client))
    return batches.shuffled(records, self._config.local_epochs, seed)

  def _prepared(
    self, store: ClientStore, examples: batches.Examples
  ) -> list[tuple[tf.Tensor, tf.Tensor]]:
    size = self._config.batch_size
    count = int(batches.number_of_steps(examples.order, size))
    return [
      store.decode(batches.batch_records(examples, tf.constant(step), size))
      for step in range(count)
    ]

  @tf.function
  def _start(self) -> None:
    self._trainer.start(self._weights, self._mask, self._rate)

  @tf.function(reduce_retracing=True)
  def _step(self, features: tf.Tensor, labels: tf.Tensor) -> None:
    self._trainer.apply(self._trainer.gradients(features, labels)[0])

  @tf.function(reduce_retracing=True)
  def _pipeline_step(self, examples: batches.Examples, step: tf.Tensor) -> None:
    batch = self._trainer.batch(examples, step)
    self._trainer.apply(self._trainer.gradients(*batch)[0])

  def step(self) -> None:
    for prepared in self._batches:
      self._start()
      for features, labels in prepared:
        self._step(features, labels)

  def pipeline(self) -> None:
    for examples, prepared in zip(self._examples, self._batches, strict=True):
      self._start()
      for step in range(len(prepared)):
        self._pipeline_step(examples, tf.constant(step))

  def loop(self) -> None:
    for examples in self._examples:
      self._trainer.train(self._weights, self._mask, examples, self._rate)


def _measure(case: Case) -> dict[str, Any]:
  found = registry.get_model(case.model, (32, 32, 3), 10, case.width)
  state = starting_state(found, case.density)
  with cifar10.federation(_CLIENTS, case.examples) as (store, clients):
    plain = PlainLoops(found, CONFIG, store, clients, state)
    with runtime.LocalRuntime():
      calls = {
        "step": plain.step,
        "pipeline": plain.pipeline,
        "loop": plain.loop,
        "tff": tff_round(found, CONFIG, store, clients, state),
      }
      seconds = fastest_seconds(calls, case.repeats)
  speed = {name: _CLIENTS * case.examples / value for name, value in seconds.items()}
  fastest = max(speed[name] for name in ("step", "pipeline", "loop"))
  return {
    "model": case.model,
    "width": case.width,
    "step_images_per_second": speed["step"],
    "pipeline_images_per_second": speed["pipeline"],
    "loop_images_per_second": speed["loop"],
    "plain_images_per_second": fastest,
    "tff_images_per_second": speed["tff"],
    "ratio": speed["tff"] / fastest,
    "ratio_to_step": speed["tff"] / speed["step"],
  }


def main() -> None:
  """Measures every case."""
  cifar10.require()
  results_file.publish("round_throughput", [_measure(case) for case in CASES])


if __name__ == "__main__":
  main()
