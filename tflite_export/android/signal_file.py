"""`preprocessing.tflite`: a raw signal to model inputs, with LiteRT's builtin operators.

A phone then computes features with the operations of training, without code of its own.
"""

from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from fedtiny_tff.data.preprocessing import Preprocessing, apply_raw
from fedtiny_tff.errors import InputError
from tflite_export.artifacts import VerificationError
from tflite_export.native_output import captured_stderr
from tflite_export.runtimes import litert

NAME = "preprocessing.tflite"

# Loudness of the noise that the file is tried with.
_AMPLITUDES = (0.0, 1e-3, 0.1)
# Of the largest input; two Fourier transforms in float32 differ by a hundredth of it.
_TOLERANCE = 1e-3


def signal_file(preprocessing: Preprocessing) -> Optional[bytes]:
  """Converts preprocessing of signals, and checks what it computes.

  Args:
    preprocessing: What is done to a raw example.

  Returns:
    A `.tflite` file from float32 [1, samples] to float32 [1, *input shape]; None where
    raw examples are no signals.

  Raises:
    InputError: It cannot be converted.
    VerificationError: In LiteRT it computes something else.
  """
  extraction = preprocessing.extraction
  shape = extraction.raw_shape
  if not extraction.of_signal or shape is None:
    return None
  content = _converted(preprocessing, shape)
  scales = np.reshape(_AMPLITUDES, [-1] + [1] * len(shape))
  noise = seeds.generator(0, "signals").normal(size=(len(_AMPLITUDES), *shape))
  check(content, preprocessing, (scales * noise).astype(np.float32))
  return content


def check(content: bytes, preprocessing: Preprocessing, raw: Array) -> None:
  """Compares a file with TensorFlow.

  Args:
    content: The file.
    preprocessing: What it is to compute.
    raw: float32 [n, *raw shape].

  Raises:
    VerificationError: It does not run, or computes something else.
  """
  wanted = apply_raw(preprocessing, tf.constant(raw)).numpy()
  try:
    error = float(np.abs(litert.run(content, raw) - wanted).max())
  except VerificationError as problem:
    raise VerificationError(f"{NAME}: {problem}") from problem
  allowed = _TOLERANCE * float(np.abs(wanted).max())
  # Written so that a NaN fails.
  if not error <= allowed:
    raise VerificationError(
      f"{NAME}: inputs differ from TensorFlow's by up to {error:.3g}, allowed "
      f"{allowed:.3g}"
    )


def _converted(preprocessing: Preprocessing, shape: tuple[int, ...]) -> bytes:
  specification = tf.TensorSpec([1, *shape], tf.float32, name="signal")

  @tf.function(input_signature=[specification])
  def serve(signal: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"inputs": apply_raw(preprocessing, signal)}

  # Without a trackable object the converter writes no signature.
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [serve.get_concrete_function()], tf.Module(name="preprocessing")
  )
  try:
    with captured_stderr():
      return bytes(converter.convert())
  # As in `convert`: whatever its layers raise means that this is not convertible.
  except Exception as error:
    reason = next((line for line in str(error).splitlines() if line.strip()), "")
    raise InputError(
      f"preprocessing cannot be converted: {type(error).__name__}: {reason.strip()}; "
      "choose another feature extraction"
    ) from error
