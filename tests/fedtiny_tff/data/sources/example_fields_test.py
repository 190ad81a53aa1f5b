"""Fields of a single record, or what is wrong with them."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data.sources import example_fields
from fedtiny_tff.data.sources.batch_decoding import UnusableRecord
from tests.fedtiny_tff.data.sources import records

_FIELDS = {
  "image": tf.io.FixedLenFeature([], tf.string),
  "label": tf.io.FixedLenFeature([], tf.int64),
  "features": tf.io.FixedLenFeature([2], tf.float32),
}


def test_fields_are_read():
  record = records.example(image=b"x", label=3, features=[0.5, -1.0], more=7)
  expected = {"image": b"x", "label": 3, "features": [0.5, -1.0]}
  assert example_fields.parse_one(record, _FIELDS) == expected
  together = tf.io.parse_example([record], _FIELDS)
  assert set(together) == set(expected)
  for name, values in together.items():
    np.testing.assert_array_equal(values[0], np.array(expected[name]))


@pytest.mark.parametrize(
  ("record", "field", "reason"),
  [
    (b"\xff\xff", None, "is no tf.train.Example"),
    (b"", "image", "is missing"),
    (records.example(image=b"x"), "label", "is missing"),
    (records.example(image=5), "image", "holds int64, expected bytes"),
    (records.example(image=b"x", label=b"3"), "label", "holds bytes, expected int64"),
    (
      records.example(image=b"x", label=3, features=[0.5]),
      "features",
      "holds 1 values, expected 2",
    ),
  ],
)
def test_what_is_wrong_is_said(record, field, reason):
  with pytest.raises(UnusableRecord) as error:
    example_fields.parse_one(record, _FIELDS)
  assert (error.value.field, error.value.reason) == (field, reason)
  # The message quotes the record, which need not be UTF-8.
  with pytest.raises((tf.errors.InvalidArgumentError, UnicodeDecodeError)):
    tf.io.parse_example([record], _FIELDS)


def test_an_empty_field_is_told_from_a_missing_one():
  message = tf.train.Example()
  message.features.feature["image"].SetInParent()
  with pytest.raises(UnusableRecord, match="holds nothing, expected bytes"):
    example_fields.parse_one(message.SerializeToString(), _FIELDS)
