import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tflite_export.quantisation import dequantise, quantise

INT8 = np.dtype(np.int8)


def test_by_hand():
  values = np.array([-0.5, 0.0, 0.25, 100.0, -100.0])
  stored = quantise(values, scale=0.25, zero_point=-3, dtype=INT8)
  assert stored.dtype == np.int8
  assert stored.tolist() == [-5, -3, -2, 127, -128]
  assert dequantise(stored[:3], 0.25, -3).tolist() == [-0.5, 0.0, 0.25]


@given(st.integers(-128, 127), st.integers(-128, 127), st.floats(1e-3, 1e3))
def test_every_stored_number_survives_the_way_out_and_back(stored, zero_point, scale):
  real = dequantise(np.array([stored], np.int8), scale, zero_point)
  assert quantise(real, scale, zero_point, INT8)[0] == stored
