import dataclasses

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export import android, litert
from tflite_export.android import ANDROID_FORMATS, export_android
from tflite_export.artifacts import VerificationError

SPARSE, DENSE = ANDROID_FORMATS


@pytest.fixture(scope="module")
def request_():
  return models.request(*models.pruned(0.05))


@pytest.fixture(scope="module")
def bundle(request_):
  return export_android(request_)


def test_files_and_artifacts(bundle):
  assert set(bundle.files) == {
    "android/fp32_sparse.tflite",
    "android/fp32_dense.tflite",
  }
  sparse, dense = bundle.artifacts
  assert (sparse.path, sparse.format) == ("android/fp32_sparse.tflite", "fp32_sparse")
  assert (dense.path, dense.format) == ("android/fp32_dense.tflite", "fp32_dense")
  assert sparse.bytes == len(bundle.files[sparse.path])
  assert sparse.dense_bytes == dense.bytes == dense.dense_bytes
  for artifact in bundle.artifacts:
    # stem 432 x 0.05 = 22, pointwise 256 = 13 twice, expand 512 = 26, head 128 = 6.
    assert artifact.density == (22 + 13 + 13 + 26 + 6) / 1584
    assert artifact.target == "android"
    assert artifact.accuracy == 1
    assert artifact.argmax_agreement == 1
    assert artifact.max_abs_error < 1e-4
    assert artifact.runtime == litert.runtime_name()
    assert artifact.arena_bytes is None


def test_sparse_file_is_smaller_at_low_density(bundle):
  sparse, dense = bundle.artifacts
  # 1,504 zeros of 4 bytes go; each kept weight costs at most 2 bytes of index.
  assert dense.bytes - sparse.bytes > 3000


def test_sparse_file_that_is_larger_is_kept_and_reported():
  sparse, _ = export_android(
    models.request(*models.pruned(0.69), evaluated=4)
  ).artifacts
  assert sparse.bytes > sparse.dense_bytes


def test_dense_model_exports_with_nothing_stored_sparse():
  model = models.small_classifier()
  sparse, _ = export_android(models.request(model, {}, evaluated=4)).artifacts
  assert sparse.density == 1


def test_without_labels_there_is_no_accuracy(request_):
  bundle = export_android(dataclasses.replace(request_, evaluation_labels=None))
  assert [artifact.accuracy for artifact in bundle.artifacts] == [None, None]


def test_same_request_gives_same_files(request_, bundle):
  assert export_android(request_).files == bundle.files


def test_drifted_zero_is_refused(request_):
  model = models.small_classifier()
  masks = models.prune(model, 0.05)
  kernel = model.get_layer("head").kernel
  kernel.assign_add(np.full(kernel.shape, 1e-9, np.float32))
  with pytest.raises(
    VerificationError, match=r"fp32_sparse\.tflite: layer 'head': 122 of 122 masked"
  ):
    export_android(models.request(model, masks))


def test_file_of_another_model_is_refused(request_):
  reference = np.ones((len(request_.evaluation_inputs), models.NUM_CLASSES))
  with pytest.raises(
    VerificationError, match=r"fp32_dense.tflite: largest output error .* of 32 inputs"
  ):
    android.check_outputs(
      DENSE,
      models.converted("fp32_dense", 0.05),
      request_,
      reference,
    )


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
      SPARSE,
      models.converted("fp16_sparse", 0.05),
      request_,
      reference,
    )


def test_dense_storage_in_a_sparse_format_is_refused(request_):
  with pytest.raises(
    VerificationError, match="no tensor is stored sparse, although 5 of 5 masked layers"
  ):
    android.check_weights(SPARSE, models.converted("fp32_dense", 0.05), request_.masks)


@pytest.mark.parametrize("check", ["weights", "outputs"])
def test_damaged_file_is_refused(request_, check):
  damaged = models.converted("fp32_sparse", 0.05)[:5000]
  with pytest.raises(VerificationError, match=r"android/fp32_sparse\.tflite"):
    if check == "weights":
      android.check_weights(SPARSE, damaged, request_.masks)
    else:
      android.check_outputs(SPARSE, damaged, request_, np.ones((32, 4)))


def test_evaluation_data_of_another_shape_are_the_users_error(request_):
  wrong = dataclasses.replace(
    request_, evaluation_inputs=np.zeros((4, 8, 8, 3), np.float32)
  )
  with pytest.raises(InputError, match="evaluation inputs"):
    export_android(wrong)


def test_an_autoencoder_is_judged_by_its_error():
  request = models.autoencoder_request()
  sparse, dense = export_android(request).artifacts
  outputs = request.model(request.evaluation_inputs, training=False).numpy()
  difference = outputs - request.evaluation_inputs.reshape(24, 16)
  errors = np.square(difference).mean(axis=1)
  wins = (errors[1::2, np.newaxis] > errors[::2]).mean()
  for artifact in (sparse, dense):
    assert (artifact.accuracy, artifact.argmax_agreement) == (None, None)
    assert artifact.auc == pytest.approx(wins)
  assert sparse.bytes < dense.bytes


def test_an_autoencoder_that_differs_is_refused_without_naming_classes():
  request = models.autoencoder_request()
  content = export_android(request).files["android/fp32_dense.tflite"]
  with pytest.raises(VerificationError, match=r"allowed 0\.0001$"):
    android.check_outputs(DENSE, content, request, np.ones((24, 16)))
