"""Clients' own records: images or features, split or not, good or bad."""

import gzip
import json
import math

import numpy as np
import pytest

from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.sources import client_records
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import records

_GENERATOR = np.random.default_rng(0)
_IMAGES = _GENERATOR.integers(0, 256, (4, 5, 4, 3)).astype(np.uint8)


def _features(client, label, values=(1.0, 2.0)):
  return records.example(client_id=client, label=label, features=list(values))


def _image(client, label, image):
  return records.example(client_id=client, label=label, image=records.png(image))


def _write(folder, splits, shape=(2,), **more):
  """Writes a file per split and dataset.json."""
  for split, content in splits.items():
    records.write(folder / f"{split}.tfrecord", content)
  description = {
    "shape": list(shape),
    "classes": ["a", "b", "c"],
    "splits": {split: [f"{split}.tfrecord"] for split in splits},
    **more,
  }
  (folder / "dataset.json").write_text(json.dumps(description))


def _open(folder, **options):
  return client_records.open_client_tfrecord(SourceOptions(str(folder), **options))


def test_features_are_read_row_by_row(tmp_path):
  train = [
    _features(b"bo", 2, range(6)),
    _features("zoë".encode(), 0, [0.5, -1, 1e-3, 4, 5, 6]),
  ]
  _write(tmp_path, {"train": train, "test": [_features(b"bo", 1, [7] * 6)]}, (2, 3))
  dataset = _open(tmp_path)
  assert (dataset.info.shape, dataset.info.feature_type) == ((2, 3), "float32")
  assert dataset.info.class_names == ("a", "b", "c")
  assert (dataset.has_clients, dataset.measures_inputs) == (True, True)
  assert dataset.info.preprocessing.scale == 1
  for _ in range(2):
    features, labels, clients, bad = records.read(dataset)
    assert features.dtype == np.float32
    assert features[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(
      features[1], np.array([[0.5, -1, 1e-3], [4, 5, 6]], np.float32)
    )
    assert (labels.tolist(), clients, bad) == ([2, 0], ["bo", "zoë"], [])
  assert records.read(dataset, "test")[1:3] == (np.array([1]), ["bo"])


def test_images_are_read(tmp_path):
  train = [_image(b"c", label, image) for label, image in enumerate(_IMAGES[:3])]
  test = [_image(b"d", 2, _IMAGES[3])]
  _write(tmp_path, {"train": train, "test": test}, (5, 4, 3))
  dataset = _open(tmp_path)
  assert (dataset.info.shape, dataset.info.feature_type) == ((5, 4, 3), "uint8")
  assert math.isclose(dataset.info.preprocessing.scale, 1 / 255)
  features, labels, clients, _ = records.read(dataset)
  np.testing.assert_array_equal(features, _IMAGES[:3])
  assert (labels.tolist(), clients) == ([0, 1, 2], ["c"] * 3)
  np.testing.assert_array_equal(records.read(dataset, "test")[0], _IMAGES[3:])


def test_images_are_resized_on_request(tmp_path):
  flat = [np.full(size, 9, np.uint8) for size in ((5, 4, 3), (9, 3, 3))]
  _write(tmp_path, {"train": [_image(b"c", 0, image) for image in flat]}, (5, 4, 3))
  dataset = _open(tmp_path, image_size=(2, 6))
  assert dataset.info.shape == (2, 6, 3)
  assert dataset.info.preprocessing.extraction == Resize(2, 6)
  assert records.read(dataset)[0].tolist() == np.full((2, 2, 6, 3), 9).tolist()
  bad = records.read(_open(tmp_path))[3]
  assert [str(each) for each in bad] == [
    f"{tmp_path}/train.tfrecord, record 1, field image: is 9x3 pixels, expected 5x4; "
    "images are resized with --image_size"
  ]


def test_normalisation_may_be_said(tmp_path):
  how = {"scale": 0.5, "mean": [1.0, 2.0], "deviation": [3.0, 4.0]}
  _write(tmp_path, {"train": [_features(b"c", 0)]}, preprocessing=how)
  dataset = _open(tmp_path)
  assert not dataset.measures_inputs
  assert dataset.info.preprocessing.mean == (1, 2)


def test_every_bad_record_is_found_in_order(tmp_path):
  train = [
    _features(b"c", 0),
    _features(b"c", 3),
    _features(b"c", 0, [1.0]),
    _features(b"c", 0, [1.0, math.nan]),
    _features(b"c", 1),
    _features(b"\xff", 0),
    _features(b"", 0),
    _features(b"x" * 257, 0),
    _features(b"a\0", 0, [math.inf, 1.0]),
    records.example(label=0, features=[1.0, 2.0]),
    records.example(client_id=b"c", label=0),
    records.example(client_id=b"c", features=[1.0, 2.0]),
    b"\xff",
    _features(b"d", 2),
    _features(b"e", 2),
  ]
  _write(tmp_path, {"train": train, "test": [_features(b"c", 0)]})
  records.damage(tmp_path / "train.tfrecord", 14)
  _, labels, clients, bad = records.read(_open(tmp_path))
  assert (labels.tolist(), clients) == ([0, 1, 2], ["c", "c", "d"])
  assert [
    (each.record, each.field, each.reason.split(":")[0]) for each in bad[:-1]
  ] == [
    (1, "label", "3 is not in [0, 3)"),
    (2, "features", "holds 1 values, expected 2"),
    (3, "features", "value 1 is nan"),
    (5, "client_id", "is not UTF-8"),
    (6, "client_id", "is empty"),
    (7, "client_id", "has 257 characters, expected at most 256"),
    (8, "client_id", "has characters that no name may have"),
    (9, "client_id", "is missing"),
    (10, "features", "is missing"),
    (11, "label", "is missing"),
    (12, None, "is no tf.train.Example"),
  ]
  assert (bad[-1].record, bad[-1].field) == (14, None)
  assert {each.file for each in bad} == {str(tmp_path / "train.tfrecord")}


def _shared(clients, each):
  return [
    _features(f"c{client}".encode(), number % 3, [client, number])
    for number in range(each)
    for client in range(clients)
  ]


@pytest.mark.parametrize("empty", [True, False])
def test_without_a_test_split_a_share_of_each_client_is_held_out(tmp_path, empty):
  splits = {"train": _shared(3, 10)}
  _write(tmp_path, {**splits, "test": []} if empty else splits)
  if empty:
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["splits"]["test"] = []
    (tmp_path / "dataset.json").write_text(json.dumps(description))
  dataset = _open(tmp_path, test_share=0.3)
  train, test = records.read(dataset), records.read(dataset, "test")
  assert sorted(train[2]) == ["c0"] * 7 + ["c1"] * 7 + ["c2"] * 7
  assert sorted(test[2]) == ["c0"] * 3 + ["c1"] * 3 + ["c2"] * 3
  together = np.concatenate([train[0], test[0]]).tolist()
  assert sorted(together) == [[c, n] for c in range(3) for n in range(10)]
  np.testing.assert_array_equal(
    records.read(_open(tmp_path, test_share=0.3))[0], train[0]
  )


def test_held_out_examples_may_lie_in_several_files(tmp_path):
  content = _shared(2, 10)
  _write(tmp_path, {"train": content[:13], "more": content[13:]})
  description = json.loads((tmp_path / "dataset.json").read_text())
  description["splits"] = {"train": ["train.tfrecord", "more.tfrecord"]}
  (tmp_path / "dataset.json").write_text(json.dumps(description))
  test = records.read(_open(tmp_path), "test")
  assert sorted(test[2]) == ["c0", "c0", "c1", "c1"]
  _write(tmp_path, {"train": content})
  np.testing.assert_array_equal(records.read(_open(tmp_path), "test")[0], test[0])


def test_a_bad_record_is_told_of_in_one_split_only(tmp_path):
  content = _shared(1, 12)
  content[3:3] = [b"\xff", _features(b"c0", 9), _features(b"\xff", 0)]
  content += [_features(b"c0", 0, [math.nan, 1.0])] * 5 + [_features(b"z", 0)]
  _write(tmp_path, {"train": content})
  records.damage(tmp_path / "train.tfrecord", len(content) - 1)
  dataset = _open(tmp_path, test_share=0.5)
  train, test = records.read(dataset)[3], records.read(dataset, "test")[3]
  found = sorted(each.record for each in train + test)
  assert found == [3, 4, 5, 15, 16, 17, 18, 19, 20]
  assert {3, 4, 5, 20} <= {each.record for each in train}
  assert test


def test_the_first_record_that_can_be_read_tells_images_from_features(tmp_path):
  train = [b"\xff", records.example(label=0), _image(b"c", 1, _IMAGES[0])]
  _write(tmp_path, {"train": train}, (5, 4, 3))
  dataset = _open(tmp_path)
  assert dataset.info.feature_type == "uint8"
  assert records.read(dataset)[1].tolist() == [1]


@pytest.mark.parametrize("content", [[], [b"\xff"], [records.example(label=0)]])
def test_a_file_without_content_is_refused(tmp_path, content):
  _write(tmp_path, {"train": content})
  message = (
    r"train.tfrecord: no record of the training split that can be read has a field"
  )
  with pytest.raises(InputError, match=message):
    _open(tmp_path)


def test_a_compressed_file_is_refused(tmp_path):
  _write(tmp_path, {"train": [records.example(label=0)]})
  path = tmp_path / "train.tfrecord"
  path.write_bytes(gzip.compress(path.read_bytes()))
  with pytest.raises(InputError, match=r"train.tfrecord: is compressed; unpack it"):
    _open(tmp_path)


def test_a_byte_order_mark_does_not_matter(tmp_path):
  _write(tmp_path, {"train": [_image(b"c", 1, _IMAGES[0])]}, (5, 4, 3))
  path = tmp_path / "dataset.json"
  path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
  assert records.read(_open(tmp_path))[1].tolist() == [1]


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 2), (1, 5, 4, 3)])
def test_images_have_three_axes(tmp_path, shape):
  _write(tmp_path, {"train": [_image(b"c", 0, _IMAGES[0])]}, shape)
  with pytest.raises(
    InputError, match=r"shape of images must be \[height, width, 1 or"
  ):
    _open(tmp_path)


def test_features_cannot_be_resized(tmp_path):
  _write(tmp_path, {"train": [_features(b"c", 0)]})
  with pytest.raises(
    InputError, match=r"--image_size: the examples in .* are no images"
  ):
    _open(tmp_path, image_size=(8, 8))


def test_a_missing_folder_or_description_is_named(tmp_path):
  with pytest.raises(
    InputError, match="client_tfrecord needs --data_dir: a folder with"
  ):
    client_records.open_client_tfrecord(SourceOptions())
  with pytest.raises(InputError, match=r"/dataset.json not found; check --data_dir"):
    _open(tmp_path)
  (tmp_path / "clients.pkl").touch()
  with pytest.raises(InputError, match=r"clients.pkl is a pickle"):
    _open(tmp_path)
