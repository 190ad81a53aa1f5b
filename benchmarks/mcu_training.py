"""MLPerf Tiny's four models, trained for minutes on CIFAR-10 to a tenth of the weights.

CIFAR-10's images, cut to what each model takes:

- `resnet8`: as they are, 10 classes.
- `ds_cnn`: grey, resized to 49×10, 10 classes.
- `mobilenet_v1_025`: resized to 96×96, animal or vehicle.
- `autoencoder`: grey, resized to 32×20 and flat; trained on airplanes, trucks are the
  anomalies.

Dense training, a magnitude mask of uniform layer densities, masked training; figures are
low after minutes, but clearly above chance.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from benchmarks import cifar10
from fedtiny_tff import seeds, tasks
from fedtiny_tff.data.examples import TEST, TRAIN, Dataset, fail_on_bad_record
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.local_training import batches, learning_rates, optimizers, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import candidates, densities

DENSITY = 0.1
_TRAINING_IMAGES = 20_000
# Of the images after those that train: they calibrate and decide.
_HELD_OUT_IMAGES = 6_000
_BATCH_SIZE = 64
_LEARNING_RATE = 0.003
_VEHICLES = (0, 1, 8, 9)
_AIRPLANE, _TRUCK = 0, 9


class Images(NamedTuple):
  """A part of the data set.

  Attributes:
    images: uint8 [N, 32, 32, 3].
    labels: int64 [N].
  """

  images: np.ndarray
  labels: np.ndarray


class Data(NamedTuple):
  """What trains, what calibrates and decides, and what is only for final figures."""

  training: Images
  held_out: Images
  test: Images


def _coloured(images: tf.Tensor) -> tf.Tensor:
  """Returns images in [-1, 1]."""
  return tf.cast(images, tf.float32) / 127.5 - 1.0


def _grey(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
  grey = tf.reduce_mean(_coloured(images), axis=-1, keepdims=True)
  return tf.image.resize(grey, (height, width))


@dataclasses.dataclass(frozen=True)
class Case:
  """A model of MLPerf Tiny and what it is trained for.

  Attributes:
    model: Key of `registry.MODELS`.
    features: From uint8 [n, 32, 32, 3] to the model's inputs.
    label_of: From CIFAR-10's class to the label; classes that are not named are left
      out. Without classes, 1 is an anomaly, which is never trained on.
    dense_epochs: Before pruning.
    masked_epochs: After it.
  """

  model: str
  features: Callable[[tf.Tensor], tf.Tensor]
  label_of: dict[int, int]
  dense_epochs: int
  masked_epochs: int

  @property
  def definition(self) -> definition.ModelDefinition:
    """The model for these inputs and labels."""
    shape = self.features(tf.zeros([1, 32, 32, 3], tf.uint8)).shape[1:]
    classes = len(set(self.label_of.values()))
    return registry.get_model(self.model, tuple(shape), classes)

  @property
  def task(self) -> tasks.Task:
    """What the model is for."""
    return registry.task_of(self.model)

  def chosen(self, part: Images, with_anomalies: bool) -> Images:
    """Returns a part's images of the classes wanted, with the case's labels."""
    labels = np.array([self.label_of.get(int(each), -1) for each in part.labels])
    kept = labels >= 0
    if not (self.task.has_classes or with_anomalies):
      kept = labels == 0
    return Images(part.images[kept], labels[kept].astype(np.int64))


_SAME = {label: label for label in range(10)}
CASES = (
  Case("resnet8", _coloured, _SAME, 5, 10),
  Case("ds_cnn", lambda images: _grey(images, 49, 10), _SAME, 8, 16),
  Case(
    "mobilenet_v1_025",
    lambda images: tf.image.resize(_coloured(images), (96, 96)),
    {label: int(label in _VEHICLES) for label in range(10)},
    3,
    6,
  ),
  Case(
    "autoencoder",
    lambda images: tf.reshape(_grey(images, 32, 20), [-1, 640]),
    {_AIRPLANE: 0, _TRUCK: 1},
    50,
    100,
  ),
)


def read_images() -> Data:
  """Reads what is used of CIFAR-10."""
  dataset = sources.load("cifar10", SourceOptions(str(cifar10.DATA_DIR)))
  first = _first(dataset, TRAIN, _TRAINING_IMAGES + _HELD_OUT_IMAGES)
  training_part, held_out = (
    Images(*(array[chosen] for array in first))
    for chosen in (slice(_TRAINING_IMAGES), slice(_TRAINING_IMAGES, None))
  )
  return Data(training_part, held_out, _first(dataset, TEST, None))


def _first(dataset: Dataset, split: str, count: Optional[int]) -> Images:
  batches_ = list(dataset.read(split, fail_on_bad_record))
  images, labels = (
    np.concatenate([getattr(batch, name) for batch in batches_])[:count]
    for name in ("features", "labels")
  )
  return Images(images, labels)


def train(case: Case, part: Images) -> tuple[tf.keras.Model, dict[str, np.ndarray]]:
  """Trains densely, prunes, and trains what is left.

  Args:
    case: The model and the epochs.
    part: Training images, with the case's labels.

  Returns:
    The plain Keras model, pruned weights zero, and its masks by layer.
  """
  found = case.definition
  images, labels = (tf.constant(array) for array in part)

  def decode(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return case.features(tf.gather(images, places)), tf.gather(labels, places)

  config = training.TrainingConfig(
    optimizers.OptimizerConfig("adam", _LEARNING_RATE, clip_norm=5.0), 1, _BATCH_SIZE
  )
  trainer = training.LocalTrainer(found, config, decode)
  places = tf.range(len(part.labels))

  def trained(weights: ModelWeights, mask: np.ndarray, epochs: int) -> ModelWeights:
    for epoch in range(epochs):
      rate = learning_rates.learning_rate("cosine", _LEARNING_RATE, epoch, epochs)
      order = seeds.generator(0, "mcu accuracy", epochs, epoch).integers(0, 2**31, 2)
      examples = batches.shuffled(places, 1, tf.constant(order, tf.int32))
      weights, _ = trainer.train(
        weights, tf.constant(mask), examples, tf.constant(rate, tf.float32)
      )
    return weights

  whole = np.ones(found.spec.size, bool)
  start = tfmot_masking.initial_weights(found, 0)
  dense = trained(start, whole, case.dense_epochs)
  counts = densities.uniform_counts(found.spec, DENSITY, np.random.default_rng(0))
  mask = candidates.magnitude_mask_by_layer(dense.prunable.numpy(), found.spec, counts)
  sparse = trained(dense, mask, case.masked_epochs)
  holder = tfmot_masking.MaskedModel(found)
  holder.assign(sparse, tf.constant(mask))
  return tfmot_masking.strip(holder), found.spec.masks_by_layer(mask)
