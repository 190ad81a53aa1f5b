import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite_export.artifacts import VerificationError
from tflite_export.runtimes.quantisation import (
  dequantise,
  quantise,
  real_outputs,
  stored_inputs,
)

INT8 = np.dtype(np.int8)


def test_by_hand():
  values = np.array([-0.5, 0.0, 0.25, 100.0, -100.0])
  stored = quantise(values, scale=0.25, zero_point=-3, dtype=INT8)
  assert stored.dtype == np.int8
  assert stored.tolist() == [-5, -3, -2, 127, -128]
  assert dequantise(stored[:3], 0.25, -3).tolist() == [-0.5, 0.0, 0.25]


def test_halves_go_away_from_zero():
  values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
  assert quantise(values, 1.0, 0, INT8).tolist() == [1, 2, 3, -1, -2, -3]
  # The number below a half: with a half it is one in float32.
  below = np.nextafter(np.float32(0.5), np.float32(0))
  assert quantise(np.array([below, -below]), 1.0, 0, INT8).tolist() == [0, 0]


@given(st.integers(-128, 127), st.integers(-128, 127), st.floats(1e-3, 1e3))
def test_every_stored_number_survives_the_way_out_and_back(stored, zero_point, scale):
  real = dequantise(np.array([stored], np.int8), scale, zero_point)
  assert quantise(real, scale, zero_point, INT8)[0] == stored


def detail(dtype, scales=(0.5,), zero_points=(3,)):
  """Returns what both runtimes say about an input or output of two numbers."""
  parameters = {"scales": np.array(scales), "zero_points": np.array(zero_points)}
  shape = np.array([1, 2])
  return {"shape": shape, "dtype": dtype, "quantization_parameters": parameters}


ROWS = np.array([[1.0, -1.0]], np.float32)


def test_int8_ends_by_hand():
  stored = stored_inputs(ROWS, detail(np.int8))
  assert stored.dtype == np.int8
  assert stored.tolist() == [[5, 1]]
  assert real_outputs(stored, detail(np.int8)).tolist() == ROWS.tolist()


def test_float_ends_are_left_alone():
  plain = detail(np.float32, (), ())
  np.testing.assert_array_equal(stored_inputs(ROWS, plain), ROWS)
  np.testing.assert_array_equal(real_outputs(ROWS, plain), ROWS)


def test_integers_without_a_scale_are_refused():
  with pytest.raises(VerificationError, match="no scale of its own"):
    stored_inputs(ROWS, detail(np.int8, (), ()))
  with pytest.raises(VerificationError, match="no scale of its own"):
    real_outputs(ROWS.astype(np.int8), detail(np.int8, (1, 2), (0, 0)))


def test_inputs_of_another_shape_are_refused():
  with pytest.raises(VerificationError, match=r"shape \[1, 2\], .* are \[1, 3\]"):
    stored_inputs(np.zeros((4, 3), np.float32), detail(np.int8))
