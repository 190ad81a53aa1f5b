"""Tests of the export for microcontrollers."""

import dataclasses

import numpy as np
import pytest

from fedtiny_tff import tasks
from fedtiny_tff.local_training import optimizers, quantisation_training
from tests.tflite_export import models
from tflite_export.artifacts import BudgetError
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import c_source, mcu, mcu_budget
from tflite_export.runtimes import tflm, weights
from tflite_export.runtimes.compare import keras_outputs


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
      "mcu/golden_vectors.cc",
      "mcu/golden_vectors.h",
      "mcu/main_functions.cc",
      "mcu/main_functions.h",
      "mcu/model.tflite",
      "mcu/model_data.cc",
      "mcu/model_data.h",
      "mcu/model_dense.tflite",
      "mcu/model_settings.h",
      "mcu/op_resolver.h",
      "mcu/preprocessing.json",
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
    narrow = dataclasses.replace(request_, calibration=request_.calibration / 1000)
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
      models.PROVENANCE.preprocessing,
    )
    for name, text in sources.items():
      assert bundle.files[f"mcu/{name}"] == text.encode()


class TestOptions:
  @pytest.mark.parametrize(
    ("options", "name", "c_type"),
    [
      (McuOptions(float_ends=True), "int8_float_ends", "float"),
      (McuOptions(activation_bits=16), "int16x8", "int16_t"),
      (McuOptions(activation_bits=16, float_ends=True), "int16x8_float_ends", "float"),
    ],
  )
  def test_other_numbers(self, request_, options, name, c_type):
    bundle = mcu.export_mcu(dataclasses.replace(request_, mcu=options))
    formats = [artifact.format for artifact in bundle.artifacts]
    assert formats == [f"{name}_decode", f"{name}_dense"]
    settings = bundle.files["mcu/model_settings.h"].decode()
    assert f"using InputType = {c_type};" in settings
    assert f"using OutputType = {c_type};" in settings
    for artifact in bundle.artifacts:
      assert artifact.argmax_agreement == pytest.approx(1.0, abs=0.1)
      assert artifact.density == pytest.approx(0.1, abs=0.01)

  def test_names_stay_if_wanted(self, request_, bundle):
    kept = mcu.export_mcu(
      dataclasses.replace(request_, mcu=McuOptions(keep_names=True))
    )
    assert b"small_classifier" in kept.files["mcu/model.tflite"]
    assert b"small_classifier" not in bundle.files["mcu/model.tflite"]

  def test_exactly_enough_memory(self, request_, bundle):
    sparse = bundle.artifacts[0]
    arrays = c_source.array_bytes(
      bundle.files[sparse.path], request_.class_names, models.PROVENANCE.preprocessing
    )
    flash_bytes = sparse.bytes + arrays
    enough = McuOptions(flash_bytes=flash_bytes, ram_bytes=sparse.arena_bytes)
    made = mcu.export_mcu(dataclasses.replace(request_, mcu=enough))
    assert made.files[sparse.path] == bundle.files[sparse.path]
    assert b"(100.0%)" in made.files["mcu/README.md"]
    short = dataclasses.replace(enough, flash_bytes=flash_bytes - 1)
    with pytest.raises(BudgetError, match=f"{flash_bytes:,} bytes needed"):
      mcu.export_mcu(dataclasses.replace(request_, mcu=short))

  def test_little_ram_leaves_tensors_dense(self, request_, bundle):
    sparse, dense = bundle.artifacts
    assert sparse.arena_bytes is not None
    options = McuOptions(ram_bytes=sparse.arena_bytes - 1)
    made = mcu.export_mcu(dataclasses.replace(request_, mcu=options))
    assert dense.arena_bytes <= made.artifacts[0].arena_bytes < sparse.arena_bytes
    assert sparse.bytes < made.artifacts[0].bytes <= dense.bytes
    assert mcu_budget.TOO_MUCH_RAM in made.files["mcu/README.md"].decode()


class TestTrainedWithQuantisation:
  @pytest.fixture(scope="class")
  def trained(self, request_):
    rows, labels = request_.evaluation_inputs, request_.evaluation_labels
    how = quantisation_training.FineTuning(optimizers.OptimizerConfig("adam", 1e-3), 0)
    model = quantisation_training.fine_tune(
      request_.model, request_.masks, tasks.CLASSIFY, rows, labels, how
    )
    return dataclasses.replace(request_, quantisation_aware_model=model)

  @pytest.mark.parametrize("float_ends", [False, True])
  def test_its_file_is_taken(self, trained, float_ends):
    options = McuOptions(float_ends=float_ends)
    bundle = mcu.export_mcu(dataclasses.replace(trained, mcu=options))
    inputs = trained.evaluation_inputs
    outputs = tflm.run(bundle.files["mcu/model.tflite"], inputs).outputs
    wanted = keras_outputs(trained.quantisation_aware_model, inputs)
    assert np.abs(outputs - wanted).max() < 0.1 * np.abs(wanted).max()
    c_type = "float" if float_ends else "int8_t"
    settings = bundle.files["mcu/model_settings.h"].decode()
    assert f"using InputType = {c_type};" in settings

  def test_16_bits_are_made_of_the_float_model(self, trained, request_):
    options = McuOptions(activation_bits=16)
    made = mcu.export_mcu(dataclasses.replace(trained, mcu=options))
    assert made == mcu.export_mcu(dataclasses.replace(request_, mcu=options))


class TestNothingToGain:
  def test_the_file_is_only_shrunk_and_the_readme_says_so(self):
    bundle = mcu.export_mcu(models.request(*models.pruned(1.0)))
    whole = bundle.files["mcu/model_dense.tflite"]
    assert bundle.files["mcu/model.tflite"] == shrink(whole).model_bytes
    sparse, dense = bundle.artifacts
    assert sparse.bytes < dense.bytes == len(whole)
    text = bundle.files["mcu/README.md"].decode()
    assert "No tensor is stored compactly" in text
    assert "DECODE" not in text.split("## Tensors")[0]
    assert "PRUNING" not in text
    assert b"AddDecode" not in bundle.files["mcu/op_resolver.h"]


class TestAutoencoder:
  def test_is_judged_by_its_error_and_not_by_classes(self):
    request = models.autoencoder_request()
    bundle = mcu.export_mcu(request)
    outputs = tflm.run(
      bundle.files["mcu/model.tflite"], request.evaluation_inputs
    ).outputs
    difference = outputs - request.evaluation_inputs.reshape(24, 16)
    errors = np.square(difference.astype(np.float64)).mean(axis=1)
    normal, odd = errors[::2], errors[1::2]
    wins = (odd[:, np.newaxis] > normal).mean()
    for artifact in bundle.artifacts:
      assert (artifact.accuracy, artifact.argmax_agreement) == (None, None)
      assert artifact.auc == pytest.approx(wins)
    assert b"kClassNames" not in bundle.files["mcu/model_settings.h"]
    assert "mcu/preprocessing.json" not in bundle.files
    text = bundle.files["mcu/README.md"].decode()
    assert f"area under the ROC curve on the evaluation data: {wins:.4f}" in text
    assert "anomaly score" in text
    assert "kClassNames" not in text


def test_density_is_read_from_the_file(bundle, request_):
  masked = weights.check_masked_zeros(
    bundle.files["mcu/model_dense.tflite"], request_.masks
  )
  assert bundle.artifacts[0].density == masked.density
