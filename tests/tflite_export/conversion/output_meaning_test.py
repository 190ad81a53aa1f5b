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


def _two(merged, one="softmax", other="softmax", size=4):
  """Two heads, merged."""
  return lambda x: merged([LAYERS.Dense(size, one)(x), LAYERS.Dense(size, other)(x)])


def _image(activation, *ends):
  def end(x):
    x = LAYERS.Conv2D(4, 1, activation=activation)(LAYERS.Reshape((2, 2, 1))(x))
    for layer in ends:
      x = layer(x)
    return x

  return end


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
    (lambda x: LAYERS.ReLU()(LAYERS.Dense(4)(x)), "other"),
    (lambda x: LAYERS.LeakyReLU()(LAYERS.Softmax()(x)), "other"),
    # What only moves, averages, picks or adds values leaves them what they were, or not.
    (lambda x: LAYERS.Dropout(0.5)(LAYERS.Dense(4)(x)), "logits"),
    (_two(LAYERS.Concatenate(), "sigmoid", "sigmoid", 2), "sigmoid"),
    (_two(LAYERS.Concatenate(), None, None, 2), "logits"),
    (_two(LAYERS.Concatenate(), size=2), "other"),
    (_two(LAYERS.Average()), "softmax"),
    (_two(LAYERS.Average(), "sigmoid", "sigmoid"), "sigmoid"),
    (_two(LAYERS.Average(), "softmax", "sigmoid"), "other"),
    (_two(LAYERS.Maximum()), "other"),
    (_two(LAYERS.Maximum(), "sigmoid", "sigmoid"), "sigmoid"),
    (_two(LAYERS.Add()), "other"),
    (_two(LAYERS.Add(), None, None), "logits"),
    (_two(LAYERS.Multiply(), None, None), "other"),
    (lambda x: LAYERS.Rescaling(0.5)(LAYERS.Softmax()(x)), "other"),
    (lambda x: LAYERS.Rescaling(0.5)(LAYERS.Dense(4)(x)), "logits"),
    (_image("softmax", LAYERS.GlobalAveragePooling2D()), "softmax"),
    (_image("sigmoid", LAYERS.GlobalAveragePooling2D()), "sigmoid"),
    (_image(None, LAYERS.GlobalAveragePooling2D()), "logits"),
    (_image("relu", LAYERS.GlobalAveragePooling2D()), "other"),
    (_image("softmax", LAYERS.GlobalMaxPooling2D()), "other"),
    (_image("softmax", LAYERS.AveragePooling2D(), LAYERS.Flatten()), "softmax"),
    (_image("softmax", LAYERS.Flatten()), "other"),
    # Nothing is there to make a model of.
    (LAYERS.Flatten(), "other"),
    # A single value has no softmax.
    (LAYERS.Dense(1), "other"),
    (LAYERS.Dense(1, activation="softmax"), "other"),
    (LAYERS.Dense(1, activation="sigmoid"), "sigmoid"),
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
