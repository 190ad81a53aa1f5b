"""From raw examples to inputs: by hand, as JSON, and in words."""

import json

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedtiny_tff.data import extraction, preprocessing
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
_POSITIVE = st.floats(min_value=2**-100, max_value=2**100, width=32)


def test_preprocessing_by_hand():
  how = Preprocessing(scale=0.5, mean=(1.0,), deviation=(2.0,))
  # (6 * 0.5 - 1) / 2 = 1; (0 - 1) / 2 = -0.5.
  applied = how.apply(np.array([[6], [0]], np.uint8))
  assert applied.dtype == np.float32
  np.testing.assert_array_equal(applied, [[1.0], [-0.5]])


def test_channels_have_their_own_mean_and_deviation():
  how = Preprocessing(scale=1.0, mean=(0.0, 10.0), deviation=(1.0, 5.0))
  applied = how.apply(np.array([[3.0, 20.0]], np.float32))
  np.testing.assert_array_equal(applied, [[3.0, 2.0]])


def test_large_bytes_do_not_wrap_around():
  how = Preprocessing(scale=2.0, mean=(0.0,), deviation=(1.0,))
  assert how.apply(np.array([255], np.uint8)).tolist() == [510.0]


def test_raw_images_are_resized_and_then_normalised():
  how = Preprocessing(0.5, (1.0, 2.0), (2.0, 4.0), Resize(1, 2))
  raw = np.zeros((1, 1, 4, 2), np.uint8)
  raw[0, 0, :, 0], raw[0, 0, :, 1] = (0, 7, 14, 0), 10
  made = preprocessing.apply_raw(how, tf.constant(raw)).numpy()
  # The first channel becomes 5 and 7, as in `extraction_test`; the second stays 10.
  assert made.dtype == np.float32
  assert made.tolist() == [[[[0.75, 0.75], [1.25, 0.75]]]]
  features = extraction.extract_batch(how.extraction, raw)
  np.testing.assert_array_equal(how.apply(features), made)


def test_as_many_channels_as_are_declared():
  how = Preprocessing(1.0, (0.0, 1.0), (1.0, 1.0))
  assert preprocessing.apply_raw(how, tf.zeros([3, 2])).shape == (3, 2)
  with pytest.raises(InputError, match=r"for 2 channels, got features of shape \[3\]"):
    preprocessing.apply_raw(how, tf.zeros([1, 3]))


def test_words_say_it_all():
  how = Preprocessing(1 / 16, (0.3,), (0.38,))
  assert how.in_words() == "(raw * 0.0625 - mean) / deviation, mean 0.3, deviation 0.38"
  how = Preprocessing(1.0, (0.0,) * 5, (1.0,) * 5, Resize(2, 3))
  assert how.in_words().startswith("resized to 2×3 pixels (tf.image.resize, ")
  assert how.in_words().endswith(
    "; then (value * 1 - mean) / deviation, mean and deviation of each of 5 channels"
  )


@pytest.mark.parametrize(
  ("changes", "told"),
  [
    ({"scale": 0.0}, "scale must be positive"),
    ({"scale": float("nan")}, "scale must be positive"),
    ({"mean": ()}, "got 0 and 1"),
    ({"mean": (1.0, 2.0)}, "got 2 and 1"),
    ({"mean": (float("inf"),)}, "mean must hold finite"),
    # They are 0 and infinity in float32.
    ({"deviation": (1e-50,)}, "deviation must hold positive"),
    ({"deviation": (1e50,)}, "deviation must hold positive"),
  ],
)
def test_what_cannot_be_meant_is_refused(changes, told):
  good = {"scale": 1.0, "mean": (0.0,), "deviation": (1.0,)}
  with pytest.raises(InputError, match=told):
    Preprocessing(**good | changes)


@support.quick
@hypothesis.given(
  _POSITIVE, st.lists(st.tuples(_NUMBERS, _POSITIVE), min_size=1, max_size=3)
)
def test_json_gives_the_same_numbers_back(scale, channels):
  mean, deviation = zip(*channels, strict=True)
  how = Preprocessing(scale, mean, deviation, Resize(3, 4))
  assert Preprocessing.from_json(json.loads(json.dumps(how.to_json()))) == how


@pytest.mark.parametrize(
  "document",
  [
    None,
    [],
    {},
    {"scale": 1.0, "mean": [0.0], "deviation": [1.0]},
    {"scale": 1.0, "mean": [0.0], "deviation": [1.0], "extraction": {}, "more": 1},
    {"scale": "1", "mean": [0.0], "deviation": [1.0], "extraction": {"kind": "none"}},
    {"scale": 1.0, "mean": 0.0, "deviation": [1.0], "extraction": {"kind": "none"}},
    {"scale": 1.0, "mean": [None], "deviation": [1.0], "extraction": {"kind": "none"}},
    {"scale": 1.0, "mean": [10**400], "deviation": [1], "extraction": {"kind": "none"}},
    {"scale": 1.0, "mean": [0.0], "deviation": [True], "extraction": {"kind": "none"}},
    {"scale": 1.0, "mean": [0.0], "deviation": [0.0], "extraction": {"kind": "none"}},
    {"scale": 1.0, "mean": [0.0], "deviation": [1.0], "extraction": {"kind": "?"}},
    {"scale": 1.0, "mean": [0.0], "deviation": [1.0], "extraction": "none"},
  ],
)
def test_other_documents_are_refused_in_one_line(document):
  with pytest.raises(InputError) as caught:
    Preprocessing.from_json(document)
  assert "\n" not in str(caught.value)


def test_whole_numbers_are_numbers():
  document = {"scale": 1, "mean": [0], "deviation": [2], "extraction": {"kind": "none"}}
  assert Preprocessing.from_json(document) == Preprocessing(1.0, (0.0,), (2.0,))
