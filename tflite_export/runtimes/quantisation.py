"""Real numbers to and from the inputs and outputs of a file, int8 or not.

LiteRT and TFLM describe an input or output by the same dictionary, here `detail`.

real = scale * (stored - zero_point):
https://ai.google.dev/edge/litert/models/quantization_spec
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedtiny_tff.arrays import Array
from tflite_export.artifacts import VerificationError


def stored_inputs(inputs: Array, detail: Mapping[str, Any]) -> Array:
  """Returns float inputs [N, ...] in the file's own number format.

  Raises:
    VerificationError: The file takes another shape than [1, ...].
  """
  wanted = [1, *inputs.shape[1:]]
  if list(detail["shape"]) != wanted:
    raise VerificationError(
      f"the file takes inputs of shape {list(detail['shape'])}, the model's are {wanted}"
    )
  dtype = np.dtype(detail["dtype"])
  if not np.issubdtype(dtype, np.integer):
    return inputs.astype(dtype)
  return quantise(inputs, *_scale_and_zero_point(detail), dtype)


def real_outputs(stored: Array, detail: Mapping[str, Any]) -> Array:
  """Returns a file's outputs as real numbers, float32."""
  if not np.issubdtype(stored.dtype, np.integer):
    return stored.astype(np.float32)
  return dequantise(stored, *_scale_and_zero_point(detail))


def _scale_and_zero_point(detail: Mapping[str, Any]) -> tuple[float, int]:
  """Returns how the integers of an input or output are scaled."""
  parameters = detail["quantization_parameters"]
  if len(parameters["scales"]) != 1:
    raise VerificationError("an integer input or output has no scale of its own")
  return float(parameters["scales"][0]), int(parameters["zero_points"][0])


def quantise(
  values: Array, scale: float, zero_point: int, dtype: np.dtype[Any]
) -> Array:
  """Returns float `values` as integers of `dtype`, saturated at its range.

  Halves are rounded away from zero, as TFLite and the exported sources round them.
  """
  limits = np.iinfo(dtype)
  # As float64, in which adding a half rounds nothing.
  steps = np.asarray(values / scale, np.float64)
  rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero_point
  stored: Array = np.clip(rounded, limits.min, limits.max).astype(dtype)
  return stored


def dequantise(stored: Array, scale: float, zero_point: int) -> Array:
  """Returns the real numbers (float32) that quantised `stored` stands for."""
  return ((stored.astype(np.float32) - zero_point) * scale).astype(np.float32)
