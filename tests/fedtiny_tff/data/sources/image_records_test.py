"""The standard sets from TFRecord files, whole or with bad records in them."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data import examples
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.sources import image_records
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import records

_GENERATOR = np.random.default_rng(0)
_IMAGES = _GENERATOR.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
_HAS_TFDS = importlib.util.find_spec("tensorflow_datasets") is not None


def _records(images, labels, encode=records.png):
  return [
    records.example(image=encode(image), label=label)
    for image, label in zip(images, labels, strict=True)
  ]


def _open(folder, name="cifar10", **options):
  return image_records.open_standard(name, SourceOptions(str(folder), **options))


def test_a_set_is_read_any_number_of_times(tmp_path):
  records.write(tmp_path / "train.tfrecord", _records(_IMAGES[:3], [7, 0, 9]))
  records.write(tmp_path / "test.tfrecord", _records(_IMAGES[3:5], [1, 2]))
  dataset = _open(tmp_path)
  assert (dataset.info.name, dataset.info.shape) == ("cifar10", (32, 32, 3))
  assert (dataset.has_clients, dataset.measures_inputs) == (False, False)
  for _ in range(2):
    images, labels, _, bad = records.read(dataset)
    np.testing.assert_array_equal(images, _IMAGES[:3])
    assert images.dtype == dataset.info.feature_type == "uint8"
    assert (labels.tolist(), labels.dtype, bad) == ([7, 0, 9], np.int64, [])
  assert records.read(dataset, "test")[1].tolist() == [1, 2]


@pytest.mark.parametrize(
  ("name", "last"), [("cifar100", 99), ("svhn", 9), ("cinic10", 9)]
)
def test_each_set_has_its_own_labels(tmp_path, name, last):
  records.write(tmp_path / "train.tfrecord", _records(_IMAGES[:1], [last]))
  records.write(tmp_path / "test.tfrecord", _records(_IMAGES[:1], [last + 1]))
  dataset = _open(tmp_path, name)
  assert records.read(dataset)[1].tolist() == [last]
  assert [str(bad) for bad in records.read(dataset, "test")[3]] == [
    f"{tmp_path}/test.tfrecord, record 0, field label: {last + 1} is not in "
    f"[0, {last + 1})"
  ]


def test_shards_are_read_in_the_order_of_their_names(tmp_path):
  for number in (10, 2, 1):
    path = tmp_path / f"train-{number:05d}-of-00011.tfrecord"
    records.write(path, _records(_IMAGES[:1], [number % 10]))
  records.write(tmp_path / "test-a.tfrecord", _records(_IMAGES[:1], [5]))
  dataset = _open(tmp_path)
  assert records.read(dataset)[1].tolist() == [1, 2, 0]
  assert records.read(dataset, "test")[1].tolist() == [5]


def test_images_are_resized_on_request(tmp_path):
  grey = np.full((32, 32, 3), 77, np.uint8)
  for split in ("train", "test"):
    records.write(tmp_path / f"{split}.tfrecord", _records([grey, grey], [0, 1]))
  dataset = _open(tmp_path, image_size=(8, 4))
  assert dataset.info.shape == (8, 4, 3)
  assert dataset.info.preprocessing.extraction == Resize(8, 4)
  images = records.read(dataset)[0]
  assert images.shape == (2, 8, 4, 3)
  assert (images == 77).all()


def test_every_bad_record_is_found_and_the_others_are_read(tmp_path):
  good = _records(_IMAGES, [0, 1, 2, 3, 4, 5])
  path = tmp_path / "train.tfrecord"
  content = [
    good[0],
    records.example(image=b"no image", label=1),
    good[1],
    records.example(image=records.png(_IMAGES[0, :8]), label=1),
    records.example(image=records.png(_IMAGES[0]), label=-1),
    records.example(image=records.png(_IMAGES[0])),
    b"\xff",
    good[2],
    records.example(label=3),
    good[3],
    good[4],
    good[5],
  ]
  records.write(path, content)
  records.damage(path, 10)
  records.write(tmp_path / "test.tfrecord", good)
  dataset = _open(tmp_path)
  images, labels, _, bad = records.read(dataset)
  assert labels.tolist() == [0, 1, 2, 3]
  np.testing.assert_array_equal(images, _IMAGES[:4])
  assert [(each.file, each.record, each.field) for each in bad] == [
    (str(path), 1, "image"),
    (str(path), 3, "image"),
    (str(path), 4, "label"),
    (str(path), 5, "label"),
    (str(path), 6, None),
    (str(path), 8, "image"),
    (str(path), 10, None),
  ]
  assert [each.reason for each in bad[1:4]] == [
    "is 8x32 pixels, expected 32x32; images are resized with --image_size",
    "-1 is not in [0, 10)",
    "is missing",
  ]
  with pytest.raises(
    InputError, match=r"record 1, field image: .*--on_bad_record=skip"
  ):
    list(dataset.read("train", examples.fail_on_bad_record))


def test_a_damaged_shard_does_not_end_the_split(tmp_path):
  for number in (0, 1):
    shard = tmp_path / f"train-{number}.tfrecord"
    records.write(shard, _records(_IMAGES[:3], [number] * 3))
  records.damage(tmp_path / "train-0.tfrecord", 1)
  records.write(tmp_path / "test.tfrecord", _records(_IMAGES[:1], [0]))
  _, labels, _, bad = records.read(_open(tmp_path))
  assert labels.tolist() == [0, 1, 1, 1]
  assert [(each.file, each.record) for each in bad] == [
    (str(tmp_path / "train-0.tfrecord"), 1)
  ]


def test_any_format_is_read(tmp_path):
  def jpeg(image):
    return tf.io.encode_jpeg(image, quality=100).numpy()

  smooth = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None], (32, 32, 3))
  for split in ("train", "test"):
    records.write(tmp_path / f"{split}.tfrecord", _records([smooth], [0], jpeg))
  images = records.read(_open(tmp_path))[0]
  assert np.abs(images[0].astype(int) - smooth).max() <= 2


@pytest.mark.parametrize("data_dir", [None, ""])
def test_a_missing_flag_says_what_is_wanted(data_dir):
  with pytest.raises(
    InputError, match=r"cinic10 needs --data_dir: a folder with train"
  ):
    image_records.open_standard("cinic10", SourceOptions(data_dir))


def test_a_folder_that_is_none_is_named(tmp_path):
  with pytest.raises(
    InputError, match=r"cifar10: .*/gone is no folder; check --data_dir"
  ):
    _open(tmp_path / "gone")


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_split_is_named(tmp_path, missing):
  for name in {"train", "test"} - {missing}:
    records.write(tmp_path / f"{name}.tfrecord", [])
  message = rf"dataset cifar10: .*/{missing}.tfrecord not found; check --data_dir"
  with pytest.raises(InputError, match=message):
    _open(tmp_path)


def test_a_file_beside_its_shards_is_refused(tmp_path):
  for name in ("train", "train-0", "test"):
    records.write(tmp_path / f"{name}.tfrecord", [])
  with pytest.raises(
    InputError, match=r"has train.tfrecord and train-0.tfrecord; remove"
  ):
    _open(tmp_path)


@pytest.mark.skipif(
  _HAS_TFDS, reason="tensorflow_datasets is installed and would fetch"
)
def test_an_empty_folder_says_both_ways_to_the_data(tmp_path):
  message = (
    r"dataset svhn: .* holds no such file; --data_dir must be a folder with "
    r"train\.tfrecord and test\.tfrecord .* pip install tensorflow-datasets"
  )
  with pytest.raises(InputError, match=message) as error:
    _open(tmp_path, "svhn")
  assert "\n" not in str(error.value)


def test_pickled_batches_are_refused(tmp_path):
  (tmp_path / "data_batch_1").write_bytes(b"\x80\x04N.")
  with pytest.raises(InputError, match=r"data_batch_1 is a pickle: .*make_dataset"):
    _open(tmp_path)


def test_grey_is_refused(tmp_path):
  with pytest.raises(
    InputError, match="cifar10 is in colour: --image_channels must be 3"
  ):
    _open(tmp_path, image_channels=1)
