"""Datasets by name: fixed splits, passes that can be started again, clear errors."""

import numpy as np
import pytest

from fedtiny_tff.data import scan
from fedtiny_tff.data.sources import registry
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import records


@pytest.fixture(name="digits", scope="module")
def _digits():
  return registry.load("digits", SourceOptions())


def test_digits_have_a_fixed_split(digits):
  _, train, _, bad = records.read(digits)
  test = records.read(digits, "test")[1]
  # 1,797 in all, of each class a fifth (rounded) for testing.
  assert len(train) + len(test) == 1797
  held_out = np.bincount(test)
  in_all = np.bincount(train) + held_out
  assert held_out.tolist() == [round(0.2 * n) for n in in_all.tolist()]
  assert bad == []
  again = registry.load("digits", SourceOptions())
  np.testing.assert_array_equal(records.read(again)[1], train)


def test_a_pass_can_be_started_again_and_has_its_declared_form(digits):
  first, second = records.read(digits), records.read(digits)
  np.testing.assert_array_equal(first[0], second[0])
  assert first[0].shape[1:] == digits.info.shape == (8, 8, 1)
  assert first[0].dtype == np.dtype(digits.info.feature_type) == np.uint8
  assert first[1].dtype == np.int64
  assert digits.info.num_classes == 10


def test_preprocessed_digits_are_near_mean_zero_and_deviation_one(digits):
  inputs = digits.info.preprocessing.apply(records.read(digits)[0])
  assert abs(inputs.mean()) < 0.05
  assert abs(inputs.std() - 1.0) < 0.05


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "cinic10"])
def test_standard_sets_open_under_their_own_names(tmp_path, name):
  image = records.png(np.full((32, 32, 3), 7, np.uint8))
  for split in ("train", "test"):
    records.write(
      tmp_path / f"{split}.tfrecord", [records.example(image=image, label=1)]
    )
  dataset = registry.load(name, SourceOptions(str(tmp_path)))
  assert dataset.info.name == name
  assert records.read(dataset)[1].tolist() == [1]


def test_made_up_clients_can_be_scanned():
  options = SourceOptions(synthetic_clients=3, synthetic_examples_per_client=8)
  dataset = registry.load("synthetic", options)
  found = scan.scan(dataset)
  assert found.client_ids == ("client000000", "client000001", "client000002")
  for facts, each in ((found.train, 8), (found.test, 2)):
    assert facts.owners is not None
    assert np.bincount(facts.owners).tolist() == [each] * 3
  assert len(np.unique(found.train.contents)) == 24


def test_clients_own_records_open_by_name():
  with pytest.raises(InputError, match="dataset client_tfrecord needs --data_dir"):
    registry.load("client_tfrecord", SourceOptions())


def test_an_unknown_name_is_refused_with_the_known_ones():
  message = "unknown dataset 'mnist': choose one of digits, cifar10, .*, or tfds:NAME"
  with pytest.raises(InputError, match=message):
    registry.load("mnist", SourceOptions())


def test_names_of_tensorflow_datasets_have_a_prefix():
  assert registry.is_tfds("tfds:mnist")
  assert not registry.is_tfds("tfds:")
  assert not registry.is_tfds("mnist")
  with pytest.raises(InputError, match=r"--dataset=tfds:\.\./x must be tfds:NAME"):
    registry.load("tfds:../x", SourceOptions())
