"""Tests of running files in the TFLM interpreter."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tflite_micro.python.tflite_micro import runtime

from fedtiny_tff.errors import InputError
from tests.tflite_export import models, single_operator
from tests.tflite_export.files import WIDTH, chain, one_layer, sparse_values, written
from tests.tflite_export.one_constant import CONSTANT, OUTPUT, TYPES, copied
from tflite_export.artifacts import VerificationError
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.runtimes import litert, tflm


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

  @pytest.mark.parametrize("dtype", sorted(TYPES, key=str), ids=str)
  def test_every_type_is_encoded(self, dtype):
    generator = np.random.default_rng(0)
    values = generator.integers(-100, 100, (64, 64)).astype(dtype)
    values[generator.random(values.shape) < 0.9] = 0
    encoded = encode_pruned(copied(values))
    assert encoded.tensors[0].form == ("LUT" if dtype.kind == "b" else "PRUNING")
    for found in tflm.read_tensors(encoded.model_bytes, [CONSTANT, OUTPUT]):
      assert found.tobytes() == values.tobytes()

  @settings(max_examples=100, deadline=None)
  @given(st.data())
  def test_any_constant_comes_out_as_it_was(self, data):
    dtype = data.draw(st.sampled_from(sorted(TYPES, key=str)))
    shape = data.draw(hnp.array_shapes(max_dims=4, min_side=3, max_side=9))
    axis = data.draw(st.sampled_from([0, len(shape) - 1]))
    channels = data.draw(st.sampled_from([0, 1, shape[axis]]))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    points = np.zeros(channels, np.int64)
    if dtype == np.int8:
      points = generator.integers(-128, 128, channels)
    zeros = np.zeros([1] * len(shape), dtype)
    if channels:
      zeros_shape = [1] * len(shape)
      zeros_shape[axis] = channels
      zeros = points.astype(dtype).reshape(zeros_shape)
    values = generator.integers(-(2**31), 2**31, shape).astype(dtype)
    density = data.draw(st.floats(0, 1))
    values = np.where(generator.random(shape) < density, values, zeros)
    dense = copied(values, points, axis if channels > 1 else 0)
    encoded = encode_pruned(dense)
    for content in (encoded.model_bytes, shrink(encoded.model_bytes).model_bytes):
      for found in tflm.read_tensors(content, [CONSTANT, OUTPUT]):
        assert found.tobytes() == values.tobytes()

  @settings(max_examples=40, deadline=None)
  @given(
    st.sampled_from(single_operator.KINDS),
    st.sampled_from(["int8", "float32"]),
    st.floats(0, 1),
    st.sampled_from([1, 2]),
    st.integers(0, 2**32 - 1),
  )
  def test_any_layer_computes_the_same(self, kind, type, density, uses, seed):
    generator = np.random.default_rng(seed)
    shape = {"convolution": (8, 3, 3, 6), "depthwise": (1, 3, 3, 48), "dense": (24, 30)}
    values = generator.normal(size=shape[kind])
    values[generator.random(values.shape) >= density] = 0
    dense = single_operator.build(kind, type, values, uses=uses)
    rows = generator.normal(size=(2, *_input_shape(dense))).astype(np.float32)
    wanted = tflm.run(dense, rows).stored_outputs
    shrunk = shrink(dense).model_bytes
    for content in (shrunk, encode_pruned(shrunk).model_bytes):
      np.testing.assert_array_equal(tflm.run(content, rows).stored_outputs, wanted)

  def test_two_tensors_of_one_buffer(self):
    dense = written(chain([sparse_values()], [(1, 0), (1, 0)], [0, 1, 0]))
    encoded = encode_pruned(dense).model_bytes
    rows = np.random.default_rng(0).normal(size=(6, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(
      tflm.run(encoded, rows).stored_outputs, tflm.run(dense, rows).stored_outputs
    )


def _input_shape(model_bytes):
  graph = read_model(model_bytes).subgraphs[0]
  return tuple(graph.tensors[graph.inputs[0]].shape)[1:]


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
