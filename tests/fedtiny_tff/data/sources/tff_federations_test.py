"""TFF's own federations, from small files of the same layout."""

import lzma
import sqlite3

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import sqlite_files, tff_federations
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

_ORIGIN = "https://storage.googleapis.com/tff-datasets-public/"


def _emnist_record(label, pixels):
  feature = {
    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    "pixels": tf.train.Feature(float_list=tf.train.FloatList(value=pixels.ravel())),
  }
  features = tf.train.Features(feature=feature)
  return tf.train.Example(features=features).SerializeToString()


def _cifar_record(label, pixels):
  numbers = {"label": [label], "coarse_label": [label // 5], "image": pixels.ravel()}
  feature = {
    name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    for name, values in numbers.items()
  }
  features = tf.train.Features(feature=feature)
  return tf.train.Example(features=features).SerializeToString()


def _write(path, rows):
  connection = sqlite3.connect(path)
  for statement in sqlite_files.SCHEMA:
    connection.execute(statement)
  connection.executemany(sqlite_files.INSERT_EXAMPLE, rows)
  connection.executemany(
    sqlite_files.INSERT_CLIENT, sorted({(client, name, 1) for name, client, _ in rows})
  )
  connection.commit()
  connection.close()
  return path


def _emnist(folder):
  """Writes two digits and a letter, TFF's own synthetic digits among them."""
  synthetic = tff.simulation.datasets.emnist.get_synthetic()
  digits = list(synthetic.create_tf_dataset_for_client("synthetic1"))
  rows = [
    ("all_train", "f0001_41", _emnist_record(37, np.full([28, 28], 0.25))),
    ("all_train", "f0000_14", _emnist_record(3, digits[3]["pixels"].numpy())),
    ("digits_only_train", "f0000_14", _emnist_record(3, digits[3]["pixels"].numpy())),
    ("all_test", "f0000_14", _emnist_record(9, digits[9]["pixels"].numpy())),
  ]
  return _write(folder / "emnist_all.sqlite", rows), digits


def test_emnist(tmp_path):
  path, digits = _emnist(tmp_path)
  for data_dir in (tmp_path, path):
    dataset = tff_federations.open_emnist(SourceOptions(data_dir=str(data_dir)))
    assert dataset.has_clients
    assert dataset.measures_inputs
    assert dataset.info.num_classes == 62
    # As TFF documents: 11 is "B", 37 is "b".
    assert dataset.info.class_names[11] == "B"
    assert dataset.info.class_names[37] == "b"
    (batch,) = dataset.read("train", examples.fail_on_bad_record)
    assert batch.features.shape == (2, 28, 28, 1)
    assert batch.features.dtype == np.float32
    assert np.asarray(batch.clients).tolist() == ["f0000_14", "f0001_41"]
    assert batch.labels.tolist() == [3, 37]
    # Paper stays 1 and ink 0.
    np.testing.assert_array_equal(batch.features[0, ..., 0], digits[3]["pixels"])
    assert batch.features[0, 0, 0, 0] == 1.0
    (batch,) = dataset.read("test", examples.fail_on_bad_record)
    assert batch.labels.tolist() == [9]


def test_cifar100(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3))
  rows = [
    ("train", "10", _cifar_record(99, pixels[0])),
    ("train", "0", _cifar_record(5, pixels[1])),
    ("test", "0", _cifar_record(7, pixels[2])),
  ]
  _write(tmp_path / "cifar100.sqlite", rows)
  dataset = tff_federations.open_cifar100_natural(SourceOptions(data_dir=str(tmp_path)))
  assert dataset.info.num_classes == 100
  assert not dataset.measures_inputs
  (batch,) = dataset.read("train", examples.fail_on_bad_record)
  np.testing.assert_array_equal(batch.features, pixels[[1, 0]])
  assert batch.features.dtype == np.uint8
  assert batch.labels.tolist() == [5, 99]
  assert np.asarray(batch.clients).tolist() == ["0", "10"]
  (batch,) = dataset.read("test", examples.fail_on_bad_record)
  np.testing.assert_array_equal(batch.features, pixels[2:])
  # Another client than that of training.
  assert np.asarray(batch.clients).tolist() == ["test 0"]


def test_a_client_may_have_the_same_example_twice(tmp_path):
  record = _emnist_record(1, np.ones([28, 28]))
  rows = [
    ("all_train", "a", record),
    ("all_train", "a", record),
    ("all_test", "a", record),
  ]
  _write(tmp_path / "emnist_all.sqlite", rows)
  dataset = tff_federations.open_emnist(SourceOptions(data_dir=str(tmp_path)))
  (batch,) = dataset.read("train", examples.fail_on_bad_record)
  assert batch.labels.tolist() == [1, 1]


def test_an_example_of_another_size_is_a_bad_record(tmp_path):
  rows = [
    ("all_train", "a", _emnist_record(1, np.ones([27, 28]))),
    ("all_test", "a", _emnist_record(62, np.ones([28, 28]))),
  ]
  path = _write(tmp_path / "emnist_all.sqlite", rows)
  dataset = tff_federations.open_emnist(SourceOptions(data_dir=str(tmp_path)))
  bad: list[examples.BadRecord] = []
  assert not [*dataset.read("train", bad.append), *dataset.read("test", bad.append)]
  assert [str(record) for record in bad] == [
    f"{path}, record 'a' row 1, field pixels: holds 756 values, expected 784",
    f"{path}, record 'a' row 2, field label: 62 is not in [0, 62)",
  ]


@pytest.mark.parametrize(
  ("open_dataset", "name", "file_name"),
  [
    (tff_federations.open_emnist, "emnist", "emnist_all.sqlite"),
    (tff_federations.open_cifar100_natural, "cifar100_natural", "cifar100.sqlite"),
  ],
)
def test_a_missing_file_is_said_to_come_from_where(
  tmp_path, open_dataset, name, file_name
):
  origin = (
    f"; TFF publishes it as {_ORIGIN}{file_name}.lzma; unpack that with xz --decompress "
    f"--keep {file_name}.lzma"
  )
  with pytest.raises(InputError) as caught:
    open_dataset(SourceOptions())
  assert str(caught.value) == (
    f"dataset {name} needs --data_dir: the folder of {file_name}{origin}"
  )
  with pytest.raises(InputError) as caught:
    open_dataset(SourceOptions(data_dir=str(tmp_path)))
  assert (
    str(caught.value) == f"dataset {name}: {tmp_path}/{file_name} not found{origin}"
  )


def test_a_packed_file_is_to_be_unpacked_first(tmp_path):
  folder = tmp_path / "a b"
  folder.mkdir()
  path, _ = _emnist(folder)
  packed = folder / "emnist_all.sqlite.lzma"
  packed.write_bytes(lzma.compress(path.read_bytes(), format=lzma.FORMAT_ALONE))
  path.unlink()
  for data_dir in (folder, packed, path):
    with pytest.raises(
      InputError, match="is packed; unpack it first: xz --dec"
    ) as caught:
      tff_federations.open_emnist(SourceOptions(data_dir=str(data_dir)))
  command = str(caught.value).partition("first: ")[2]
  assert command == f"xz --decompress --keep '{packed}'"
  path.write_bytes(lzma.decompress(packed.read_bytes()))
  assert tff_federations.open_emnist(SourceOptions(data_dir=str(folder))).has_clients


def test_a_file_without_the_splits_is_refused(tmp_path):
  _write(
    tmp_path / "emnist_all.sqlite",
    [("all_train", "a", _emnist_record(1, np.ones([28, 28])))],
  )
  with pytest.raises(
    InputError, match="no rows with split_name 'all_test'; its splits"
  ):
    tff_federations.open_emnist(SourceOptions(data_dir=str(tmp_path)))


def test_images_are_not_resized(tmp_path):
  options = SourceOptions(data_dir=str(tmp_path), image_size=(32, 32))
  with pytest.raises(
    InputError, match="--image_size: images of dataset emnist are used"
  ):
    tff_federations.open_emnist(options)
