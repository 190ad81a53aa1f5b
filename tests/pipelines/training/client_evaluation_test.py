"""Accuracy client by client, by hand."""

import csv
import io

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from pipelines.datasets.data_folder import RunData
from pipelines.training import client_evaluation
from tests.fedtiny_tff import support

_INFO = DatasetInfo(
  "toy", (1,), "uint8", ("a", "b"), Preprocessing(1.0, (0.0,), (1.0,))
)


class _Above(tf.keras.Model):
  """Says b where the feature is at least 5."""

  def call(self, inputs, training=False):
    return tf.concat([5.0 - 0.5 - inputs, inputs - 4.5], axis=1)


def _store(path, features, labels):
  examples = [
    (np.array([f], np.uint8), label) for f, label in zip(features, labels, strict=True)
  ]
  return support.write_store(path, _INFO, examples, range(len(examples)))


def _data(tmp_path, test_references):
  clients = _store(tmp_path / "c", [1, 9, 2, 8, 3, 7], [0, 1, 1, 1, 0, 0])
  test = _store(tmp_path / "t", [0, 9, 9, 1, 1, 6], [0, 1, 0, 0, 1, 1])
  # Each trains on one example; held out are 1, then 2, then none.
  references = np.array([[0, 0, 1, 1], [1, 2, 1, 2], [2, 5, 1, 0]])
  return RunData(
    _INFO,
    clients,
    references,
    clients,
    test,
    np.array(test_references),
    ("x", "y", "z"),
  )


def _judged(data, seed=0):
  found = client_evaluation.evaluate_clients(_Above(), data, seed)
  assert found is not None
  return found


def test_held_out_parts_where_nobody_owns_test_examples(tmp_path):
  data = _data(tmp_path, [[0, 0], [0, 0], [0, 0]])
  found = _judged(data)
  # x: 9 is b, right. y: 8 is b, right; 3 is a, right. z has nothing to be judged on.
  assert (found.judged_on, found.clients) == ("held_out", ("x", "y"))
  assert found.examples.tolist() == [1, 2]
  assert found.correct.tolist() == [1, 2]


def test_own_test_examples_where_there_are_some(tmp_path):
  data = _data(tmp_path, [[0, 2], [2, 3], [5, 1]])
  found = _judged(data)
  # x: both right. y: (9, a) wrong, (1, a) right, (1, b) wrong. z: right.
  assert found.judged_on == "test"
  assert found.correct.tolist() == [2, 1, 1]
  np.testing.assert_allclose(found.accuracies, [1, 1 / 3, 1])
  assert found.summary() == {
    "judged_on": "test",
    "clients": 3,
    "clients_in_all": 3,
    "mean": 0.777778,
    # Between the worst and the next: 1/3 + 0.2 * (1 - 1/3).
    "percentile_10": 0.466667,
    "worst": 0.333333,
    "worst_client": "y",
  }
  rows = list(csv.DictReader(io.StringIO(found.to_csv())))
  assert rows[1] == {
    "client": "y",
    "examples": "3",
    "correct": "1",
    "accuracy": "0.333333",
  }


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_change_nothing(tmp_path, monkeypatch, size):
  monkeypatch.setattr(client_evaluation, "_BATCH", size)
  data = _data(tmp_path, [[0, 2], [2, 3], [5, 1]])
  found = _judged(data)
  assert found.correct.tolist() == [2, 1, 1]


def test_of_many_clients_some_are_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(client_evaluation, "_MOST_CLIENTS", 2)
  data = _data(tmp_path, [[0, 2], [2, 3], [5, 1]])
  drawn = {_judged(data, seed).clients for seed in range(9)}
  assert all(len(clients) == 2 for clients in drawn)
  assert len(drawn) > 1
  once, again = (_judged(data, 3).clients for _ in range(2))
  assert once == again


def test_nothing_to_be_judged_on(tmp_path):
  data = _data(tmp_path, [[0, 0], [0, 0], [0, 0]])
  data.references[:, 3] = 0
  assert client_evaluation.evaluate_clients(_Above(), data, 0) is None
