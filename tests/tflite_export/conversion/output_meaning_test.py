"""What outputs are, by what a model ends in."""

import dataclasses

import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from tests.tflite_export import models
from tflite_export.android import android_snippets
from tflite_export.conversion import output_meaning
from tflite_export.conversion.convert import convert

LAYERS = tf.keras.layers


@pytest.fixture(name="request_", scope="module")
def fixture_request():
  return models.request(*models.pruned(0.1))


def _nested(x):
  inner = LAYERS.Input((4,))
  return tf.keras.Model(inner, LAYERS.Softmax()(inner))(x)


def _ending(request, end):
  inputs = LAYERS.Input((4,))
  return dataclasses.replace(request, model=tf.keras.Model(inputs, end(inputs)))


@pytest.mark.parametrize(
  ("end", "found"),
  [
    (LAYERS.Dense(4), "logits"),
    (LAYERS.BatchNormalization(), "logits"),
    (LAYERS.Dense(4, activation="softmax"), "softmax"),
    (LAYERS.Dense(4, activation=LAYERS.Softmax()), "softmax"),
    (LAYERS.Softmax(), "softmax"),
    (lambda x: LAYERS.Flatten()(LAYERS.Softmax()(x)), "softmax"),
    (lambda x: LAYERS.Activation("linear")(LAYERS.Activation("softmax")(x)), "softmax"),
    (tf.nn.softmax, "softmax"),
    (_nested, "softmax"),
    # What follows makes something else of them.
    (lambda x: LAYERS.Dense(4)(LAYERS.Softmax()(x)), "logits"),
    (LAYERS.Dense(4, activation="sigmoid"), "sigmoid"),
    (tf.nn.sigmoid, "sigmoid"),
    (tf.nn.log_softmax, "other"),
    (LAYERS.Dense(4, activation="relu"), "other"),
  ],
)
def test_the_end_says_what_outputs_are(request_, end, found):
  request = _ending(request_, end)
  assert output_meaning.meaning(request) == found
  is_probability = found in ("softmax", "sigmoid")
  name = output_meaning.signature_name(request)
  assert name == ("probabilities" if is_probability else "logits")


def test_what_reconstructs_has_no_classes(request_):
  request = dataclasses.replace(
    _ending(request_, LAYERS.Softmax()), task=tasks.RECONSTRUCT
  )
  assert output_meaning.meaning(request) == "reconstruction"
  assert output_meaning.signature_name(request) == "reconstruction"


@pytest.mark.parametrize("format", ["fp32_dense", "int8_dense"])
def test_the_files_signature_says_it_too(request_, format):
  model = _ending(request_, LAYERS.Dense(4, activation="softmax")).model
  content = convert(model, format, models.np.eye(4, dtype="float32"), "probabilities")
  assert android_snippets.read_interface(content).output_name == "probabilities"
