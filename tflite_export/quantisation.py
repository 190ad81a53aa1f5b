"""Real numbers to and from the int8 inputs and outputs of a quantised file.

real = scale * (stored - zero_point):
https://ai.google.dev/edge/litert/models/quantization_spec
"""

import numpy as np


def quantise(
  values: np.ndarray, scale: float, zero_point: int, dtype: np.dtype
) -> np.ndarray:
  """Returns float `values` as integers of `dtype`, saturated at its range."""
  limits = np.iinfo(dtype)
  stored = np.round(values / scale) + zero_point
  return np.clip(stored, limits.min, limits.max).astype(dtype)


def dequantise(stored: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
  """Returns the real numbers (float32) that quantised `stored` stands for."""
  return ((stored.astype(np.float32) - zero_point) * scale).astype(np.float32)
