"""Datasets by name: fixed splits, streams that can be started again, clear errors."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data import sources
from fedtiny_tff.errors import InputError


@pytest.fixture(name="digits", scope="module")
def _digits():
  return sources.load("digits", None)


def test_digits_have_a_fixed_split(digits):
  train, test = list(digits.train()), list(digits.test())
  # 1,797 in all, of each class a fifth (rounded) for testing.
  assert len(train) + len(test) == 1797
  labels = np.array([label for _, label in train])
  np.testing.assert_array_equal(labels, digits.labels)
  held_out = np.bincount([label for _, label in test])
  in_all = np.bincount(labels) + held_out
  assert held_out.tolist() == [round(0.2 * n) for n in in_all.tolist()]
  again = sources.load("digits", None)
  np.testing.assert_array_equal(again.labels, digits.labels)


def test_a_stream_can_be_started_again_and_has_its_declared_form(digits):
  for features, label in itertools.islice(digits.train(), 3):
    assert features.shape == digits.info.shape == (8, 8, 1)
    assert features.dtype == np.dtype(digits.info.feature_type) == np.uint8
    assert isinstance(label, int)
  first, _ = next(digits.train())
  second, _ = next(digits.train())
  np.testing.assert_array_equal(first, second)
  assert digits.info.num_classes == 10
  assert digits.labels.dtype == np.int64


def test_preprocessed_digits_are_near_mean_zero_and_deviation_one(digits):
  features = np.stack([f for f, _ in digits.train()])
  inputs = digits.info.preprocessing.apply(features)
  assert abs(inputs.mean()) < 0.05
  assert abs(inputs.std() - 1.0) < 0.05


def _write_cifar(path, images, labels, encode=tf.io.encode_png):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for image, label in zip(images, labels, strict=True):
      feature = {
        "image": tf.train.Feature(
          bytes_list=tf.train.BytesList(value=[encode(image).numpy()])
        ),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
      }
      example = tf.train.Example(features=tf.train.Features(feature=feature))
      writer.write(example.SerializeToString())


def test_cifar10_reads_encoded_images(tmp_path):
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
  _write_cifar(tmp_path / "train.tfrecord", images[:3], [7, 0, 9])
  _write_cifar(tmp_path / "test.tfrecord", images[3:], [1, 2])
  dataset = sources.load("cifar10", str(tmp_path))
  assert dataset.labels.tolist() == [7, 0, 9]
  assert dataset.labels.dtype == np.int64
  assert dataset.info.shape == (32, 32, 3)
  assert dataset.info.num_classes == 10
  for _ in range(2):
    seen = list(dataset.train())
    np.testing.assert_array_equal(np.stack([f for f, _ in seen]), images[:3])
    assert [label for _, label in seen] == [7, 0, 9]
  assert [label for _, label in dataset.test()] == [1, 2]


def test_an_image_of_another_size_is_an_error(tmp_path):
  small = np.zeros([1, 8, 8, 3], np.uint8)
  for name in ("train", "test"):
    _write_cifar(tmp_path / f"{name}.tfrecord", small, [0])
  dataset = sources.load("cifar10", str(tmp_path))
  with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
    next(dataset.train())


def test_cifar10_without_a_folder_says_what_it_needs():
  for data_dir in (None, ""):
    with pytest.raises(InputError, match="cifar10 needs --data_dir: a folder with"):
      sources.load("cifar10", data_dir)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_file_is_named(tmp_path, missing):
  for name in {"train", "test"} - {missing}:
    _write_cifar(tmp_path / f"{name}.tfrecord", [], [])
  message = rf"dataset cifar10: .*{missing}.tfrecord not found; check --data_dir"
  with pytest.raises(InputError, match=message):
    sources.load("cifar10", str(tmp_path))


def test_an_unknown_name_is_refused_with_the_known_ones():
  message = "unknown dataset 'mnist': choose one of digits, cifar10"
  with pytest.raises(InputError, match=message):
    sources.load("mnist", None)
