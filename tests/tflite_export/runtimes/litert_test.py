import importlib.metadata

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import convert
from tflite_export.runtimes import litert

# Largest error as a share of the largest output: rounding of float32, of float16
# weights (11 bits), and of 8-bit weights and activations through six layers.
TOLERANCES = {
  "fp32_dense": 1e-5,
  "fp32_sparse": 1e-5,
  "fp16_sparse": 5e-3,
  "int8_dense": 0.1,
}


@pytest.mark.parametrize("format", TOLERANCES)
def test_outputs_are_the_models(format):
  model, _ = models.pruned(0.2)
  inputs = models.random_inputs(20)
  reference = model(inputs, training=False).numpy()
  outputs = litert.run(models.converted(format), inputs)
  assert outputs.dtype == np.float32
  error = np.abs(outputs - reference).max() / np.abs(reference).max()
  assert error <= TOLERANCES[format]


def test_rows_do_not_influence_each_other():
  inputs = models.random_inputs(5)
  content = models.converted("int8_dense")
  one_by_one = [litert.run(content, inputs[i : i + 1])[0] for i in range(5)]
  np.testing.assert_array_equal(litert.run(content, inputs), np.stack(one_by_one))


def test_sparse_and_dense_files_of_the_same_weights_agree():
  inputs = models.random_inputs(5)
  np.testing.assert_allclose(
    litert.run(models.converted("fp32_sparse"), inputs),
    litert.run(models.converted("fp32_dense"), inputs),
    rtol=1e-5,
    atol=1e-5,
  )


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x1c\0\0\0TFL3"])
def test_file_that_does_not_load_is_refused(content):
  with pytest.raises(VerificationError, match="does not load"):
    litert.run(content, models.random_inputs(1))


def test_truncated_file_is_refused():
  with pytest.raises(VerificationError, match="does not load"):
    litert.run(models.converted("fp32_dense")[:4000], models.random_inputs(1))


def test_inputs_of_another_shape_are_refused():
  with pytest.raises(VerificationError, match=r"\[1, 16, 16, 3\], .* \[1, 8, 8, 3\]"):
    litert.run(models.converted("fp32_dense"), np.zeros((2, 8, 8, 3), np.float32))


def test_no_inputs_are_refused():
  with pytest.raises(InputError, match="at least one"):
    litert.run(models.converted("fp32_dense"), models.random_inputs(0))


def test_file_with_two_outputs_is_refused():
  @tf.function(input_signature=[tf.TensorSpec([1, 2], tf.float32)])
  def twice(inputs):
    return {"a": inputs + 1, "b": inputs * 2}

  content = tf.lite.TFLiteConverter.from_concrete_functions(
    [twice.get_concrete_function()], tf.Module()
  ).convert()
  with pytest.raises(VerificationError, match="1 inputs and 2 outputs"):
    litert.run(content, np.zeros((1, 2), np.float32))


def test_reshape_to_a_fixed_batch_runs_for_many_rows():
  layers = tf.keras.layers
  model = tf.keras.Sequential(
    [layers.Input((4, 4, 2)), layers.Flatten(), layers.Dense(3)], name="flat"
  )
  models.randomise(model, seed=0)
  inputs = np.random.default_rng(1).normal(size=(7, 4, 4, 2)).astype(np.float32)
  np.testing.assert_allclose(
    litert.run(convert(model, "fp32_dense"), inputs), model(inputs).numpy(), atol=1e-5
  )


def test_runtime_name_holds_the_version():
  version = importlib.metadata.version("ai-edge-litert")
  assert litert.runtime_name() == f"ai-edge-litert {version}"
