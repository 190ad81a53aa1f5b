import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.android import android
from tflite_export.android.android import ANDROID_FORMATS, export_android
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import convert
from tflite_export.runtimes import litert
from tflite_export.xnnpack import eligibility

FORMATS = {entry.format: entry for entry in ANDROID_FORMATS}
SPARSE, DENSE = FORMATS["fp32_sparse"], FORMATS["fp32_dense"]


@pytest.fixture(scope="module")
def request_():
  return models.request(*models.pruned(0.05))


@pytest.fixture(scope="module")
def bundle(request_):
  return export_android(request_)


def test_files_and_artifacts(bundle):
  formats = [
    f"{name}_{storage}"
    for name in ("fp32", "fp16", "int8", "dynamic_range")
    for storage in ("dense", "sparse")
  ]
  assert list(bundle.files) == [f"android/{name}.tflite" for name in formats]
  for artifact, format in zip(bundle.artifacts, formats, strict=True):
    assert artifact.path == f"android/{format}.tflite"
    assert artifact.format == format
    assert artifact.target == "android"
    assert artifact.bytes == len(bundle.files[artifact.path])
    assert artifact.runtime == litert.runtime_name()
    assert artifact.arena_bytes is None


def test_dense_bytes_are_the_twins(bundle):
  for dense, sparse in zip(bundle.artifacts[::2], bundle.artifacts[1::2], strict=True):
    assert sparse.dense_bytes == dense.dense_bytes == dense.bytes


def test_twins_have_equal_figures(bundle):
  for dense, sparse in zip(bundle.artifacts[::2], bundle.artifacts[1::2], strict=True):
    for name in ("density", "accuracy", "argmax_agreement", "max_abs_error"):
      assert getattr(sparse, name) == getattr(dense, name)


def test_float_files_are_as_good_as_the_model(bundle):
  for artifact in bundle.artifacts[:4]:
    # stem 432 x 0.05 = 22, pointwise 256 = 13 twice, expand 512 = 26, head 128 = 6.
    assert artifact.density == (22 + 13 + 13 + 26 + 6) / 1584
    assert artifact.accuracy == 1
    assert artifact.argmax_agreement == 1
    assert artifact.max_abs_error < (1e-4 if "fp32" in artifact.format else 1e-2)


def test_sparse_files_are_smaller_at_low_density(bundle):
  saved = {
    artifact.format: artifact.dense_bytes - artifact.bytes
    for artifact in bundle.artifacts[1::2]
  }
  # 1,322 zeros of the larger four layers go; a tensor stored sparse adds 300 bytes or
  # so, and each weight kept its index.
  assert saved["fp32_sparse"] > 3000
  assert saved["fp16_sparse"] > 1000
  # The converter leaves tensors of fewer than 1,024 elements float32.
  assert saved["dynamic_range_sparse"] > 3000
  assert saved["int8_sparse"] >= 0


def test_where_nothing_gets_smaller_the_sparse_file_is_its_twin():
  model = models.small_classifier()
  made = export_android(models.request(model, {}, evaluated=4))
  for artifact in made.artifacts:
    assert artifact.bytes == artifact.dense_bytes
    assert artifact.density == 1
  assert (
    made.files["android/int8_sparse.tflite"]
    == (made.files["android/int8_dense.tflite"])
  )


def test_what_would_not_load_on_arm_is_stored_dense():
  """Pooling that keeps its dimensions, then a 1×1 convolution as the head."""
  layers = models.tf.keras.layers
  inputs = layers.Input(models.INPUT_SHAPE)
  x = layers.ZeroPadding2D(1)(inputs)
  x = layers.Conv2D(16, 3, strides=2, activation="relu", name="stem")(x)
  x = layers.Conv2D(128, 1, activation="relu", name="pointwise")(x)
  x = layers.GlobalAveragePooling2D(keepdims=True)(x)
  x = layers.Flatten()(layers.Conv2D(models.NUM_CLASSES, 1, name="head")(x))
  model = tf.keras.Model(inputs, x)
  models.randomise(model, seed=0)
  request = models.request(model, models.prune(model, 0.1, ("pointwise", "head")))
  made = export_android(request)
  notes = {artifact.format: artifact.note for artifact in made.artifacts}
  assert {name for name, note in notes.items() if note} == {
    "fp32_sparse",
    "fp16_sparse",
  }
  assert "keep" in str(notes["fp32_sparse"])
  files = made.files
  assert files["android/fp32_sparse.tflite"] == files["android/fp32_dense.tflite"]
  assert eligibility.inspect(files["android/fp16_sparse.tflite"]).errors == ()
  # The same network is stored sparse where it is mended.
  assert all(each.note is None for each in export_android(_mended(request)).artifacts)


def _mended(request):
  layers = models.tf.keras.layers
  pooled = layers.GlobalAveragePooling2D()(request.model.get_layer("pointwise").output)
  model = tf.keras.Model(request.model.inputs, layers.Dense(4, name="end")(pooled))
  masks = {"pointwise": request.masks["pointwise"]}
  return dataclasses.replace(request, model=model, masks=masks)


def test_without_labels_there_is_no_accuracy(request_):
  bundle = export_android(dataclasses.replace(request_, evaluation_labels=None))
  assert {artifact.accuracy for artifact in bundle.artifacts} == {None}


def test_same_request_gives_same_files(request_, bundle):
  assert export_android(request_).files == bundle.files


def test_drifted_zero_is_refused(request_):
  model = models.small_classifier()
  masks = models.prune(model, 0.05)
  kernel = model.get_layer("head").kernel
  kernel.assign_add(np.full(kernel.shape, 1e-9, np.float32))
  with pytest.raises(
    VerificationError, match=r"fp32_dense\.tflite: layer 'head': 122 of 122 masked"
  ):
    export_android(models.request(model, masks))


def test_file_of_another_model_is_refused(request_):
  reference = np.ones((len(request_.evaluation_inputs), models.NUM_CLASSES))
  with pytest.raises(
    VerificationError, match=r"fp32_dense.tflite: largest output error .* of 32 inputs"
  ):
    android.check_outputs(
      DENSE, outputs_of("fp32_dense", request_), request_, reference
    )


def outputs_of(format, request):
  return litert.run(models.converted(format, 0.05), request.evaluation_inputs)


def test_sparse_file_that_differs_from_its_twin_is_refused(request_):
  entry = FORMATS["int8_sparse"]
  dense = outputs_of("int8_dense", request_)
  android.check_identical(entry, dense, dense.copy())
  sparse = dense.copy()
  sparse[3, 1] += 0.25
  with pytest.raises(
    VerificationError,
    match=r"int8_sparse\.tflite: outputs differ .* 1 of 32 inputs, by up to 0\.25",
  ):
    android.check_identical(entry, dense, sparse)


def test_nan_outputs_are_refused():
  model = models.small_classifier()
  masks = models.prune(model, 0.05)
  model.get_layer("head").bias.assign([np.nan] * models.NUM_CLASSES)
  with pytest.raises(VerificationError, match="largest output error nan"):
    export_android(models.request(model, masks))


def test_less_exact_format_is_refused(request_):
  # float16 weights are about 1e-3 off: a hundred times the tolerance.
  reference = request_.model(request_.evaluation_inputs, training=False).numpy()
  with pytest.raises(VerificationError, match=r"allowed 0\.0001"):
    android.check_outputs(
      SPARSE, outputs_of("fp16_sparse", request_), request_, reference
    )


def test_dense_storage_in_a_sparse_format_is_refused():
  inputs = tf.keras.Input((64,))
  model = tf.keras.Model(inputs, tf.keras.layers.Dense(16, name="head")(inputs))
  models.randomise(model, seed=0)
  masks = models.prune(model, 0.125)
  content = convert(model, "fp32_dense")
  with pytest.raises(
    VerificationError, match="no tensor is stored sparse, although 1 of 1 masked layers"
  ):
    android.check_weights(SPARSE, content, masks)
  assert android.check_weights(DENSE, content, masks).density == 0.125
  # LiteRT would not load an int8 dense layer that is stored sparse.
  assert android.check_weights(FORMATS["int8_sparse"], content, masks).density == 0.125


@pytest.mark.parametrize("check", ["weights", "outputs"])
def test_damaged_file_is_refused(request_, check):
  damaged = models.converted("fp32_sparse", 0.05)[:5000]
  with pytest.raises(VerificationError, match=r"android/fp32_sparse\.tflite"):
    if check == "weights":
      android.check_weights(SPARSE, damaged, request_.masks)
    else:
      android.run(SPARSE, damaged, request_.evaluation_inputs)


def test_evaluation_data_of_another_shape_are_the_users_error(request_):
  wrong = dataclasses.replace(
    request_, evaluation_inputs=np.zeros((4, 8, 8, 3), np.float32)
  )
  with pytest.raises(InputError, match="evaluation inputs"):
    export_android(wrong)


def test_an_autoencoder_is_judged_by_its_error():
  request = models.autoencoder_request()
  artifacts = export_android(request).artifacts
  outputs = request.model(request.evaluation_inputs, training=False).numpy()
  difference = outputs - request.evaluation_inputs.reshape(24, 16)
  errors = np.square(difference).mean(axis=1)
  wins = (errors[1::2, np.newaxis] > errors[::2]).mean()
  for artifact in artifacts:
    assert (artifact.accuracy, artifact.argmax_agreement) == (None, None)
    assert artifact.auc == pytest.approx(wins, abs=0.1)
  for artifact in artifacts[:2]:
    assert artifact.auc == pytest.approx(wins)
  assert artifacts[1].bytes < artifacts[0].bytes


def test_an_autoencoder_that_differs_is_refused_without_naming_classes():
  request = models.autoencoder_request()
  outputs = request.model(request.evaluation_inputs, training=False).numpy()
  with pytest.raises(VerificationError, match=r"allowed 0\.0001$"):
    android.check_outputs(DENSE, outputs, request, np.ones((24, 16)))
