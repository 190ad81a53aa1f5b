"""Images from tensorflow_datasets: one made here is read like one that was fetched."""

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest

from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.sources import image_records, tfds_images
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.data.sources.standard_images import STANDARD_IMAGES
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import records

_HAS_TFDS = importlib.util.find_spec("tensorflow_datasets") is not None
needs_tfds = pytest.mark.skipif(
  not _HAS_TFDS, reason="tensorflow_datasets, which is optional, is not installed"
)
_IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)


def _prepare(folder, set_name, splits, shape=(6, 5, 3), classes=3, **features):
  """Writes a set: of each split a list of (encoded image, label)."""
  import tensorflow_datasets as tfds

  fields = features or {
    "image": tfds.features.Image(shape=shape),
    "label": tfds.features.ClassLabel(num_classes=classes),
  }

  base: Any = tfds.core.GeneratorBasedBuilder

  class Made(base, skip_registration=True):  # type: ignore[call-arg]
    # Of a package of tests, code that looks for its files does not get along.
    __module__ = "made"
    name = set_name
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(fields),
        supervised_keys=tuple(fields),
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(rows) for split, rows in splits.items()}

    def _generate_examples(self, rows):
      for number, values in enumerate(rows):
        yield number, dict(zip(fields, values, strict=True))

  Made(data_dir=folder).download_and_prepare()


def _rows(images, label=0):
  return [(image, label) for image in images]


def _open(folder, name, **options):
  return tfds_images.open_tfds(name, SourceOptions(str(folder), **options))


def _sorted(images):
  return sorted(image.tolist() for image in images)


@needs_tfds
def test_images_and_labels_are_read(tmp_path):
  splits = {"train": _rows(_IMAGES[:4], 2), "test": _rows(_IMAGES[4:6], 1)}
  _prepare(tmp_path, "pair", splits)
  dataset = _open(tmp_path, "pair")
  assert (dataset.info.name, dataset.info.shape) == ("tfds:pair", (6, 5, 3))
  assert dataset.info.class_names == ("0", "1", "2")
  assert (dataset.has_clients, dataset.measures_inputs) == (False, True)
  first, second = records.read(dataset), records.read(dataset)
  np.testing.assert_array_equal(first[0], second[0])
  assert _sorted(first[0]) == _sorted(_IMAGES[:4])
  assert first[1].tolist() == [2] * 4
  assert first[3] == []
  assert _sorted(records.read(dataset, "test")[0]) == _sorted(_IMAGES[4:6])
  again = _open(tmp_path, "pair:1.0.0")
  np.testing.assert_array_equal(records.read(again)[0], first[0])


@needs_tfds
def test_a_share_of_each_class_is_held_out_where_there_is_no_test_split(tmp_path):
  rows = _rows(_IMAGES[:10], 0) + _rows(_IMAGES[10:], 1)
  _prepare(tmp_path, "whole", {"train": rows})
  dataset = _open(tmp_path, "whole", test_share=0.3)
  train, test = records.read(dataset), records.read(dataset, "test")
  assert np.bincount(test[1]).tolist() == [3, 3]
  assert _sorted([*train[0], *test[0]]) == _sorted(_IMAGES)


@needs_tfds
def test_validation_is_the_test_split_where_there_is_no_other(tmp_path):
  splits = {"train": _rows(_IMAGES[:3]), "validation": _rows(_IMAGES[3:4])}
  _prepare(tmp_path, "validated", splits)
  np.testing.assert_array_equal(
    records.read(_open(tmp_path, "validated"), "test")[0], _IMAGES[3:4]
  )


@needs_tfds
def test_images_of_many_sizes_need_one(tmp_path):
  images = [np.full((size, 4, 1), 9, np.uint8) for size in (3, 5)]
  splits = {"train": _rows(images), "test": _rows(images)}
  _prepare(tmp_path, "sizes", splits, shape=(None, None, 1))
  with pytest.raises(InputError, match="tfds:sizes: its images differ in size; choose"):
    _open(tmp_path, "sizes")
  dataset = _open(tmp_path, "sizes", image_size=(4, 6))
  assert dataset.info.shape == (4, 6, 1)
  assert dataset.info.preprocessing.extraction == Resize(4, 6)
  assert records.read(dataset)[0].tolist() == np.full((2, 4, 6, 1), 9).tolist()


@needs_tfds
def test_bad_records_are_found(tmp_path):
  rows = _rows(_IMAGES[:3])
  _prepare(tmp_path, "damaged", {"train": rows, "test": rows})
  (path,) = (tmp_path / "damaged").rglob("*-train.tfrecord*")
  content = path.read_bytes()
  path.write_bytes(content[:-3])
  _, labels, _, bad = records.read(_open(tmp_path, "damaged"))
  assert len(labels) == 2
  assert [(each.file, each.record) for each in bad] == [("tfds:damaged/train", 2)]


@needs_tfds
def test_a_set_that_is_no_images_is_refused(tmp_path):
  import tensorflow_datasets as tfds

  kinds = {
    "text": tfds.features.Text(),
    "label": tfds.features.ClassLabel(num_classes=2),
  }
  _prepare(tmp_path, "words", {"train": [("a", 0)]}, **kinds)
  with pytest.raises(InputError, match="tfds:words: is no set of images with a class"):
    _open(tmp_path, "words")


@needs_tfds
def test_an_unknown_set_is_refused_in_one_line(tmp_path):
  with pytest.raises(
    InputError, match=r"tfds:no_such_set: .*NotFound.*check its"
  ) as error:
    _open(tmp_path, "no_such_set")
  assert "\n" not in str(error.value)


@needs_tfds
def test_a_standard_set_is_read_where_it_is_prepared(tmp_path, monkeypatch):
  known = dataclasses.replace(STANDARD_IMAGES["svhn"], prepared_name="own_digits")
  # Under its real name it would be fetched if the test were wrong.
  monkeypatch.setitem(STANDARD_IMAGES, "svhn", known)
  images = np.repeat(_IMAGES[:2, :4, :4], 8, axis=1).repeat(8, axis=2)
  splits = {"train": _rows(images[:1], 9), "test": _rows(images[1:], 3)}
  _prepare(tmp_path, "own_digits", splits, (32, 32, 3), 10)
  dataset = image_records.open_standard("svhn", SourceOptions(str(tmp_path)))
  assert (dataset.info.name, dataset.measures_inputs) == ("svhn", False)
  found, labels, _, _ = records.read(dataset)
  np.testing.assert_array_equal(found, images[:1])
  assert labels.tolist() == [9]


@pytest.mark.parametrize(
  "name", ["", "huggingface:x", "user:set", "../x", "a/b/c", "a b"]
)
def test_a_name_that_is_none_is_refused(name):
  with pytest.raises(InputError, match="must be tfds:NAME, tfds:NAME/CONFIGURATION or"):
    tfds_images.open_tfds(name, SourceOptions())


@pytest.mark.skipif(_HAS_TFDS, reason="tensorflow_datasets is installed")
def test_a_missing_package_is_named():
  message = "dataset tfds:mnist needs tensorflow_datasets: pip install"
  with pytest.raises(InputError, match=message):
    tfds_images.open_tfds("mnist", SourceOptions())
