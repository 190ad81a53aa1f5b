"""The datasets by name."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.data.examples import Dataset, DatasetInfo, Example, Preprocessing
from fedtiny_tff.errors import InputError

# The embedded digits have no split of their own; this one never changes, so the
# test examples are the same for every seed.
_DIGITS_TEST_SHARE = 0.2
_DIGITS_SPLIT_SEED = 20221201

_CIFAR10_CLASSES = (
  "airplane", "automobile", "bird", "cat", "deer",
  "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def _digits(data_dir: Optional[str]) -> Dataset:
  """The 1,797 8×8 digits inside scikit-learn's wheel (UCI optical digits)."""
  del data_dir  # Embedded.
  from sklearn import datasets  # noqa: PLC0415 - a slow import only digits need

  bunch = datasets.load_digits()
  features = bunch.images.astype(np.uint8)[..., np.newaxis]
  labels = bunch.target.astype(np.int64)
  generator = np.random.default_rng(_DIGITS_SPLIT_SEED)
  is_test = np.zeros(len(labels), dtype=bool)
  for label in range(10):
    members = generator.permutation(np.flatnonzero(labels == label))
    is_test[members[: round(len(members) * _DIGITS_TEST_SHARE)]] = True

  def stream(chosen: np.ndarray) -> Callable[[], Iterator[Example]]:
    indices = np.flatnonzero(chosen)
    return lambda: ((features[i], int(labels[i])) for i in indices)

  info = DatasetInfo(
    name="digits",
    shape=(8, 8, 1),
    feature_type="uint8",
    class_names=tuple(str(digit) for digit in range(10)),
    preprocessing=Preprocessing(scale=1 / 16, mean=(0.3,), deviation=(0.38,)),
  )
  return Dataset(info, labels[~is_test], stream(~is_test), stream(is_test))


def _cifar10(data_dir: Optional[str]) -> Dataset:
  """CIFAR-10 from `train.tfrecord` and `test.tfrecord` (image: encoded, label)."""
  if not data_dir:
    raise InputError(
      "dataset cifar10 needs --data_dir: a folder with train.tfrecord and "
      "test.tfrecord (features image: encoded bytes, label: int64)"
    )
  folder = pathlib.Path(data_dir)
  for name in ("train.tfrecord", "test.tfrecord"):
    if not (folder / name).is_file():
      raise InputError(f"dataset cifar10: {folder / name} not found; check --data_dir")
  spec = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
  }

  def stream(name: str) -> Iterator[Example]:
    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      example = tf.io.parse_single_example(record, spec)
      image = tf.io.decode_image(example["image"], 3, expand_animations=False)
      return tf.ensure_shape(image, [32, 32, 3]), example["label"]

    records = tf.data.TFRecordDataset(str(folder / name))
    images = records.map(decode, num_parallel_calls=2).prefetch(64)
    for image, label in images.as_numpy_iterator():
      yield image, int(label)

  labels = [
    int(tf.io.parse_single_example(record, spec)["label"])
    for record in tf.data.TFRecordDataset(str(folder / "train.tfrecord"))
  ]
  info = DatasetInfo(
    name="cifar10",
    shape=(32, 32, 3),
    feature_type="uint8",
    class_names=_CIFAR10_CLASSES,
    preprocessing=Preprocessing(
      scale=1 / 255,
      mean=(0.4914, 0.4822, 0.4465),
      deviation=(0.2470, 0.2435, 0.2616),
    ),
  )
  return Dataset(
    info,
    np.asarray(labels, np.int64),
    lambda: stream("train.tfrecord"),
    lambda: stream("test.tfrecord"),
  )


SOURCES: dict[str, Callable[[Optional[str]], Dataset]] = {
  "digits": _digits,
  "cifar10": _cifar10,
}


def load(name: str, data_dir: Optional[str]) -> Dataset:
  """Opens a dataset.

  Args:
    name: Key of `SOURCES`.
    data_dir: Folder of its files; unused by embedded datasets.

  Raises:
    InputError: When the name is unknown or files are missing.
  """
  if name not in SOURCES:
    raise InputError(f"unknown dataset {name!r}: choose one of {', '.join(SOURCES)}")
  return SOURCES[name](data_dir)
