"""What is written as clients' records is read as it was."""

import json

import numpy as np
import pytest

from fedtiny_tff.data.examples import Batch, DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import client_record_writer, client_records
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import records

_HOW = Preprocessing(0.125, (0.5,), (0.25,))


def _info(shape, feature_type):
  return DatasetInfo("toy", shape, feature_type, ("a", "b"), _HOW)


def _batch(info, clients=("x", "y", "x")):
  generator = np.random.default_rng(0)
  features = generator.integers(0, 256, (3, *info.shape)).astype(info.feature_type)
  if info.feature_type == "float32":
    features /= np.float32(7)
  labels = np.array([1, 0, 1])
  return Batch(features, labels, None if clients is None else np.array(clients))


@pytest.mark.parametrize(
  ("shape", "feature_type", "read_type"),
  [
    ((3, 2, 1), "uint8", "uint8"),
    ((3, 2, 3), "uint8", "uint8"),
    ((3, 2, 2), "uint8", "float32"),
    ((5,), "uint8", "float32"),
    ((2, 3), "float32", "float32"),
    ((3, 2, 3), "float32", "float32"),
  ],
)
@pytest.mark.parametrize("with_normalisation", [True, False])
def test_examples_come_back(
  tmp_path, shape, feature_type, read_type, with_normalisation
):
  info = _info(shape, feature_type)
  batch = _batch(info)
  written = list(client_record_writer.serialized([batch, batch], info))
  assert written == list(client_record_writer.serialized([batch, batch], info))
  records.write(tmp_path / "t", written[:3])
  records.write(tmp_path / "e", written[3:])
  said = client_record_writer.description(
    info, {"train": ["t"], "test": ["e"]}, with_normalisation
  )
  (tmp_path / "dataset.json").write_text(json.dumps(said))
  dataset = client_records.open_client_tfrecord(SourceOptions(str(tmp_path)))
  assert (dataset.info.shape, dataset.info.feature_type) == (shape, read_type)
  assert dataset.info.class_names == info.class_names
  assert dataset.info.preprocessing.scale == 0.125
  assert dataset.measures_inputs == (not with_normalisation)
  assert (dataset.info.preprocessing == _HOW) == with_normalisation
  for split in ("train", "test"):
    features, labels, clients, bad = records.read(dataset, split)
    np.testing.assert_array_equal(features, batch.features)
    assert (labels.tolist(), clients, bad) == ([1, 0, 1], ["x", "y", "x"], [])


def test_examples_of_nobody_are_refused():
  info = _info((2,), "float32")
  with pytest.raises(
    InputError, match="toy does not say whose its examples are, as cli"
  ):
    list(client_record_writer.serialized([_batch(info, None)], info))
