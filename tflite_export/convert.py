"""Keras model to `.tflite` bytes, one entry of `FORMATS` per file format.

The bytes depend on the model and the calibration data only: same model, same
bytes, on each call and in each process. Every file has one signature,
`serving_default`, from `inputs` [1, ...] to `logits` [1, num_classes]; the batch
dimension is fixed because XNNPACK and TFLM plan memory for static shapes.

Names and meaning of the settings:
https://ai.google.dev/edge/litert/models/post_training_quantization
"""

import dataclasses
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.errors import InputError
from tflite_export.native_output import captured_stderr
from tflite_export.sparsify import sparsify

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
  calibration_inputs: Optional[np.ndarray] = None,
) -> bytes:
  """Converts a Keras model.

  Args:
    model: Plain Keras model (no pruning wrappers), one float input [None, ...],
      one output [None, num_classes].
    format: Key of `FORMATS`.
    calibration_inputs: float [N, ...] preprocessed as in training; every row
      sets the activation ranges of the `int8_*` formats. Others ignore it.

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
  if settings.full_integer:
    _check_calibration(calibration_inputs, input_shape, format)
  try:
    # The C++ code prints about twenty lines a call.
    with captured_stderr():
      dense = bytes(
        _converter(model, input_shape, settings, calibration_inputs).convert()
      )
  # The converter raises whatever its MLIR, SavedModel and calibration layers
  # raise; all of it means that this model is not convertible.
  except Exception as error:
    reason = next((line for line in str(error).splitlines() if line.strip()), "")
    raise InputError(
      f"model {model.name!r} cannot be converted to {format}: "
      f"{type(error).__name__}: {reason.strip()}; use layers TFLite has built-in "
      "operators for"
    ) from error
  return sparsify(dense) if settings.sparse else dense


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


def _check_calibration(
  calibration_inputs: Optional[np.ndarray], input_shape: tuple[int, ...], format: str
) -> None:
  """Raises `InputError` unless the rows can be fed to the model."""
  wanted = f"float [N, {', '.join(map(str, input_shape[1:]))}] with N > 0"
  if calibration_inputs is None:
    raise InputError(
      f"{format} needs calibration_inputs to set activation ranges; give {wanted}"
    )
  if len(calibration_inputs) == 0 or calibration_inputs.shape[1:] != input_shape[1:]:
    raise InputError(
      f"calibration_inputs for {format} have shape {list(calibration_inputs.shape)}; "
      f"give {wanted}"
    )
  if not np.isfinite(calibration_inputs).all():
    raise InputError(
      f"calibration_inputs for {format} hold NaN or infinite values; give finite ones"
    )


def _converter(
  model: tf.keras.Model,
  input_shape: tuple[int, ...],
  settings: ConverterSettings,
  calibration_inputs: Optional[np.ndarray],
) -> tf.lite.TFLiteConverter:
  """Returns a configured converter of the model's inference function."""
  specification = tf.TensorSpec(input_shape, tf.float32, name=INPUT_NAME)

  @tf.function(input_signature=[specification])
  def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    return {OUTPUT_NAME: model(inputs, training=False)}

  # Without a trackable object the converter writes no signature. Holding only the
  # variables spares it the traces of every layer that saving a Keras model makes.
  holder = tf.Module(name="holder")
  holder.held = model.variables
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [serve.get_concrete_function()], holder
  )
  if settings.quantise:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
  if settings.float16:
    converter.target_spec.supported_types = [tf.float16]
  if settings.full_integer:
    assert calibration_inputs is not None
    rows = np.asarray(calibration_inputs, np.float32)
    converter.representative_dataset = lambda: ([row[np.newaxis]] for row in rows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
  return converter
