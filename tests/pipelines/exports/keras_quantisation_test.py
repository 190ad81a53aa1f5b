"""Tests of the decision for a Keras model with labelled rows, on real int8 files."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from sklearn import datasets

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from pipelines.apps.progress import Progress
from pipelines.exports import keras_quantisation
from pipelines.exports.keras_quantisation import RowsQuantisation
from tests.tflite_export import models
from tflite_export.artifacts import ExportRequest
from tflite_export.conversion.convert_quantised import convert_quantised
from tflite_export.runtimes import litert

layers = tf.keras.layers


@functools.cache
def request(spread: float, rows: int = 1200) -> ExportRequest:
  """Digits, and a network with hidden units of scales from 10^-spread to 10^spread."""
  x, y = datasets.load_digits(return_X_y=True)
  x = (x / 16).astype(np.float32)
  tf.keras.utils.set_random_seed(0)
  inputs = layers.Input((64,))
  hidden = layers.Dense(24, activation="relu", name="hidden")(inputs)
  model = tf.keras.Model(inputs, layers.Dense(10, name="logits")(hidden))
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(tf.keras.optimizers.Adam(5e-3), loss)
  model.fit(x, y, epochs=10, batch_size=32, verbose=0)
  factors = 10 ** np.random.default_rng(0).uniform(-spread, spread, 24)
  first, second = model.get_layer("hidden"), model.get_layer("logits")
  kernel = first.kernel.numpy()
  mask = np.abs(kernel) > np.quantile(np.abs(kernel), 0.3)
  first.kernel.assign((kernel * mask * factors).astype(np.float32))
  first.bias.assign((first.bias * factors).numpy().astype(np.float32))
  second.kernel.assign((second.kernel / factors[:, np.newaxis]).numpy())
  return ExportRequest(
    model=model,
    masks={"hidden": mask},
    task=tasks.CLASSIFY,
    calibration=x[:rows],
    evaluation_inputs=x[:rows],
    evaluation_labels=y[:rows],
    class_names=tuple("0123456789"),
    provenance=models.PROVENANCE,
  )


def quantise(made: ExportRequest, **how):
  return keras_quantisation.quantise_on_rows(made, RowsQuantisation(**how), Progress())


def test_auto_trains_where_a_point_is_lost():
  made = request(1.5)
  found = quantise(made, epochs=5)
  facts = found.facts
  assert facts["post_training"] < facts["float"] - 0.01
  assert facts["quantisation_aware"] > facts["post_training"] + 0.01
  assert facts["chosen"] == "quantisation_aware"
  assert (facts["examples"], facts["public_examples"]) == (600, 600)
  outputs = litert.run(
    convert_quantised(found.model, made.masks), made.evaluation_inputs
  )
  hits = outputs.argmax(axis=1) == made.evaluation_labels
  assert hits.mean() == pytest.approx(facts["quantisation_aware"], abs=0.05)


def test_auto_leaves_alone_what_loses_nothing():
  found = quantise(request(0.0))
  assert found.model is None
  assert found.facts["quantisation_aware"] is None


def test_never():
  found = quantise(request(1.5), mode="never")
  assert (found.model, found.facts["examples"]) == (None, 0)


@pytest.mark.parametrize("labels", [True, False])
def test_needs_enough_labels(labels):
  made = request(1.5)
  assert made.evaluation_labels is not None
  few = dataclasses.replace(
    made,
    evaluation_inputs=made.evaluation_inputs[:199],
    evaluation_labels=made.evaluation_labels[:199] if labels else None,
  )
  assert quantise(few).model is None
  assert "200 labelled examples" in quantise(few).facts["reason"]
  with pytest.raises(InputError, match="200 labelled examples"):
    quantise(few, mode="always")
