"""Tiny federations, tiny models, and states to start from."""

import contextlib
import io
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data import client_store
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.data.examples import Batch, DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.federated import states
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.model_structure.definition import ModelDefinition
from tests.fedtiny_tff import support as core_support

layers = tf.keras.layers


class Part(NamedTuple):
  """Examples: float32 [n, ...] features and int64 [n] labels."""

  features: np.ndarray
  labels: np.ndarray


class Client(NamedTuple):
  """What a client trains on, and what it holds out."""

  training: Part
  development: Part


def make_part(features, labels) -> Part:
  """Turns nested lists into a part."""
  return Part(np.asarray(features, np.float32), np.asarray(labels, np.int64))


def random_part(
  generator: np.random.Generator,
  count: int,
  shape: tuple[int, ...],
  classes: int,
  mean: float = 0.0,
  deviation: float = 1.0,
) -> Part:
  """Draws normal features and uniform labels."""
  features = generator.normal(mean, deviation, (count, *shape))
  return make_part(features, generator.integers(0, classes, count))


def image_clients(sizes: Sequence[int]) -> list[Client]:
  """Draws clients of so many 4x4 images of 3 classes, who hold out two each."""
  generator = np.random.default_rng(3)
  return [
    Client(
      random_part(generator, size, (4, 4, 1), 3),
      random_part(generator, 2, (4, 4, 1), 3),
    )
    for size in sizes
  ]


def linear_clients() -> list[Client]:
  """Returns one example (2, 0) of class 0 here, three (0, 4) of class 1 there."""
  nothing = make_part(np.zeros([0, 2]), [])
  return [
    Client(make_part([[2, 0]], [0]), nothing),
    Client(make_part([[0, 4]] * 3, [1] * 3), nothing),
  ]


def clients_of_one(firsts: Sequence[float]) -> list[Client]:
  """Returns clients of one example (first, 0) of class 0 each."""
  nothing = make_part(np.zeros([0, 2]), [])
  return [Client(make_part([[first, 0]], [0]), nothing) for first in firsts]


def concatenate(parts: Sequence[Part]) -> Part:
  """Lays parts end to end."""
  return Part(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def write_store(
  path: pathlib.Path, clients: Sequence[Client]
) -> tuple[ClientStore, list[ClientReference]]:
  """Writes clients to one file and says where they lie."""
  shape = clients[0].training.features.shape[1:]
  unchanged = Preprocessing(1.0, (0.0,), (1.0,))
  info = DatasetInfo("tiny", shape, "float32", ("a", "b", "c"), unchanged)
  examples: list[tuple[np.ndarray, int]] = []
  references = []
  for number, client in enumerate(clients):
    sizes = [len(part.labels) for part in client]
    references.append(
      ClientReference(*(np.int64(n) for n in (number, len(examples), *sizes)))
    )
    for part in client:
      examples += zip(part.features, part.labels.tolist(), strict=True)
  return core_support.write_store(
    path, info, examples, range(len(examples))
  ), references


@contextlib.contextmanager
def overwritten(store: ClientStore, first: int, count: int) -> Iterator[None]:
  """Puts other features and label 0 into some records, for a while."""
  path = pathlib.Path(store.path)
  before = path.read_bytes()
  features = np.full((count, *store.info.shape), 7.5, np.float32)
  spoilt = io.BytesIO()
  writer = client_store.RecordWriter(spoilt, np.arange(count), store.info)
  writer.add(Batch(features, np.zeros(count, np.int64)))
  writer.finish()
  with path.open("r+b") as file:
    file.seek(first * store.stored_record_bytes)
    file.write(spoilt.getvalue())
  try:
    yield
  finally:
    path.write_bytes(before)


def write_voters(folder: pathlib.Path) -> tuple[ClientStore, list[ClientReference]]:
  """Writes five clients with the same eight examples, for `perceptron`."""
  part = random_part(np.random.default_rng(3), 8, (3,), 2)
  nothing = make_part(np.zeros([0, 3]), [])
  return write_store(folder / "records", [Client(part, nothing)] * 5)


def voters_state() -> states.ServerState:
  """What they vote on: `perceptron` with four of twelve hidden weights active."""
  mask = np.isin(np.arange(20), [0, 4, 7, 9, *range(12, 20)])
  prunable = np.random.default_rng(4).normal(size=20)
  kept = np.where(mask, prunable, 0).astype(np.float32)
  others = (np.zeros(size, np.float32) for size in (6, 0, 0))
  return make_state(ModelWeights(kept, *others), mask)


def open_aggregations(computation: tff.Computation) -> set[str]:
  """Names the ways in which a computation's server sees what clients report."""
  proto = tff.framework.serialize_computation(computation).SerializeToString()
  ways = ("sum", "mean", "weighted_mean", "aggregate", "collect", "reduce")
  names = (f"federated_{way}" for way in ways)
  return {name for name in names if re.search(rb"\b" + name.encode() + rb"\b", proto)}


def linear_model() -> ModelDefinition:
  """Two inputs, two logits: 4 prunable weights, 2 biases."""

  def build() -> tf.keras.Model:
    inputs = tf.keras.Input([2])
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(inputs))

  return definition.define_model("linear", build, [["logits"]])


def perceptron() -> ModelDefinition:
  """3 inputs, 4 rectified units, 2 logits: 12 + 8 prunable weights, 6 biases."""

  def build() -> tf.keras.Model:
    inputs = tf.keras.Input([3])
    x = layers.Dense(4, activation="relu", name="hidden")(inputs)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

  return definition.define_model("perceptron", build, [["hidden"], ["logits"]])


def normalized_linear_model() -> ModelDefinition:
  """Batch norm on two inputs, then two logits.

  Momentum 0: after a step the running statistics are those of its mini-batch.
  """

  def build() -> tf.keras.Model:
    inputs = tf.keras.Input([2])
    x = layers.BatchNormalization(momentum=0.0, name="input_norm")(inputs)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

  return definition.define_model("normalized_linear", build, [["logits"]])


def normalized_perceptron() -> ModelDefinition:
  """Two batch norms, the first on the two inputs themselves."""

  def build() -> tf.keras.Model:
    inputs = tf.keras.Input([2])
    x = layers.BatchNormalization(momentum=0.9, name="input_norm")(inputs)
    x = layers.Dense(5, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(momentum=0.9, name="hidden_norm")(x)
    x = layers.ReLU(name="relu1")(x)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

  return definition.define_model(
    "normalized_perceptron", build, [["hidden"], ["logits"]]
  )


def small_cnn() -> ModelDefinition:
  """4x4 images, 3 logits, three batch norms, three blocks.

  Prunable: 54 (conv2) + 36 (conv3) + 20 (hidden) + 15 (logits) = 125 weights.
  Dense: 18 (stem) + 2 * (2 + 3 + 5) (batch norm) + 3 (bias) = 41 parameters.
  """

  def build() -> tf.keras.Model:
    inputs = tf.keras.Input([4, 4, 1])
    x = layers.Conv2D(2, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(momentum=0.9, name="norm1")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv2")(x)
    x = layers.BatchNormalization(momentum=0.9, name="norm2")(x)
    x = layers.ReLU(name="relu3")(x)
    x = layers.Conv2D(4, (1, 3), use_bias=False, name="conv3")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(5, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(momentum=0.9, name="norm3")(x)
    x = layers.ReLU(name="relu4")(x)
    return tf.keras.Model(inputs, layers.Dense(3, name="logits")(x))

  blocks = [["conv2"], ["conv3"], ["hidden", "logits"]]
  return definition.define_model("small_cnn", build, blocks)


def random_weights(model_definition: ModelDefinition, seed: int = 0) -> ModelWeights:
  """Draws every variable, also those that Keras starts at 0 or 1."""
  generator = np.random.default_rng(seed)
  model, prunable = model_definition.build(), model_definition.spec.size
  dense = sum(v.shape.num_elements() for v in model.trainable_variables) - prunable
  norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
  channels = sum(norm.moving_mean.shape.num_elements() for norm in norms)
  return ModelWeights(
    generator.normal(0.0, 0.5, prunable).astype(np.float32),
    generator.uniform(0.5, 1.0, dense).astype(np.float32),
    generator.normal(0.0, 0.3, channels).astype(np.float32),
    generator.uniform(0.5, 1.5, channels).astype(np.float32),
  )


def random_mask(
  model_definition: ModelDefinition, counts: Sequence[int], seed: int = 0
) -> np.ndarray:
  """Draws a mask with the given number of active weights in each layer."""
  generator = np.random.default_rng(seed)
  parts = [
    generator.permutation(np.arange(size) < count)
    for size, count in zip(model_definition.spec.sizes, counts, strict=True)
  ]
  return np.concatenate(parts)


def make_state(weights: ModelWeights, mask: np.ndarray) -> states.ServerState:
  """Masks the weights and starts at round 0."""
  prunable = np.where(mask, weights.prunable, np.float32(0.0))
  return states.ServerState(weights._replace(prunable=prunable), mask, np.int32(0))


def leaves(value) -> list[np.ndarray]:
  """Flattens nested tuples of tensors into arrays."""
  if isinstance(value, tuple | list):
    return [leaf for element in value for leaf in leaves(element)]
  if hasattr(value, "_asdict"):
    return leaves(list(value._asdict().values()))
  return [np.asarray(value)]


def to_bytes(value) -> bytes:
  """Joins the bytes of all tensors."""
  return b"".join(leaf.tobytes() for leaf in leaves(value))
