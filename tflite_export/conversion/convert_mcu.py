"""Keras model to the full-integer `.tflite` files that only microcontrollers take.

Beside `convert`'s int8: int16 activations with int8 weights ("16x8"), where TFLM has
kernels, and float32 input and output around integer layers. Tests run each in TFLM.

Source: https://ai.google.dev/edge/litert/models/post_training_integer_quant_16x8
"""

import dataclasses
import functools

import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.conversion import convert
from tflite_export.file_format.activation_ranges import ActivationRanges, write_ranges

# Bits of the activations: how TensorFlow asks for them, and the type of the ends.
_OPERATORS = {
  8: tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
  16: tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}
_TYPES = {8: tf.int8, 16: tf.int16}


@dataclasses.dataclass(frozen=True)
class McuSettings:
  """What numbers a file computes with.

  Attributes:
    activation_bits: 8 or 16; weights have 8 either way.
    float_ends: Whether input and output are float32 instead of integers.

  Raises:
    InputError: On construction, for other numbers of bits.
  """

  activation_bits: int = 8
  float_ends: bool = False

  def __post_init__(self) -> None:
    """Refuses widths that TFLM has no kernels for with an InputError."""
    if self.activation_bits not in _OPERATORS:
      raise InputError(
        f"activation_bits must be 8 or 16, got {self.activation_bits}; TFLM has no "
        "other integer kernels"
      )

  @property
  def name(self) -> str:
    """Name for reports: int8, int16x8, and _float_ends."""
    name = "int8" if self.activation_bits == 8 else "int16x8"
    return f"{name}_float_ends" if self.float_ends else name


def convert_mcu(
  model: tf.keras.Model,
  calibration: Array | ActivationRanges,
  settings: McuSettings,
) -> bytes:
  """Converts a Keras model.

  Args:
    model: As for `convert.convert`.
    calibration: Likewise; it sets the ranges of all activations. Only data will do for
      16 bits: TensorFlow's quantiser of 2.14 collects their ranges itself.
    settings: What numbers the file computes with.

  Returns:
    The `.tflite` file; for `McuSettings()` that of `convert`'s `int8_dense`.

  Raises:
    InputError: A model TFLite cannot express so, or calibration data that do not fit.
  """
  ends = tf.float32 if settings.float_ends else _TYPES[settings.activation_bits]
  input_shape = convert._static_input_shape(model)
  rows, quantise = None, None
  if isinstance(calibration, ActivationRanges):
    if settings.activation_bits != 8:
      raise InputError(
        f"{settings.name} needs calibration data, got ranges; give rows as in training"
      )
    quantise = functools.partial(_quantised, ranges=calibration, ends=ends)
  else:
    rows = convert._checked_rows(calibration, input_shape, settings.name)
  converter = convert._converter(
    model, input_shape, convert.FORMATS["int8_dense"], rows, quantise
  )
  converter.target_spec.supported_ops = [_OPERATORS[settings.activation_bits]]
  converter.inference_input_type = converter.inference_output_type = ends
  return convert._converted(converter, model.name, settings.name)


def _quantised(float_file: bytes, ranges: ActivationRanges, ends: tf.DType) -> bytes:
  """Quantises the float file, whose activations have the given ranges."""
  return bytes(
    mlir_quantize(
      write_ranges(float_file, ranges), input_data_type=ends, output_data_type=ends
    )
  )
