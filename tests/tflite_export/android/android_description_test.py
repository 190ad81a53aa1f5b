"""What is attached to files says what the model was trained with."""

import dataclasses

import numpy as np
import pytest

from fedtiny_tff.data.extraction import declare
from fedtiny_tff.data.extraction_base import Resize
from tests.tflite_export import models
from tflite_export.android import android
from tflite_export.android.android_description import describe
from tflite_export.metadata import model_metadata_reader


@pytest.fixture(name="request_", scope="module")
def fixture_request():
  return models.request(*models.pruned(0.1))


def test_normalisation_is_of_stored_values(request_):
  described = describe(request_, "fp32_sparse")
  raw = np.array([[0, 128, 255]], np.uint8)
  fed = (raw - np.array(described.mean)) / np.array(described.deviation)
  np.testing.assert_allclose(
    fed, request_.provenance.preprocessing.apply(raw), rtol=1e-5, atol=1e-6
  )
  assert described.value_range == (0.0, 255.0)


def test_unknown_preprocessing_is_none(request_):
  provenance = dataclasses.replace(
    request_.provenance, preprocessing=None, feature_type=None
  )
  described = describe(
    dataclasses.replace(request_, provenance=provenance), "int8_dense"
  )
  assert (described.mean, described.deviation) == ((0.0,), (1.0,))
  assert described.value_range is None
  assert "as in training" in described.input_description


@pytest.mark.parametrize(
  ("extraction", "told", "image"),
  [
    (declare("none", ()), "over the deviation", True),
    (Resize(16, 16), "stored: resized to 16×16 pixels", True),
    (declare("log_mel", [400], 8000), "stored: log-mel spectrogram of 400", False),
  ],
)
def test_spectrograms_are_no_pictures(request_, extraction, told, image):
  known = dataclasses.replace(request_.provenance.preprocessing, extraction=extraction)
  provenance = dataclasses.replace(request_.provenance, preprocessing=known)
  described = describe(
    dataclasses.replace(request_, provenance=provenance), "fp32_dense"
  )
  assert told in described.input_description
  assert described.image_input is image


def test_density_is_the_masks(request_):
  # stem 432, pointwise 256 twice, expand 512, head 128; a tenth each, rounded.
  expected = (43 + 26 + 26 + 51 + 13) / 1584
  assert describe(request_, "fp32_sparse").density == expected
  assert describe(dataclasses.replace(request_, masks={}), "fp32_sparse").density == 1


@pytest.mark.parametrize(
  ("shape", "image"),
  [((8, 8, 1), True), ((8, 8, 3), True), ((8, 8, 2), False), ((9,), False)],
)
def test_pictures_have_one_or_three_channels(request_, shape, image):
  inputs = models.tf.keras.Input(shape)
  model = models.tf.keras.Model(inputs, inputs)
  described = describe(dataclasses.replace(request_, model=model), "fp32_dense")
  assert described.image_input is image


@pytest.mark.parametrize(
  ("end", "told"),
  [
    (models.tf.keras.layers.Dense(4, activation="softmax"), "after softmax"),
    (models.tf.keras.layers.Softmax(), "after softmax"),
    (
      models.tf.keras.layers.Dense(4),
      "logits, one per class: the largest is the answer",
    ),
  ],
)
def test_probabilities_are_called_so(request_, end, told):
  inputs = models.tf.keras.Input((4,))
  model = models.tf.keras.Model(inputs, end(inputs))
  made = describe(dataclasses.replace(request_, model=model), "fp32_dense")
  assert told in made.output_description


def test_every_shipped_file_tells_its_format_and_labels(request_):
  bundle = android.export_android(request_)
  for artifact in bundle.artifacts:
    found = model_metadata_reader.read(bundle.files[artifact.path])
    text = str(found)
    # Where nothing gets smaller the sparse file is its twin, and says so.
    same = (
      bundle.files[artifact.path]
      == bundle.files[artifact.path.replace("_sparse", "_dense")]
    )
    named = artifact.format.replace("_sparse", "_dense") if same else artifact.format
    assert named in text
    assert "class 3" in text
    assert "CC0-1.0" in text
