import dataclasses
import hashlib
import os
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import calibrating, models
from tests.tflite_export.processes import printed
from tflite_export.conversion.convert import FORMATS, convert, float_file
from tflite_export.conversion.sparsify import sparsify
from tflite_export.file_format import flatbuffer_model


@pytest.fixture(scope="module")
def files():
  return {format: models.converted(format) for format in FORMATS}


def weight_types(model_bytes):
  """Returns the element types of constants with more than 100 elements."""
  model = flatbuffer_model.read_model(model_bytes)
  return {
    tensor.type
    for tensor in model.subgraphs[0].tensors
    if flatbuffer_model.is_constant(model, tensor) and np.prod(tensor.shape) > 100
  }


def operator_codes(model_bytes):
  model = flatbuffer_model.read_model(model_bytes)
  return {
    flatbuffer_model.operator_code(model, operator)
    for operator in model.subgraphs[0].operators
  }


@pytest.mark.parametrize("format", FORMATS)
def test_file_has_fixed_signature_and_batch_of_one(files, format):
  interpreter = litert.Interpreter(model_content=files[format])
  signature = {"serving_default": {"inputs": ["inputs"], "outputs": ["logits"]}}
  assert interpreter.get_signature_list() == signature
  assert list(interpreter.get_input_details()[0]["shape_signature"]) == [1, 16, 16, 3]
  assert list(interpreter.get_output_details()[0]["shape_signature"]) == [1, 4]


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8", "dynamic_range"])
def test_sparse_formats_are_the_dense_ones_stored_sparse(files, name):
  dense = files[f"{name}_dense"]
  assert schema.BuiltinOperator.DENSIFY not in operator_codes(dense)
  assert files[f"{name}_sparse"] == sparsify(dense)


@pytest.mark.parametrize(
  ("format", "input_type"),
  [("fp32_dense", np.float32), ("fp16_dense", np.float32), ("int8_dense", np.int8)],
)
def test_input_and_output_types(files, format, input_type):
  interpreter = litert.Interpreter(model_content=files[format])
  assert interpreter.get_input_details()[0]["dtype"] == input_type
  assert interpreter.get_output_details()[0]["dtype"] == input_type


def test_weights_are_stored_as_the_format_says(files):
  assert weight_types(files["fp32_dense"]) == {schema.TensorType.FLOAT32}
  assert weight_types(files["fp16_dense"]) == {schema.TensorType.FLOAT16}
  assert weight_types(files["int8_dense"]) == {schema.TensorType.INT8}


def test_dynamic_range_stores_large_weights_as_int8():
  # The converter leaves weights of fewer than 1,024 elements alone.
  model = tf.keras.Sequential(
    [tf.keras.layers.Input((64,)), tf.keras.layers.Dense(32, name="head")]
  )
  models.randomise(model, seed=0)
  content = convert(model, "dynamic_range_dense")
  assert schema.TensorType.INT8 in weight_types(content)


@pytest.mark.parametrize("format", ["fp32_sparse", "int8_dense"])
def test_same_model_gives_same_bytes_on_each_call(format):
  model, _ = models.trained(0.2)
  calibration = models.random_inputs(64)
  assert convert(model, format, calibration) == models.converted(format)


def test_same_model_gives_same_bytes_in_another_process(files):
  program = (
    "import hashlib\n"
    "from tests.tflite_export import models\n"
    "from tflite_export.conversion.convert import convert\n"
    "model, _ = models.trained(0.2)\n"
    "print(hashlib.sha256(convert(model, 'fp32_sparse')).hexdigest())\n"
  )
  # Another hash seed: the order of Python sets must not reach the file.
  digest = hashlib.sha256(files["fp32_sparse"]).hexdigest()
  assert printed(program, PYTHONHASHSEED="1") == digest


def test_conversion_is_quiet_and_leaves_no_files(capfd, tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  convert(models.small_classifier(), "fp32_dense")
  captured = capfd.readouterr()
  assert captured.out == ""
  assert captured.err == ""
  assert list(tmp_path.iterdir()) == []


def test_stderr_works_after_a_failed_conversion(capfd):
  with pytest.raises(InputError):
    convert(unconvertible(), "fp32_dense")
  os.write(2, b"heard")
  assert capfd.readouterr().err == "heard"


def unconvertible():
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input((4, 4)),
      layers.Lambda(lambda x: tf.linalg.svd(x, compute_uv=False), name="svd"),
      layers.Dense(2),
    ],
    name="decomposes",
  )


def test_unconvertible_model_is_one_line_of_input_error():
  with pytest.raises(InputError) as caught:
    convert(unconvertible(), "fp32_dense")
  message = str(caught.value)
  assert "'decomposes'" in message
  assert "fp32_dense" in message
  assert "\n" not in message


def test_unknown_format_is_refused():
  with pytest.raises(InputError, match=r"format must be one of fp32_dense, .*'fp64'"):
    convert(models.small_classifier(), "fp64")


@pytest.mark.parametrize("format", ["int8_dense", "int8_sparse"])
def test_int8_without_calibration_is_refused(format):
  with pytest.raises(InputError, match=f"{format} needs calibration data"):
    convert(models.small_classifier(), format)


@pytest.mark.parametrize(
  ("calibration", "complaint"),
  [
    (np.zeros((0, 16, 16, 3), np.float32), r"\[0, 16, 16, 3\]"),
    (np.zeros((4, 8, 8, 3), np.float32), r"\[4, 8, 8, 3\]"),
    (np.full((4, 16, 16, 3), np.nan, np.float32), "NaN"),
  ],
)
def test_calibration_that_does_not_fit_is_refused(calibration, complaint):
  with pytest.raises(InputError, match=complaint):
    convert(models.small_classifier(), "int8_dense", calibration)


def quantised_alike(model, rows):
  ranges = calibrating.converters_ranges(float_file(model), rows)
  return convert(model, "int8_dense", ranges), convert(model, "int8_dense", rows)


@pytest.mark.parametrize("name", ["plain_cnn", "moved", "attention"])
def test_given_ranges_make_the_file_that_calibration_makes(name):
  model = calibrating.OWN_MODELS[name]()
  shape = (8, *model.inputs[0].shape[1:])
  rows = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  given, calibrated = quantised_alike(model, rows)
  assert given == calibrated


def test_given_ranges_make_the_file_of_a_pruned_model():
  model, _ = models.trained(0.2)
  given, calibrated = quantised_alike(model, models.random_inputs(64))
  assert given == calibrated == models.converted("int8_dense")


def test_other_ranges_make_another_file():
  model, _ = models.pruned(0.2)
  ranges = calibrating.converters_ranges(float_file(model), models.random_inputs(64))
  wider = dataclasses.replace(ranges, maximum=2 * ranges.maximum + 1)
  content = convert(model, "int8_dense", wider)
  assert content != models.converted("int8_dense")
  [output] = litert.Interpreter(model_content=content).get_output_details()
  scale = (wider.maximum[-1] - wider.minimum[-1]) / 255
  assert output["quantization"][0] == pytest.approx(scale, rel=1e-5)


def test_given_ranges_make_sparse_files_too():
  model, _ = models.pruned(0.2)
  ranges = calibrating.converters_ranges(float_file(model), models.random_inputs(64))
  assert convert(model, "int8_sparse", ranges) == models.converted("int8_sparse")


def test_ranges_of_another_model_are_refused():
  ranges = calibrating.converters_ranges(
    float_file(calibrating.plain_cnn()), np.zeros((1, 8, 8, 2), np.float32)
  )
  with pytest.raises(InputError, match="of another model"):
    convert(models.small_classifier(), "int8_dense", ranges)


def test_model_with_free_image_size_is_refused():
  inputs = tf.keras.Input((None, None, 3))
  pooled = tf.keras.layers.GlobalAveragePooling2D()(inputs)
  model = tf.keras.Model(inputs, tf.keras.layers.Dense(2)(pooled), name="any_size")
  with pytest.raises(InputError, match=r"'any_size' has input shape \[None, None"):
    convert(model, "fp32_dense")


def test_model_with_two_inputs_is_refused():
  inputs = [tf.keras.Input((2,)), tf.keras.Input((2,))]
  model = tf.keras.Model(inputs, tf.keras.layers.Add()(inputs), name="two")
  with pytest.raises(InputError, match="one input and one output, got 2 and 1"):
    convert(model, "fp32_dense")
