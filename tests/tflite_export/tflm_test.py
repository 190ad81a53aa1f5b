"""Tests of running files in the TFLM interpreter."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_micro.python.tflite_micro import runtime

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.files import WIDTH, chain, one_layer, sparse_values, written
from tflite_export import litert, tflm
from tflite_export.artifacts import VerificationError
from tflite_export.tflm_decode import encode_pruned


@pytest.fixture(scope="module")
def model():
  return models.pruned(0.2)[0]


@pytest.fixture(scope="module")
def dense():
  return models.converted("int8_dense", 0.2)


@pytest.fixture(scope="module")
def encoded(dense):
  return encode_pruned(dense).model_bytes


class TestRun:
  def test_int8_outputs_are_near_the_models(self, model, dense):
    inputs = models.random_inputs(8)
    run = tflm.run(dense, inputs)
    assert run.stored_outputs.shape == (8, models.NUM_CLASSES)
    assert run.stored_outputs.dtype == np.int8
    assert run.outputs.dtype == np.float32
    expected = model(inputs, training=False).numpy()
    assert np.abs(run.outputs - expected).max() < 0.1 * np.abs(expected).max()

  def test_real_outputs_are_the_dequantised_ones(self, dense):
    inputs = models.random_inputs(4)
    run = tflm.run(dense, inputs)
    detail = runtime.Interpreter.from_bytes(dense).get_output_details(0)
    scale = detail["quantization_parameters"]["scales"][0]
    zero_point = detail["quantization_parameters"]["zero_points"][0]
    expected = [scale * (int(each) - zero_point) for each in run.stored_outputs[0]]
    np.testing.assert_allclose(run.outputs[0], expected, rtol=1e-6)

  def test_inputs_beyond_the_range_saturate(self, dense):
    large = np.full((1, *models.INPUT_SHAPE), 1e9, np.float32)
    larger = 2 * large
    np.testing.assert_array_equal(
      tflm.run(dense, large).stored_outputs, tflm.run(dense, larger).stored_outputs
    )

  def test_float_files_equal_litert(self, model):
    file = models.converted("fp32_dense", 0.2)
    inputs = models.random_inputs(4)
    run = tflm.run(file, inputs)
    np.testing.assert_allclose(run.outputs, litert.run(file, inputs), atol=1e-5)
    np.testing.assert_array_equal(run.outputs, run.stored_outputs)

  def test_encoded_file_is_bit_identical(self, dense, encoded):
    inputs = models.random_inputs(16)
    assert encoded != dense
    np.testing.assert_array_equal(
      tflm.run(encoded, inputs).stored_outputs, tflm.run(dense, inputs).stored_outputs
    )

  def test_prints_nothing(self, dense, capfd):
    tflm.run(dense, models.random_inputs(1))
    assert capfd.readouterr() == ("", "")

  def test_name_has_the_version(self):
    assert tflm.runtime_name().startswith("tflite-micro 0.")


class TestDecodedInTheRuntime:
  """TFLM's kernel decodes what the encoder wrote."""

  @pytest.mark.parametrize("zero_point", [0, 7, -128])
  def test_zero_point(self, zero_point):
    values = sparse_values(zero=zero_point)
    dense = written(chain([values], [(1, zero_point)], [0, 0]))
    encoded = encode_pruned(dense).model_bytes
    assert len(encoded) < len(dense)
    rows = np.random.default_rng(0).normal(size=(6, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(
      tflm.run(encoded, rows).stored_outputs, tflm.run(dense, rows).stored_outputs
    )
    np.testing.assert_array_equal(tflm.read_tensors(encoded, [(0, 0)])[0], values)

  @pytest.mark.parametrize("axis", [0, 1])
  def test_zero_point_of_each_channel(self, axis):
    points = np.arange(-16, 16, dtype=np.int8)
    stored = sparse_values()
    zeros = points[:, np.newaxis] if axis == 0 else points[np.newaxis]
    values = np.where(stored == 0, zeros, stored)
    model = chain([values], [(1, 0)], [0])
    model.subgraphs[0].tensors[0].quantization = schema.QuantizationParametersT(
      scale=[0.02] * WIDTH, zeroPoint=list(map(int, points)), quantizedDimension=axis
    )
    # ADD reads the tensor as it is, whatever its quantisation.
    for code in model.operatorCodes:
      code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    operator = model.subgraphs[0].operators[0]
    operator.inputs = [1, 0]
    operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
    operator.builtinOptions = schema.AddOptionsT()
    model.subgraphs[0].tensors[2].shape = [WIDTH, WIDTH]
    encoded = encode_pruned(written(model))
    assert encoded.tensors[0].encoded
    decoded = tflm.read_tensors(encoded.model_bytes, [(0, 0)])[0]
    np.testing.assert_array_equal(decoded, values)

  def test_two_tensors_of_one_buffer(self):
    dense = written(chain([sparse_values()], [(1, 0), (1, 0)], [0, 1, 0]))
    encoded = encode_pruned(dense).model_bytes
    rows = np.random.default_rng(0).normal(size=(6, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(
      tflm.run(encoded, rows).stored_outputs, tflm.run(dense, rows).stored_outputs
    )


class TestArena:
  def test_margin_by_hand(self):
    arena = tflm.Arena(activations_bytes=6000, persistent_bytes=4000)
    assert arena.used_bytes == 10_000
    # 10,000 + 500 + 1,024 = 11,524, then up to a multiple of 16.
    assert arena.recommended_bytes == 11_536

  def test_decoding_needs_more(self, dense, encoded):
    inputs = models.random_inputs(1)
    dense_arena, arena = tflm.run(dense, inputs).arena, tflm.run(encoded, inputs).arena
    assert arena.persistent_bytes > dense_arena.persistent_bytes
    assert arena.activations_bytes >= dense_arena.activations_bytes

  def test_recommendation_is_enough_and_half_is_not(self, encoded):
    arena = tflm.run(encoded, models.random_inputs(1)).arena
    interpreter = runtime.Interpreter.from_bytes(
      encoded, arena_size=arena.recommended_bytes
    )
    interpreter.set_input(np.zeros((1, *models.INPUT_SHAPE), np.int8), 0)
    interpreter.invoke()
    with pytest.raises(RuntimeError):
      runtime.Interpreter.from_bytes(encoded, arena_size=arena.used_bytes * 3 // 4)

  def test_same_figures_each_time(self, encoded):
    inputs = models.random_inputs(1)
    assert tflm.run(encoded, inputs).arena == tflm.run(encoded, inputs).arena

  def test_recorder_with_another_format(self, dense, monkeypatch):
    monkeypatch.setattr(runtime.Interpreter, "print_allocations", lambda self: None)
    with pytest.raises(VerificationError, match="pin the tested version"):
      tflm.run(dense, models.random_inputs(1))


class TestRefused:
  def test_operator_without_a_kernel(self, capfd):
    sparse = models.converted("fp32_sparse", 0.2)
    with pytest.raises(VerificationError, match="DENSIFY") as raised:
      tflm.run(sparse, models.random_inputs(1))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")

  def test_damaged_file_never_reaches_the_runtime(self, dense):
    with pytest.raises(VerificationError, match="cannot load"):
      tflm.run(dense[: len(dense) // 2], models.random_inputs(1))

  def test_inputs_of_another_shape(self, dense):
    with pytest.raises(VerificationError, match=r"\[1, 16, 16, 3\]"):
      tflm.run(dense, np.zeros((1, 8, 8, 3), np.float32))

  def test_no_inputs(self, dense):
    with pytest.raises(InputError, match="no inputs"):
      tflm.run(dense, models.random_inputs(0))

  def test_two_outputs(self):
    model = chain([sparse_values()], [(1, 0)], [0, 0])
    model.subgraphs[0].outputs.append(2)
    with pytest.raises(VerificationError, match="2 outputs"):
      tflm.run(written(model), np.zeros((1, WIDTH), np.float32))

  def test_integer_input_without_a_scale(self):
    model = one_layer()
    model.subgraphs[0].tensors[1].quantization = None
    with pytest.raises(VerificationError):
      tflm.run(written(model), np.zeros((1, WIDTH), np.float32))

  def test_failing_inference(self, dense, monkeypatch):
    def fail(interpreter):
      raise RuntimeError("kernel failed")

    monkeypatch.setattr(runtime.Interpreter, "invoke", fail)
    with pytest.raises(VerificationError, match="cannot run the file: kernel failed"):
      tflm.run(dense, models.random_inputs(1))
