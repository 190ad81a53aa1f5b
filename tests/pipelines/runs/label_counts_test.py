"""Tables of classes by client, and of answers, by hand."""

import numpy as np

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from pipelines.datasets.data_folder import RunData
from pipelines.runs import label_counts
from tests.fedtiny_tff import support

_INFO = DatasetInfo(
  "toy", (1,), "uint8", ("a", "b"), Preprocessing(1.0, (0.0,), (1.0,))
)


def _data(tmp_path, ids=("x", "=y")):
  labels = [0, 1, 1, 1, 0]
  examples = [(np.array([0], np.uint8), label) for label in labels]
  store = support.write_store(tmp_path / "c", _INFO, examples, range(len(examples)))
  # The first trains on two and holds out one; the second trains on two.
  references = np.array([[0, 0, 2, 1], [1, 3, 2, 0]])
  return RunData(_INFO, store, references, store, store, np.zeros([2, 2], int), ids)


def test_training_and_held_out_examples_are_counted(tmp_path):
  assert label_counts.client_labels(_data(tmp_path)).splitlines() == [
    "client,label,examples", "x,0,1", "x,1,2", "'=y,0,1", "'=y,1,1",
  ]  # fmt: skip


def test_of_many_clients_some_of_every_size_are_told(tmp_path, monkeypatch):
  monkeypatch.setattr(label_counts, "_MOST_CLIENTS", 1)
  lines = label_counts.client_labels(_data(tmp_path)).splitlines()[1:]
  assert len({line.split(",")[0] for line in lines}) == 1


def test_answers_are_counted():
  labels, answers = np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2])
  assert label_counts.confusion(labels, answers).splitlines() == [
    "label,answer,examples", "0,0,1", "0,1,2", "2,2,1",
  ]  # fmt: skip
