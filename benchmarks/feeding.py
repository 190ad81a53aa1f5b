"""Images a second that reaching a client's batches gives, against what training takes.

The federation is the first 25,000 images of CIFAR-10 on 10 clients. `feed` reads every
client's records from the disk, shuffles, decodes and, where it says so, augments them
batch by batch, as a round does; `train` is the whole local training of ResNet-8 on the
same batches. Both run in turn, several times; the fastest time of each counts.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from benchmarks import cifar10, results_file
from benchmarks.rounds_under_test import CONFIG, fastest_seconds
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.models import registry

_CLIENTS = 10
_EXAMPLES = 2_500
_REPEATS = 3


class _Feeding:
  """One pass over all clients, with and without training."""

  def __init__(
    self,
    store: ClientStore,
    clients: list[ClientReference],
    augmentations: tuple[str, ...],
  ):
    found = registry.get_model("resnet8", (32, 32, 3), 10)
    self._config = dataclasses.replace(
      CONFIG, local_epochs=1, augmentations=augmentations
    )
    self._store = store
    self._clients = clients
    self._trainer = training.LocalTrainer(found, self._config, store.decode)
    self._weights = tfmot_masking.initial_weights(found, 0)
    self._mask = tf.ones([found.spec.size], tf.bool)

  def _examples(self, client: ClientReference) -> batches.Examples:
    records = self._store.read(client.first_record, client.training_examples)
    seed = tf.constant([0, int(client.client)], tf.int32)
    return batches.shuffled(records, 1, seed)

  @tf.function
  def _touch(self, examples: batches.Examples) -> tf.Tensor:
    total = tf.constant(0.0)
    steps = batches.number_of_steps(examples.order, self._config.batch_size)
    for step in tf.range(steps):
      features, _ = self._trainer.batch(examples, step)
      total += tf.reduce_sum(features)
    return total

  def feed(self) -> None:
    """Makes every batch and looks at it."""
    for client in self._clients:
      self._touch(self._examples(client)).numpy()

  def train(self) -> None:
    """Trains on every batch."""
    rate = tf.constant(0.01)
    for client in self._clients:
      trained, _ = self._trainer.train(
        self._weights, self._mask, self._examples(client), rate
      )
      trained.prunable.numpy()


def _measure(augmentations: tuple[str, ...]) -> dict[str, Any]:
  with cifar10.federation(_CLIENTS, _EXAMPLES) as (store, clients):
    feeding = _Feeding(store, clients, augmentations)
    seconds = fastest_seconds({"feed": feeding.feed, "train": feeding.train}, _REPEATS)
  images = _CLIENTS * _EXAMPLES
  return {
    "augmentations": ",".join(augmentations) or "none",
    "images": images,
    "fed_images_per_second": images / seconds["feed"],
    "trained_images_per_second": images / seconds["train"],
    "fed_to_trained": seconds["train"] / seconds["feed"],
  }


def main() -> None:
  """Measures with and without augmentation."""
  cifar10.require()
  results_file.publish("feeding", [_measure(()), _measure(("crop", "flip"))])


if __name__ == "__main__":
  main()
