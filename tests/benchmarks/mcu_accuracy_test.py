"""In int8 and encoded, the models of MLPerf Tiny stay within a point of float."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import cifar10, mcu_accuracy, mcu_size, mcu_training, results_file
from benchmarks.mcu_training import CASES, Images
from pipelines.apps.progress import Progress

PLACES = {case.model: number for number, case in enumerate(CASES)}


def check(row):
  assert row["identical"] is True
  assert row["decode"] == row["int8"]
  assert row["drop_points"] <= 1.0
  assert row["decode"] >= row["chance"] + 0.15
  assert row["weights_left"] == int(0.1 * row["prunable_weights"])
  assert row["samples"] >= 200
  assert row["bytes"] < row["dense_bytes"]


@pytest.fixture(name="data", scope="module")
def fixture_data():
  if not cifar10.is_available():
    pytest.skip(f"CIFAR-10 is not in {cifar10.DATA_DIR}")
  return mcu_training.read_images()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)
def test_trained_anew(case, data):
  check(mcu_accuracy.measure(case, data, Progress()))


def test_published():
  rows = results_file.read("mcu_accuracy").rows
  assert [row["model"] for row in rows] == [case.model for case in CASES]
  for row in rows:
    check(row)


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("identical", False),
    ("drop_points", 1.1),
    ("decode", 0.2),
    ("weights_left", 7_693),
    ("samples", 199),
  ],
)
def test_the_check_finds_what_is_wrong(key, value):
  (row, *_) = results_file.read("mcu_accuracy").rows
  check(row)
  with pytest.raises(AssertionError):
    check({**row, key: value})


def test_models_and_inputs_are_those_that_are_weighed():
  assert [case.model for case in CASES] == [case.model for case in mcu_size.CASES]
  images = tf.constant(
    np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)), tf.uint8
  )
  for case, weighed in zip(CASES, mcu_size.CASES, strict=True):
    features = case.features(images).numpy()
    assert features.shape == (2, *weighed.input_shape)
    assert -1.0 <= features.min() < features.max() <= 1.0
    assert case.definition.build().input_shape == (None, *weighed.input_shape)


def test_anomalies_are_tested_and_never_trained_on():
  part = Images(np.arange(12).reshape(4, 1, 1, 3), np.array([9, 0, 5, 0]))
  case = CASES[PLACES["autoencoder"]]
  normal = case.chosen(part, with_anomalies=False)
  np.testing.assert_array_equal(normal.labels, [0, 0])
  np.testing.assert_array_equal(normal.images, part.images[[1, 3]])
  both = case.chosen(part, with_anomalies=True)
  np.testing.assert_array_equal(both.labels, [1, 0, 0])


def test_animals_and_vehicles():
  part = Images(np.zeros((10, 1, 1, 3)), np.arange(10))
  labels = CASES[PLACES["mobilenet_v1_025"]].chosen(part, with_anomalies=False).labels
  # Airplane, automobile, ship and truck.
  np.testing.assert_array_equal(np.flatnonzero(labels), [0, 1, 8, 9])
