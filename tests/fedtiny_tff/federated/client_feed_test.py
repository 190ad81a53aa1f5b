"""Datasets of the user's become records that clients find; what does not fit is told."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import client_feed
from fedtiny_tff.model_structure import definition
from tests.fedtiny_tff.federated import support

X = np.arange(30, dtype=np.float32).reshape(10, 3) / 7
Y = np.array([0, 1] * 5)


def _dataset(x=X, y=Y):
  return tf.data.Dataset.from_tensor_slices((x, y))


@pytest.fixture(name="feed", scope="module")
def fixture_feed():
  return client_feed.ClientFeed(support.perceptron())


def _read(feed, reference, held_out=False):
  first, training, development = (int(each) for each in reference[1:])
  count = development if held_out else training
  return tuple(
    part.numpy() for part in feed.store.decode(feed.store.read(first, count))
  )


@pytest.mark.parametrize(
  "dataset",
  [
    _dataset(),
    _dataset().batch(4),
    _dataset(X.astype(np.float64), Y.astype(np.int32)).batch(4),
    _dataset(y=Y.reshape(10, 1)).batch(3),
    tf.data.Dataset.from_tensor_slices({"y": Y, "x": X, "pixels": X}).batch(10),
  ],
)
def test_examples_arrive_to_the_bit_in_order(feed, dataset):
  [reference] = feed.write([dataset])
  features, labels = _read(feed, reference)
  np.testing.assert_array_equal(features, X)
  np.testing.assert_array_equal(labels, Y)


def test_clients_are_their_places_and_those_without_examples_stay_out(feed):
  references = feed.write([_dataset().take(3), _dataset().take(0), _dataset().skip(3)])
  assert [tuple(map(int, each)) for each in references] == [(0, 0, 3, 0), (2, 3, 7, 0)]
  np.testing.assert_array_equal(_read(feed, references[1])[0], X[3:])
  held_out = feed.write([_dataset().take(2)], held_out=True)
  assert [tuple(map(int, each)) for each in held_out] == [(0, 0, 0, 2)]
  np.testing.assert_array_equal(_read(feed, held_out[0], True)[0], X[:2])


def test_whole_numbers_and_bytes_are_taken_for_what_they_are(feed):
  [reference] = feed.write([_dataset(np.array([[0, 128, 255]], np.uint8), Y[:1])])
  np.testing.assert_array_equal(_read(feed, reference)[0], [[0, 128, 255]])


def test_client_data_of_tff_goes_by_its_ids(feed):
  data = tff.simulation.datasets.TestClientData(
    {
      "b": {"x": X[:2], "y": Y[:2]},
      "a": {"x": X[2:5], "y": Y[2:5]},
    }
  )
  references = feed.write(data)
  assert [int(each.training_examples) for each in references] == [2, 3]
  np.testing.assert_array_equal(_read(feed, references[1])[0], X[2:5])


def test_labels_are_of_no_use_to_a_reconstruction():
  def build():
    inputs = tf.keras.Input([3])
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(inputs))

  found = definition.define_model("copy", build, task=tasks.RECONSTRUCT)
  feed = client_feed.ClientFeed(found)
  for dataset in (tf.data.Dataset.from_tensor_slices(X), _dataset(y=X)):
    [reference] = feed.write([dataset])
    features, labels = _read(feed, reference)
    np.testing.assert_array_equal(features, X)
    assert not labels.any()


def test_all_of_a_dataset_and_of_none(feed):
  features, labels = feed.read_all("public", _dataset().batch(4))
  np.testing.assert_array_equal(features, X)
  np.testing.assert_array_equal(labels, Y)
  features, labels = feed.read_all("public", None)
  assert (features.shape, labels.shape) == ((0, 3), (0,))


@pytest.mark.parametrize(
  ("clients", "said"),
  [
    (_dataset(), "give a list"),
    ([], "no client has an example"),
    ([_dataset().take(0)], "no client has an example"),
    ([_dataset(), (X, Y)], "client 1: got tuple"),
    ([_dataset(np.zeros((4, 2)), Y[:4])], r"client 0: inputs are float64 \(None, 2\)"),
    ([_dataset(np.array([["a", "b", "c"]]), Y[:1])], "inputs are string"),
    ([_dataset(np.full((4, 3), np.nan), Y[:4])], "infinite or no number"),
    ([_dataset(y=Y.astype(np.float32))], "labels are float32"),
    ([_dataset(y=np.eye(2, dtype=int)[Y])], "one for each example"),
    ([_dataset(y=Y + 1)], r"labels go from 1 to 2, the model has classes 0 to 1"),
    ([_dataset(y=Y - 1)], "labels go from -1"),
    ([tf.data.Dataset.from_tensor_slices(X)], "elements are .*Tensor.*; let them be"),
    (
      [tf.data.Dataset.from_tensor_slices({"x": X, "label": Y})],
      "elements are mappings with label, x;",
    ),
    ([tf.data.Dataset.from_tensor_slices((X, Y, Y))], "elements are 3 parts;"),
    (
      [tf.data.Dataset.from_tensor_slices((X, Y)).repeat()],
      r"never ends; leave repeat\(\)",
    ),
  ],
)
def test_what_does_not_fit(feed, clients, said):
  with pytest.raises(InputError, match=said):
    feed.write(clients)


def test_the_file_goes_with_the_feed(tmp_path):
  feed = client_feed.ClientFeed(support.perceptron(), str(tmp_path))
  feed.write([_dataset()])
  assert len(list(tmp_path.rglob("*.tfrecord"))) == 1
  del feed
  assert not list(tmp_path.iterdir())
