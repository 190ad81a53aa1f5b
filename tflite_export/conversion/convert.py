"""Keras model to `.tflite` bytes, one entry of `FORMATS` per file format.

The bytes depend on the model and the calibration data only: same model, same
bytes, on each call and in each process. Every file has one signature,
`serving_default`, from `inputs` [1, ...] to `logits` [1, num_classes], or what else
the output is to be called; the batch dimension is fixed because XNNPACK and TFLM plan memory for static shapes.

Names and meaning of the settings:
https://ai.google.dev/edge/litert/models/post_training_quantization
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.conversion.sparsify import sparsify
from tflite_export.file_format.activation_ranges import ActivationRanges, write_ranges
from tflite_export.native_output import captured_stderr

INPUT_NAME = "inputs"
OUTPUT_NAME = "logits"


@dataclasses.dataclass(frozen=True)
class ConverterSettings:
  """What is done for one format.

  Attributes:
    quantise: Whether weights are stored in fewer bits.
    float16: Whether they are then stored as float16.
    full_integer: Whether activations, inputs and outputs are int8 too; needs
      calibration data.
    sparse: Whether weights with enough zeros are stored sparse, with a DENSIFY.
  """

  quantise: bool = False
  float16: bool = False
  full_integer: bool = False
  sparse: bool = False


_DENSE_FORMATS = {
  "fp32": ConverterSettings(),
  "fp16": ConverterSettings(quantise=True, float16=True),
  "int8": ConverterSettings(quantise=True, full_integer=True),
  "dynamic_range": ConverterSettings(quantise=True),
}
FORMATS: dict[str, ConverterSettings] = {
  f"{name}_{storage}": dataclasses.replace(settings, sparse=storage == "sparse")
  for name, settings in _DENSE_FORMATS.items()
  for storage in ("dense", "sparse")
}


def convert(
  model: tf.keras.Model,
  format: str,
  calibration: Optional[Array | ActivationRanges] = None,
  output_name: str = OUTPUT_NAME,
) -> bytes:
  """Converts a Keras model.

  Args:
    model: Plain Keras model (no pruning wrappers), one float input [None, ...],
      one output [None, num_classes].
    format: Key of `FORMATS`.
    calibration: What sets the activation ranges of the `int8_*` formats: float
      [N, ...] preprocessed as in training, every row of which counts; or the ranges
      themselves. Others ignore it.
    output_name: What the signature calls the output.

  Returns:
    The `.tflite` file.

  Raises:
    InputError: Unknown format, a model TFLite cannot express, or calibration
      data that is missing or does not fit the model.
  """
  if format not in FORMATS:
    raise InputError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
  settings = FORMATS[format]
  input_shape = _static_input_shape(model)
  rows, quantise = None, None
  if settings.full_integer:
    if isinstance(calibration, ActivationRanges):
      quantise = functools.partial(_quantised, ranges=calibration)
    else:
      rows = _checked_rows(calibration, input_shape, format)
  converter = _converter(model, input_shape, settings, rows, quantise, output_name)
  dense = _converted(converter, model.name, format)
  return sparsify(dense) if settings.sparse else dense


def float_file(model: tf.keras.Model) -> bytes:
  """Returns what the `int8_*` formats are quantised from: the file in float32.

  Args:
    model: As for `convert`.

  Raises:
    InputError: A model TFLite cannot express.
  """
  settings, as_it_is = FORMATS["int8_dense"], bytes
  converter = _converter(model, _static_input_shape(model), settings, None, as_it_is)
  return _converted(converter, model.name, "int8_dense")


def _quantised(float_file_: bytes, ranges: ActivationRanges) -> bytes:
  """Quantises the float file as the converter does after its own calibration."""
  quantised: bytes = mlir_quantize(
    write_ranges(float_file_, ranges),
    input_data_type=tf.int8,
    output_data_type=tf.int8,
  )
  return quantised


class _Converter(tf.lite.TFLiteConverter):
  """TensorFlow's converter; calibration and quantising can be replaced.

  Attributes:
    quantise: From the float file to the integer file; None is the converter's own,
      on its representative dataset.
  """

  quantise: Optional[Callable[[bytes], bytes]] = None

  def _quantize(self, result: bytes, *others: Any) -> bytes:
    if self.quantise is None:
      quantised: bytes = super()._quantize(result, *others)
      return quantised
    return self.quantise(result)


def _converted(converter: _Converter, name: str, format: str) -> bytes:
  """Runs a converter."""
  try:
    # The C++ code prints about twenty lines a call.
    with captured_stderr():
      return bytes(converter.convert())
  except InputError:
    raise
  # The converter raises whatever its MLIR, SavedModel and calibration layers
  # raise; all of it means that this model is not convertible.
  except Exception as error:
    reason = next((line for line in str(error).splitlines() if line.strip()), "")
    raise InputError(
      f"model {name!r} cannot be converted to {format}: "
      f"{type(error).__name__}: {reason.strip()}; use layers TFLite has built-in "
      "operators for"
    ) from error


def _static_input_shape(model: tf.keras.Model) -> tuple[int, ...]:
  """Returns the shape of one batch of one example."""
  if len(model.inputs or ()) != 1 or len(model.outputs or ()) != 1:
    raise InputError(
      f"model {model.name!r} must have one input and one output, got "
      f"{len(model.inputs or ())} and {len(model.outputs or ())}; build it as a "
      "functional Keras model"
    )
  shape = tuple(model.inputs[0].shape)[1:]
  if None in shape:
    raise InputError(
      f"model {model.name!r} has input shape {list(model.inputs[0].shape)}; give "
      "every dimension but the first a size"
    )
  return (1, *shape)


def _checked_rows(
  rows: Optional[Array], input_shape: tuple[int, ...], format: str
) -> Array:
  """Returns float32 rows; raises `InputError` unless the model can be fed with them."""
  wanted = f"float [N, {', '.join(map(str, input_shape[1:]))}] with N > 0"
  if rows is None:
    raise InputError(
      f"{format} needs calibration data to set activation ranges; give {wanted}, "
      "or the ranges"
    )
  if len(rows) == 0 or rows.shape[1:] != input_shape[1:]:
    raise InputError(
      f"calibration data for {format} have shape {list(rows.shape)}; give {wanted}"
    )
  if not np.isfinite(rows).all():
    raise InputError(
      f"calibration data for {format} hold NaN or infinite values; give finite ones"
    )
  return np.asarray(rows, np.float32)


def _converter(
  model: tf.keras.Model,
  input_shape: tuple[int, ...],
  settings: ConverterSettings,
  rows: Optional[Array],
  quantise: Optional[Callable[[bytes], bytes]],
  output_name: str = OUTPUT_NAME,
) -> _Converter:
  """Returns a configured converter of the model's inference function.

  Args:
    model: The model.
    input_shape: Of one batch of one example.
    settings: What is done for the format.
    rows: float32 [N, ...], to calibrate on.
    quantise: Takes the place of calibration on `rows`.
    output_name: What the signature calls the output.
  """
  specification = tf.TensorSpec(input_shape, tf.float32, name=INPUT_NAME)

  @tf.function(input_signature=[specification])
  def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    return {output_name: model(inputs, training=False)}

  # Without a trackable object the converter writes no signature. Holding only the
  # variables spares it the traces of every layer that saving a Keras model makes.
  holder = tf.Module(name="holder")
  holder.held = model.variables
  converter: _Converter = _Converter.from_concrete_functions(
    [serve.get_concrete_function()], holder
  )
  if settings.quantise:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
  if settings.float16:
    converter.target_spec.supported_types = [tf.float16]
  if settings.full_integer:
    converter.quantise = quantise
    # Without a dataset, even one that nobody reads, activations would stay float.
    calibrating = np.zeros(input_shape, np.float32) if rows is None else rows
    converter.representative_dataset = lambda: (
      [row[np.newaxis]] for row in calibrating
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
  return converter
