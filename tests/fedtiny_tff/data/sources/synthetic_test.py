"""Made-up clients: always the same, however many there are."""

import numpy as np
import pytest

from fedtiny_tff.data.sources import synthetic
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.data.sources.synthetic import SyntheticOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import records


def test_each_client_has_its_examples_in_a_row():
  dataset = synthetic.make(
    SyntheticOptions(clients=3, train_examples=4, test_examples=2)
  )
  features, labels, clients, bad = records.read(dataset)
  assert (features.shape, features.dtype) == ((12, 8, 8, 1), np.uint8)
  assert dataset.info.shape == (8, 8, 1)
  assert labels.dtype == np.int64
  assert set(labels.tolist()) <= set(range(10))
  ids = ["client000000", "client000001", "client000002"]
  assert clients == [name for name in ids for _ in range(4)]
  assert bad == []
  assert records.read(dataset, "test")[2] == [name for name in ids for _ in range(2)]


def test_all_comes_from_the_seed(monkeypatch):
  monkeypatch.setattr(synthetic, "_BLOCK", 8)

  def pixels(clients, seed, split="train"):
    options = SyntheticOptions(clients, 5, 5, seed=seed)
    return records.read(synthetic.make(options), split)[0]

  few = pixels(4, 7)
  np.testing.assert_array_equal(few, pixels(4, 7))
  # More clients leave the first ones as they are; blocks differ from one another.
  np.testing.assert_array_equal(few, pixels(9, 7)[:20])
  assert (few[:4] != few[8:12]).any()
  assert (few != pixels(4, 8)).any()
  assert (few != pixels(4, 7, "test")).any()


def test_classes_can_be_learned_but_not_perfectly():
  dataset = synthetic.make(SyntheticOptions(clients=300))
  means = None
  for split in ("train", "test"):
    features, labels, _, _ = records.read(dataset, split)
    inputs = dataset.info.preprocessing.apply(features).reshape(len(labels), -1)
    if means is None:
      means = np.stack([inputs[labels == label].mean(axis=0) for label in range(10)])
      assert abs(inputs.mean()) < 0.1
      assert abs(inputs.std() - 1) < 0.1
  nearest = np.square(inputs[:, np.newaxis] - means).sum(axis=-1).argmin(axis=1)
  assert 0.85 < (nearest == labels).mean() < 0.97


def test_other_shapes_and_classes():
  options = SyntheticOptions(2, 50, 1, classes=2, shape=(3, 5))
  dataset = synthetic.make(options)
  features, labels, _, _ = records.read(dataset)
  assert features.shape == (100, 3, 5)
  assert set(labels.tolist()) == {0, 1}
  assert dataset.info.num_classes == 2


def test_options_say_how_many():
  options = SourceOptions(
    synthetic_clients=3, synthetic_examples_per_client=6, test_share=0.25
  )
  dataset = synthetic.open_synthetic(options)
  assert dataset.has_clients
  assert len(records.read(dataset)[1]) == 18
  # Two of eight are a quarter.
  assert len(records.read(dataset, "test")[1]) == 6


def test_none_is_refused():
  with pytest.raises(InputError, match="--synthetic_clients must be at least 1, got 0"):
    synthetic.open_synthetic(SourceOptions(synthetic_clients=0))
  message = "--synthetic_examples_per_client must be at least 1, got -1"
  with pytest.raises(InputError, match=message):
    synthetic.open_synthetic(SourceOptions(synthetic_examples_per_client=-1))
