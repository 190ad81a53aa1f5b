"""Tests of files made from models that were trained with quantisation."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from sklearn import datasets

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import optimizers, quantisation_training
from fedtiny_tff.models import registry
from tests.tflite_export import models
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import convert
from tflite_export.conversion.convert_quantised import convert_quantised
from tflite_export.conversion.sparsify import sparsify
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.stored_weights import stored_weights
from tflite_export.runtimes import litert, tflm
from tflite_export.runtimes.weights import check_masked_zeros

ADAM = optimizers.OptimizerConfig("adam", 1e-3)
layers = tf.keras.layers


def tuned(model, masks, rows, labels, epochs=0, task=tasks.CLASSIFY):
  how = quantisation_training.FineTuning(ADAM, epochs)
  return quantisation_training.fine_tune(model, masks, task, rows, labels, how)


@functools.cache
def classifier():
  """A pruned MobileNet-like model with observed ranges; its masks and rows."""
  model = models.small_classifier()
  masks = models.prune(model, 0.4)
  generator = np.random.default_rng(0)
  rows = generator.normal(size=(48, *models.INPUT_SHAPE)).astype(np.float32)
  labels = generator.integers(0, models.NUM_CLASSES, 48)
  return tuned(model, masks, rows, labels), masks, rows


@functools.cache
def converted() -> bytes:
  model, masks, _ = classifier()
  return convert_quantised(model, masks)


def output_scale(content: bytes) -> float:
  graph = flatbuffer_model.read_model(content).subgraphs[0]
  return float(graph.tensors[graph.outputs[0]].quantization.scale[0])


class TestConvertQuantised:
  def test_masked_weights_are_zero_in_the_file(self):
    _, masks, _ = classifier()
    found = check_masked_zeros(converted(), masks)
    # What is masked is 0; what is not may have been rounded to it.
    assert 0.35 < found.density <= 0.41

  def test_a_mask_that_does_not_hold_is_refused(self):
    model, masks, _ = classifier()
    wrong = {**masks, "first_pointwise": np.zeros_like(masks["first_pointwise"])}
    with pytest.raises(VerificationError, match="first_pointwise"):
      convert_quantised(model, wrong)

  def test_outputs_are_the_model_s_own(self):
    model, _, rows = classifier()
    wanted = model(rows, training=False).numpy()
    found = litert.run(converted(), rows)
    # Two steps of 255: sums are rounded once here, and on the way there.
    assert np.abs(found - wanted).max() <= 2.01 * output_scale(converted())
    assert wanted.std() > 10 * output_scale(converted())

  def test_tflm_agrees(self):
    _, _, rows = classifier()
    found = litert.run(converted(), rows[:4])
    outputs = tflm.run(converted(), rows[:4]).outputs
    assert np.abs(outputs - found).max() <= 2.01 * output_scale(converted())

  def test_has_int8_ends_and_the_usual_names(self):
    interpreter = tf.lite.Interpreter(model_content=converted())
    signature = interpreter.get_signature_runner("serving_default")
    (source,), (target,) = (
      signature.get_input_details().items(),
      signature.get_output_details().items(),
    )
    assert (source[0], target[0]) == ("inputs", "logits")
    assert source[1]["dtype"] == target[1]["dtype"] == np.int8

  def test_ends_can_be_floats(self):
    model, masks, rows = classifier()
    content = convert_quantised(model, masks, float_ends=True)
    graph = flatbuffer_model.read_model(content).subgraphs[0]
    ends = [graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)]
    assert ends == [schema.TensorType.FLOAT32] * 2
    # Inside it is the same file.
    np.testing.assert_array_equal(
      litert.run(content, rows[:4]), litert.run(converted(), rows[:4])
    )

  def test_same_model_same_bytes(self):
    model, masks, _ = classifier()
    assert convert_quantised(model, masks) == converted()

  def test_can_be_stored_sparse(self):
    _, masks, rows = classifier()
    sparse = sparsify(converted())
    check_masked_zeros(sparse, masks)
    np.testing.assert_array_equal(
      litert.run(sparse, rows[:4]), litert.run(converted(), rows[:4])
    )

  def test_refuses_what_stays_in_floats(self):
    _, masks, _ = classifier()
    plain = models.small_classifier()
    with pytest.raises(InputError, match="quantisation_aware=never"):
      convert_quantised(plain, masks)


def test_refuses_what_litert_does_not_load():
  inputs = layers.Input((2,))
  hidden = layers.Dense(3, name="hidden")(inputs)
  model = tf.keras.Model(inputs, layers.Dense(3, name="logits")(hidden))
  # On these rows the hidden units see almost nothing of their large weights.
  kernel = np.array([[1e3] * 3, [-1e3] * 3], np.float32)
  model.get_layer("hidden").set_weights([kernel, np.array([0.01, -0.01, 0.02])])
  rows = np.repeat(np.linspace(-1, 1, 64, dtype=np.float32)[:, np.newaxis], 2, 1)
  masks = {"hidden": np.ones((2, 3), bool)}
  trained = tuned(model, masks, rows, np.zeros(64, np.int64))
  with pytest.raises(InputError, match=r"does not load.*quantisation_aware=never"):
    convert_quantised(trained, masks)


def test_dense_layers_with_batch_norm_are_integers_alone():
  """The converter by itself leaves these in floats."""
  inputs = layers.Input((6,))
  x = layers.Dense(8, use_bias=False, name="hidden")(inputs)
  x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
  model = tf.keras.Model(inputs, layers.Dense(6, name="out")(x))
  models.randomise(model, 2)
  masks = models.prune(model, 0.5)
  rows = np.random.default_rng(1).normal(size=(32, 6)).astype(np.float32)
  made = tuned(model, masks, rows, np.zeros(32, int), 3, tasks.RECONSTRUCT)
  content = convert_quantised(made, masks)
  assert len(stored_weights(content)) == 2
  difference = litert.run(content, rows) - made(rows, training=False).numpy()
  assert np.abs(difference).max() <= 2.01 * output_scale(content)


def test_dead_layers_and_channels_convert():
  inputs = layers.Input((6,))
  x = layers.Dense(8, activation="relu", name="first")(inputs)
  x = layers.Dense(8, activation="relu", name="second")(x)
  model = tf.keras.Model(inputs, layers.Dense(3, name="out")(x))
  models.randomise(model, 3)
  masks = {
    n: np.ones(model.get_layer(n).kernel.shape, bool) for n in ("first", "second")
  }
  masks["second"][:] = False
  masks["first"][:, :4] = False
  for name, mask in masks.items():
    layer = model.get_layer(name)
    layer.kernel.assign(layer.kernel * mask)
    layer.bias.assign(-tf.abs(layer.bias))
  rows = np.random.default_rng(1).normal(size=(32, 6)).astype(np.float32)
  made = tuned(model, masks, rows, np.zeros(32, int))
  content = convert_quantised(made, masks)
  difference = litert.run(content, rows) - made(rows, training=False).numpy()
  assert np.abs(difference).max() <= 1.01 * output_scale(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.MODELS))
def test_every_model_of_ours(name):
  shape = {"autoencoder": (20,), "digits_cnn": (8, 8, 1)}.get(name, (32, 32, 3))
  found = registry.get_model(name, shape, 10, 0.25)
  model = found.build()
  models.randomise(model, 0)
  masks = models.prune(model, 0.3, tuple(layer.name for layer in found.spec.layers))
  generator = np.random.default_rng(0)
  rows = generator.normal(size=(32, *shape)).astype(np.float32)
  made = tuned(model, masks, rows, generator.integers(0, 10, 32), 0, found.task)
  content = convert_quantised(made, masks)
  difference = litert.run(content, rows) - made(rows, training=False).numpy()
  # One step here or there comes in at every residual sum.
  assert np.abs(difference).max() <= 5.01 * output_scale(content)


def test_wins_back_what_quantising_afterwards_loses():
  """Digits: hidden units of very unlike scales, which one scale cannot hold."""
  x, y = datasets.load_digits(return_X_y=True)
  x = (x / 16).astype(np.float32)
  tf.keras.utils.set_random_seed(0)
  inputs = layers.Input((64,))
  hidden = layers.Dense(32, activation="relu", name="hidden")(inputs)
  model = tf.keras.Model(inputs, layers.Dense(10, name="logits")(hidden))
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(tf.keras.optimizers.Adam(3e-3), loss)
  model.fit(x[:1200], y[:1200], epochs=15, batch_size=32, verbose=0)
  # The same function: ReLU passes factors on.
  factors = (10 ** np.random.default_rng(0).uniform(-1.5, 1.5, 32)).astype(np.float32)
  first, second = model.get_layer("hidden"), model.get_layer("logits")
  kernel = first.kernel.numpy()
  masks = {"hidden": np.abs(kernel) > np.median(np.abs(kernel))}
  first.kernel.assign(kernel * masks["hidden"] * factors)
  first.bias.assign(first.bias * factors)
  second.kernel.assign(second.kernel / factors[:, np.newaxis])

  def accuracy(outputs: np.ndarray) -> float:
    return float(np.mean(outputs.argmax(axis=1) == y[1200:]))

  before = accuracy(model(x[1200:], training=False).numpy())
  afterwards = convert(model, "int8_dense", x[:1200])
  lost = accuracy(litert.run(afterwards, x[1200:]))
  made = tuned(model, masks, x[:1200], y[:1200], 5)
  content = convert_quantised(made, masks)
  won = accuracy(litert.run(content, x[1200:]))
  assert lost < before - 0.05
  assert won > lost + 0.05
  check_masked_zeros(content, masks)
