"""What is said of preprocessing, to programs and to people."""

import dataclasses
import json

import numpy as np
import pytest

from fedtiny_tff.data.extraction import declare
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from tests.tflite_export import models
from tflite_export.texts import preprocessing_texts

_PLAIN = Preprocessing(1 / 3, (0.1,), (0.7,))
_NAMES = ("NetModel.kt", "NetModel.java")


def _provenance(extraction=None, **changes):
  how = _PLAIN
  if extraction is not None:
    how = dataclasses.replace(how, extraction=extraction)
  return dataclasses.replace(models.PROVENANCE, preprocessing=how, **changes)


@pytest.mark.parametrize(
  ("extraction", "shape", "raw"),
  [
    (None, (8, 8, 1), [8, 8, 1]),
    (Resize(4, 5), (4, 5, 3), [None, None, 3]),
    (declare("mfcc", [16_000]), (49, 10, 1), [16_000]),
  ],
)
def test_the_declaration_comes_back(extraction, shape, raw):
  provenance = _provenance(extraction, augmentations=("crop", "flip"))
  text = preprocessing_texts.declaration(provenance, shape)
  assert text is not None
  document = json.loads(text)
  assert document["format"] == "fedtiny-tff preprocessing"
  assert document["raw"] == {"shape": raw, "type": "uint8"}
  assert document["input"]["shape"] == list(shape)
  assert document["training_only"] == ["crop", "flip"]
  made = Preprocessing.from_json(document["preprocessing"])
  assert made == provenance.preprocessing
  assert document["in_words"] == made.in_words()


@pytest.mark.parametrize(
  ("extraction", "shape"),
  # Whatever the shape, numbers stand in the order of the rows.
  [(None, (8_000, 2)), (None, (8_000, 2, 1)), (declare("mfcc", [16_000]), (49, 10, 1))],
)
def test_the_order_of_a_table_is_declared(extraction, shape):
  provenance = _provenance(extraction, columns=("left", "right"))
  text = preprocessing_texts.declaration(provenance, shape)
  assert text is not None
  raw = json.loads(text)["raw"]
  assert (raw["rows"], raw["columns"]) == (8_000, ["left", "right"])
  assert raw["order"] == "2 * row + column, the oldest row first"


def test_an_order_that_cannot_be_is_not_declared():
  columns = ("a", "b", "c")
  for extraction, shape in [(None, (8,)), (Resize(4, 5), (4, 5, 3))]:
    provenance = _provenance(extraction, columns=columns)
    assert preprocessing_texts.layout(provenance, shape) is None
  unknown = dataclasses.replace(models.PROVENANCE, preprocessing=None, columns=columns)
  assert preprocessing_texts.layout(unknown, (3,)) is None


def test_what_is_not_known_is_not_declared():
  unknown = dataclasses.replace(models.PROVENANCE, preprocessing=None)
  assert preprocessing_texts.declaration(unknown, (4,)) is None
  section = preprocessing_texts.card_section(unknown, (4,), _NAMES)
  assert section.startswith("Not known")
  assert "json" not in section


def test_the_card_says_it_in_words_and_as_json():
  section = preprocessing_texts.card_section(
    _provenance(Resize(4, 5)), (4, 5, 3), _NAMES
  )
  assert (
    "any×any×3 uint8. Its values are from 0 to 255, as in the training data. "
    in section
  )
  assert "resized to 4×5 pixels" in section
  assert (
    "In `NetModel.kt` and `NetModel.java` the function `preprocess` does" in section
  )
  (text,) = section.split("```json\n")[1:]
  read = Preprocessing.from_json(json.loads(text.split("\n```")[0]))
  assert read == dataclasses.replace(_PLAIN, extraction=Resize(4, 5))
  assert "training only" not in section


def test_augmentations_are_for_training_only():
  section = preprocessing_texts.card_section(
    _provenance(augmentations=("crop", "cutout")), (8, 8, 1), _NAMES
  )
  assert section.endswith(
    "Used in training only, nothing for a device to do: crop, cutout."
  )


def test_signals_have_a_file():
  made = _provenance(declare("log_mel", [16_000]), feature_type="float32")
  section = preprocessing_texts.card_section(made, (49, 40, 1), _NAMES)
  assert "A raw example is 16000 float32. Its values are from -1 to 1, " in section
  assert "with `preprocessing.tflite`, does that" in section


@pytest.mark.parametrize(
  ("changes", "fed", "told"),
  [
    # Of bytes the scale says it: (x / 3 - 0.1) / 0.7 of 0 and 3.
    ({}, [-0.1 / 0.7, 0.9 / 0.7], "from 0 to 3, as in the training data"),
    # Unless samples show that it does not.
    ({}, [0.9 / 0.7, 1.9 / 0.7], "as in the training data; those of the calibration samples go from 3 to 6"),
    ({"feature_type": "float32"}, [-0.1 / 0.7, 0.9 / 0.7], "as in the training data; those of the calibration samples go from 0 to 3"),
    ({"feature_type": "float32"}, [], "as in the training data"),
    ({"extraction": declare("mfcc", [16_000])}, [5.0], "from -1 to 1, as in the training data"),
    ({"extraction": Resize(4, 5)}, [5.0], "from 0 to 255, as in the training data"),
  ],
)  # fmt: skip
def test_raw_values_are_as_far_known_as_training_data_tell(changes, fed, told):
  calibration = np.array(fed, np.float32).reshape(-1, 1)
  assert preprocessing_texts.raw_values(_provenance(**changes), calibration) == told


def test_of_inputs_alone_the_range_is_that_of_the_samples():
  unknown = dataclasses.replace(models.PROVENANCE, preprocessing=None)
  calibration = np.array([[-2.5, 4.0]], np.float32)
  section = preprocessing_texts.card_section(unknown, (2,), _NAMES, calibration)
  assert "those of the calibration samples go from -2.5 to 4." in section


@pytest.mark.parametrize(
  ("extraction", "shape", "polarity", "turned"),
  [
    (None, (8, 8, 1), True, False),
    (None, (8, 8, 3), False, False),
    (None, (8,), False, False),
    (Resize(4, 5), (4, 5, 1), True, True),
    (Resize(4, 5, grey=True), (4, 5, 1), False, True),
    (declare("mfcc", [16_000]), (49, 10, 1), False, False),
  ],
)
def test_images_come_with_what_is_not_known_of_them(
  extraction, shape, polarity, turned
):
  section = preprocessing_texts.card_section(_provenance(extraction), shape, _NAMES)
  assert ("light on dark" in section) == polarity
  assert ("EXIF" in section) == turned
