"""Small models, masks and stores that the tests of the core share."""

import functools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data import client_store
from fedtiny_tff.data.examples import Batch, DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base

IMAGE_SHAPE = (4, 4, 1)
NUM_CLASSES = 3
_AS_STORED = Preprocessing(1.0, (0.0,), (1.0,))

# Deterministic, so that a run of the suite is the same everywhere.
quick = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)


def build_cnn() -> tf.keras.Model:
  """Builds 4x4x1 to 3 logits, with two batch norms.

  Prunable: conv2 [3, 3, 2, 3] (54 weights) and logits [3, 3] (9 weights).
  """
  layers = tf.keras.layers
  inputs = layers.Input(IMAGE_SHAPE)
  x = layers.Conv2D(2, 3, padding="same", use_bias=False, name="conv1")(inputs)
  x = layers.BatchNormalization(momentum=0.9, name="batch_norm1")(x)
  x = layers.ReLU(name="relu1")(x)
  x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv2")(x)
  x = layers.BatchNormalization(momentum=0.9, name="batch_norm2")(x)
  x = layers.ReLU(name="relu2")(x)
  x = layers.GlobalAveragePooling2D(name="pool")(x)
  return tf.keras.Model(inputs, layers.Dense(NUM_CLASSES, name="logits")(x))


def build_linear() -> tf.keras.Model:
  """Builds one prunable Dense layer, 2 features to 2 logits, without bias."""
  inputs = tf.keras.layers.Input((2,))
  outputs = tf.keras.layers.Dense(2, use_bias=False, name="logits")(inputs)
  return tf.keras.Model(inputs, outputs)


@functools.cache
def cnn() -> definition.ModelDefinition:
  """Returns the small network in two blocks, one layer each."""
  return definition.define_model("tiny_cnn", build_cnn, (("conv2",), ("logits",)))


def blocked_cnn(channel_block: int) -> definition.ModelDefinition:
  """Returns the small network with weights that are pruned in groups."""
  whole = cnn()
  spec = whole.spec.with_channel_block(channel_block)
  return definition.ModelDefinition("tiny_cnn", whole.build, spec)


@functools.cache
def linear() -> definition.ModelDefinition:
  """Returns the linear model."""
  return definition.define_model("linear", build_linear)


def floats(values: Sequence) -> np.ndarray:
  """Returns float32, of any shape."""
  return np.asarray(values, np.float32)


def spec_of_sizes(
  *sizes: int, blocks: Sequence[Sequence[int]] = ()
) -> spec_lib.PrunableSpec:
  """Returns layers with these numbers of weights; one block each by default."""
  return spec_lib.PrunableSpec(
    tuple(spec_lib.LayerSpec(f"layer{i}", (size,)) for i, size in enumerate(sizes)),
    tuple(tuple(b) for b in blocks) or tuple((i,) for i in range(len(sizes))),
  )


def movable_groups(
  generator: np.random.Generator, spec: spec_lib.PrunableSpec, mask: np.ndarray
) -> list[int]:
  """Draws for each layer how many groups an event may move."""
  counts = []
  for layer, count in zip(spec.layers, spec.active_counts(mask), strict=True):
    active = count * layer.groups // layer.size
    counts.append(int(generator.integers(0, min(active, layer.groups - active) + 1)))
  return counts


def pretrained(prunable: np.ndarray, spec: spec_lib.PrunableSpec) -> base.Pretrained:
  """Returns what a server without samples knows, of a model that is never built."""
  nothing = np.zeros([0], np.float32)
  weights = ModelWeights(prunable, nothing, nothing, nothing)
  public = (np.zeros([0, 1], np.float32), np.zeros([0], np.int64))
  named = definition.ModelDefinition("never built", build_linear, spec)
  return base.Pretrained(named, weights, public)


def random_weights(
  model_definition: definition.ModelDefinition, seed: int = 0
) -> ModelWeights:
  """Draws weights as after training: no zero, no statistic at its start value."""
  generator = np.random.default_rng(seed)
  model = model_definition.build()
  prunable = model_definition.spec.size
  dense = sum(v.shape.num_elements() for v in model.trainable_variables) - prunable
  channels = sum(
    layer.moving_mean.shape[0]
    for layer in model.layers
    if isinstance(layer, tf.keras.layers.BatchNormalization)
  )

  def draw(size: int, low: float, high: float) -> tf.Tensor:
    return tf.constant(generator.uniform(low, high, size), tf.float32)

  return ModelWeights(
    prunable=draw(prunable, 0.1, 0.6) * tf.sign(draw(prunable, -1.0, 1.0)),
    dense=draw(dense, 0.2, 0.9),
    batch_norm_mean=draw(channels, -0.3, 0.3),
    batch_norm_variance=draw(channels, 0.5, 1.5),
  )


def random_mask(size: int, active: int, seed: int = 0) -> tf.Tensor:
  """Draws a mask with exactly `active` True."""
  mask = np.zeros(size, dtype=bool)
  mask[np.random.default_rng(seed).permutation(size)[:active]] = True
  return tf.constant(mask)


def plain_model(
  model_definition: definition.ModelDefinition, weights: ModelWeights, mask: tf.Tensor
) -> tf.keras.Model:
  """Builds an ordinary Keras model whose kernels are multiplied by the mask.

  Written without the adapter under test: layer by layer, by name.
  """
  model = model_definition.build()
  spec = model_definition.spec
  names = [layer.name for layer in spec.layers]
  prunable = np.asarray(weights.prunable) * np.asarray(mask)
  rest = {
    "dense": np.asarray(weights.dense),
    "mean": np.asarray(weights.batch_norm_mean),
    "variance": np.asarray(weights.batch_norm_variance),
  }

  def take(kind: str, variable: tf.Variable) -> None:
    count = variable.shape.num_elements()
    variable.assign(rest[kind][:count].reshape(variable.shape))
    rest[kind] = rest[kind][count:]

  for layer in model.layers:
    kernel = layer.kernel if layer.name in names else None
    if kernel is not None:
      part = prunable[spec.slice(names.index(layer.name))]
      kernel.assign(part.reshape(kernel.shape))
    for variable in layer.trainable_variables:
      if variable is not kernel:
        take("dense", variable)
    if isinstance(layer, tf.keras.layers.BatchNormalization):
      take("mean", layer.moving_mean)
      take("variance", layer.moving_variance)
  assert not any(len(left) for left in rest.values())
  return model


def labelled_records(
  features: np.ndarray, labels: np.ndarray
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns (records, labels): a record is a label and then the features."""
  count = len(features)
  flat = np.concatenate(
    [np.asarray(labels, np.float32)[:, np.newaxis], features.reshape(count, -1)], 1
  )
  return tf.constant(flat, tf.float32), tf.constant(labels, tf.int64)


def decode_images(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Decodes records of `labelled_records` for `cnn`."""
  features = tf.reshape(records[:, 1:], [-1, *IMAGE_SHAPE])
  return features, tf.cast(records[:, 0], tf.int64)


def decode_vectors(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Decodes records of `labelled_records` for `linear`."""
  return records[:, 1:], tf.cast(records[:, 0], tf.int64)


def random_images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Draws images for `cnn` and labels."""
  generator = np.random.default_rng(seed)
  features = generator.normal(size=(count, *IMAGE_SHAPE)).astype(np.float32)
  return features, generator.integers(0, NUM_CLASSES, count)


def quick_models(names: Iterable[str]) -> list[Any]:
  """Returns parameters of a test by model; deep ones are left to the slow tests."""
  slow = pytest.mark.slow
  # The MobileNetV1 that stays differs from the other in padding and channels alone.
  deep = ("mobilenet_v1_sparse", "mobilenet_v2_sparse")
  return [pytest.param(name, marks=slow) if name in deep else name for name in names]


def dataset_info(
  shape: tuple[int, ...],
  feature_type: str = "uint8",
  preprocessing: Preprocessing = _AS_STORED,
) -> DatasetInfo:
  """Returns static facts; preprocessing changes nothing by default."""
  return DatasetInfo("toy", shape, feature_type, ("a", "b", "c"), preprocessing)


def write_store(
  path: pathlib.Path,
  info: DatasetInfo,
  examples: Sequence[tuple[np.ndarray, int]],
  order: Sequence[int] | np.ndarray,
) -> client_store.ClientStore:
  """Writes examples and opens the store."""
  features, labels = (np.stack(each) for each in zip(*examples, strict=True))
  with path.open("wb") as file:
    writer = client_store.RecordWriter(file, np.asarray(order), info)
    writer.add(Batch(features, labels.astype(np.int64)))
    writer.finish()
  return client_store.ClientStore(str(path), info, len(order))
