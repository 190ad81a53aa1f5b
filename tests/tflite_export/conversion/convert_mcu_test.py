"""Tests of the number formats of microcontrollers, each run in TFLM."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.conversion.convert import convert, float_file
from tflite_export.conversion.convert_mcu import McuSettings, convert_mcu
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.file_format.activation_ranges import ActivationRanges, activations
from tflite_export.file_format.flatbuffer_model import constant, read_model
from tflite_export.runtimes import tflm
from tflite_export.runtimes.weights import check_masked_zeros

TYPE = schema.TensorType
CALIBRATION = models.random_inputs(32)
SETTINGS = [
  McuSettings(bits, float_ends) for bits in (8, 16) for float_ends in (False, True)
]


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda each: each.name)
def settings(request):
  return request.param


@pytest.fixture(scope="module")
def content(settings):
  return convert_mcu(models.pruned(0.1)[0], CALIBRATION, settings)


def ends(model_bytes):
  graph = read_model(model_bytes).subgraphs[0]
  return [graph.tensors[index].type for index in (*graph.inputs, *graph.outputs)]


class TestEveryFormat:
  def test_types(self, settings, content):
    integer = {8: TYPE.INT8, 16: TYPE.INT16}[settings.activation_bits]
    wanted = TYPE.FLOAT32 if settings.float_ends else integer
    assert ends(content) == [wanted, wanted]
    types = {each.type for each in read_model(content).subgraphs[0].tensors}
    assert {integer, TYPE.INT8} <= types

  def test_masks_hold(self, content):
    masks = models.pruned(0.1)[1]
    assert check_masked_zeros(content, masks).density == pytest.approx(0.1, abs=0.01)

  def test_tflm_computes_the_same_of_the_shrunk_and_encoded_file(self, content):
    inputs = models.random_inputs(8)
    wanted = tflm.run(content, inputs).stored_outputs
    shrunk = shrink(content).model_bytes
    encoded = encode_pruned(shrunk)
    assert len(encoded.model_bytes) < len(shrunk) < len(content)
    for file in (shrunk, encoded.model_bytes):
      np.testing.assert_array_equal(tflm.run(file, inputs).stored_outputs, wanted)
    assert sum(each.encoded for each in encoded.tensors) >= 3

  def test_outputs_are_near_the_models(self, settings, content):
    inputs = models.random_inputs(16)
    expected = models.pruned(0.1)[0](inputs, training=False).numpy()
    error = np.abs(tflm.run(content, inputs).outputs - expected).max()
    assert error < {8: 0.2, 16: 0.06}[settings.activation_bits] * np.abs(expected).max()


def ranges():
  """Returns ranges wide enough for the model, one for all activations."""
  names = activations(float_file(models.pruned(0.1)[0]))
  limits = np.full(len(names), 8, np.float32)
  return ActivationRanges(names, -limits, limits)


@pytest.mark.parametrize("float_ends", [False, True])
def test_ranges_take_the_place_of_data(float_ends):
  model = models.pruned(0.1)[0]
  content = convert_mcu(model, ranges(), McuSettings(float_ends=float_ends))
  wanted = TYPE.FLOAT32 if float_ends else TYPE.INT8
  assert ends(content) == [wanted, wanted]
  inputs = models.random_inputs(16)
  expected = model(inputs, training=False).numpy()
  error = np.abs(tflm.run(content, inputs).outputs - expected).max()
  assert error < 0.4 * np.abs(expected).max()
  if not float_ends:
    assert content == convert(model, "int8_dense", ranges())


def test_int8_is_that_of_convert():
  model = models.pruned(0.1)[0]
  assert convert_mcu(model, CALIBRATION, McuSettings()) == convert(
    model, "int8_dense", CALIBRATION
  )


def test_biases_of_16_bit_activations_have_64():
  content = convert_mcu(models.pruned(0.1)[0], CALIBRATION, McuSettings(16))
  model = read_model(content)
  biases = [each for each in model.subgraphs[0].tensors if each.type == TYPE.INT64]
  assert biases
  assert any(constant(model, each).any() for each in biases)


class TestRefused:
  def test_other_bits(self):
    with pytest.raises(InputError, match="8 or 16, got 4"):
      McuSettings(4)

  def test_ranges_for_16_bits(self):
    with pytest.raises(InputError, match="int16x8 needs calibration data"):
      convert_mcu(models.pruned(0.1)[0], ranges(), McuSettings(16))

  def test_data_of_another_shape(self):
    rows = np.zeros((2, 5), np.float32)
    with pytest.raises(InputError, match="int8_float_ends have shape"):
      convert_mcu(models.pruned(0.1)[0], rows, McuSettings(float_ends=True))
