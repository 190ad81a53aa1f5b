"""Tests of the export for microcontrollers."""

import dataclasses

import numpy as np
import pytest

from tests.tflite_export import models
from tflite_export import c_source, mcu, tflm, weights


@pytest.fixture(scope="module")
def request_():
  return models.request(*models.pruned(0.1))


@pytest.fixture(scope="module")
def bundle(request_):
  return mcu.export_mcu(request_)


class TestExportMcu:
  def test_files(self, bundle):
    assert set(bundle.files) == {
      "mcu/README.md",
      "mcu/arena.h",
      "mcu/model.tflite",
      "mcu/model_data.cc",
      "mcu/model_data.h",
      "mcu/model_dense.tflite",
      "mcu/model_settings.h",
      "mcu/op_resolver.h",
    }

  def test_one_artifact_a_model(self, bundle):
    sparse, dense = bundle.artifacts
    assert (sparse.path, sparse.format) == ("mcu/model.tflite", "int8_decode")
    assert (dense.path, dense.format) == ("mcu/model_dense.tflite", "int8_dense")
    for artifact in bundle.artifacts:
      assert artifact.target == "mcu"
      assert artifact.bytes == len(bundle.files[artifact.path])
      assert artifact.dense_bytes == dense.bytes
      assert artifact.runtime == tflm.runtime_name()
      assert artifact.density == pytest.approx(0.1, abs=0.01)
    assert sparse.bytes < dense.bytes
    assert sparse.arena_bytes > dense.arena_bytes

  @pytest.mark.parametrize("row", [0, 1])
  def test_figures_are_the_files(self, bundle, request_, row):
    artifact = bundle.artifacts[row]
    outputs = tflm.run(bundle.files[artifact.path], request_.evaluation_inputs).outputs
    expected = request_.model(request_.evaluation_inputs, training=False).numpy()
    agreement = np.mean(outputs.argmax(1) == expected.argmax(1))
    assert artifact.argmax_agreement == agreement
    assert artifact.accuracy == agreement
    assert artifact.max_abs_error == pytest.approx(np.abs(outputs - expected).max())

  def test_badly_calibrated_file_is_reported_and_not_refused(self, bundle, request_):
    # Ranges of inputs a thousand times too small: every activation saturates.
    narrow = dataclasses.replace(
      request_, calibration_inputs=request_.calibration_inputs / 1000
    )
    bad = mcu.export_mcu(narrow)
    for artifact in bundle.artifacts:
      assert artifact.argmax_agreement > 0.9
    for artifact in bad.artifacts:
      assert artifact.argmax_agreement < 0.5

  def test_no_accuracy_without_labels(self, request_):
    unlabelled = dataclasses.replace(request_, evaluation_labels=None)
    bundle = mcu.export_mcu(unlabelled)
    assert bundle.artifacts[0].accuracy is None
    assert b"not known (no labels)" in bundle.files["mcu/README.md"]

  def test_same_bytes_each_time(self, bundle, request_):
    assert mcu.export_mcu(request_) == bundle

  def test_sources_are_of_the_sparse_file_and_its_arena(self, bundle):
    sparse = bundle.artifacts[0]
    sources = c_source.c_sources(
      bundle.files[sparse.path],
      tuple(f"class {index}" for index in range(models.NUM_CLASSES)),
      sparse.arena_bytes,
    )
    for name, text in sources.items():
      assert bundle.files[f"mcu/{name}"] == text.encode()


class TestNothingToGain:
  def test_file_equals_the_dense_one_and_the_readme_says_so(self):
    bundle = mcu.export_mcu(models.request(*models.pruned(1.0)))
    assert bundle.files["mcu/model.tflite"] == bundle.files["mcu/model_dense.tflite"]
    sparse, dense = bundle.artifacts
    assert (sparse.bytes, sparse.arena_bytes) == (dense.bytes, dense.arena_bytes)
    text = bundle.files["mcu/README.md"].decode()
    assert "both are equal" in text
    assert "DECODE" not in text.split("## Tensors")[0]
    assert "PRUNING" not in text
    assert b"AddDecode" not in bundle.files["mcu/op_resolver.h"]


class TestAutoencoder:
  def test_is_judged_by_its_error_and_not_by_classes(self):
    request = models.autoencoder_request()
    bundle = mcu.export_mcu(request)
    outputs = tflm.run(bundle.files["mcu/model.tflite"], request.evaluation_inputs).outputs
    difference = outputs - request.evaluation_inputs.reshape(24, 16)
    errors = np.square(difference.astype(np.float64)).mean(axis=1)
    normal, odd = errors[::2], errors[1::2]
    wins = (odd[:, np.newaxis] > normal).mean()
    for artifact in bundle.artifacts:
      assert (artifact.accuracy, artifact.argmax_agreement) == (None, None)
      assert artifact.auc == pytest.approx(wins)
    assert b"kClassNames" not in bundle.files["mcu/model_settings.h"]
    text = bundle.files["mcu/README.md"].decode()
    assert f"area under the ROC curve on the evaluation data: {wins:.4f}" in text
    assert "anomaly score" in text
    assert "kClassNames" not in text


def test_density_is_read_from_the_file(bundle, request_):
  masked = weights.check_masked_zeros(
    bundle.files["mcu/model_dense.tflite"], request_.masks
  )
  assert bundle.artifacts[0].density == masked.density
