"""A Keras model trained with quantisation to full-integer `.tflite` bytes.

Such a model carries its own ranges, in tfmot's wrappers (`fedtiny_tff`'s
`tfmot_quantisation`), so no data are needed. The file has the signature, the names and
the int8 input and output of `convert`'s `int8_dense`. Its outputs are the model's own,
which rounds as the integers do, to within a few steps of the output's scale: sums of
integers are rounded once, those of floats on the way.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import QuantisationError
from fedtiny_tff.masked_models.tfmot_quantisers import LEFT_OUT
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import INPUT_NAME, OUTPUT_NAME
from tflite_export.file_format import flatbuffer_model
from tflite_export.native_output import captured_stderr
from tflite_export.runtimes import litert
from tflite_export.runtimes.weights import check_masked_zeros

_INTEGERS = frozenset(
  (
    schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.INT32,
    schema.TensorType.INT64, schema.TensorType.BOOL,
  )
)  # fmt: skip


def convert_quantised(
  model: tf.keras.Model,
  masks: Mapping[str, Array],
  float_ends: bool = False,
  output_name: str = OUTPUT_NAME,
) -> bytes:
  """Converts to `int8_dense`.

  Args:
    model: With tfmot's quantisation wrappers around layers that keep their names, one
      float input [None, ...] and one output [None, values]; ready for conversion, as
      `quantisation_training.finished_model` returns it.
    masks: Layer name to bool array in the layout of that layer's Keras kernel; False
      marks a pruned weight.
    float_ends: Whether input and output are float32, and rounded in the file.
    output_name: What the signature calls the output.

  Returns:
    The `.tflite` file.

  Raises:
    QuantisationError: A model that TFLite cannot express in integers alone, or whose
      ranges are so far apart that LiteRT does not load the file.
    VerificationError: A masked weight is not zero in the file.
  """
  try:
    with captured_stderr():
      content = bytes(_converter(model, float_ends, output_name).convert())
  # As in `convert`, the converter raises whatever its layers raise.
  except Exception as error:
    reason = next((line for line in str(error).splitlines() if line.strip()), "")
    raise QuantisationError(
      f"model {model.name!r}, trained with quantisation, cannot be converted: "
      f"{type(error).__name__}: {reason.strip()}; {LEFT_OUT}"
    ) from error
  _check_integers(model.name, content, float_ends)
  check_masked_zeros(content, masks)
  _check_loads(model.name, content)
  return content


def _converter(
  model: tf.keras.Model, float_ends: bool, output_name: str
) -> tf.lite.TFLiteConverter:
  """Returns a configured converter of the model's inference function."""
  shape = (1, *tuple(model.inputs[0].shape)[1:])
  specification = tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)

  @tf.function(input_signature=[specification])
  def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    return {output_name: model(inputs, training=False)}

  # As in `convert`: needed for a signature, and quicker than holding the model.
  holder = tf.Module(name="holder")
  holder.held = model.variables
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [serve.get_concrete_function()], holder
  )
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  ends = tf.float32 if float_ends else tf.int8
  converter.inference_input_type = converter.inference_output_type = ends
  return converter


def _check_integers(name: str, content: bytes, float_ends: bool) -> None:
  """Checks that nothing is computed in floats, and that weights are symmetric.

  Args:
    name: Of the model.
    content: The file.
    float_ends: Whether its input and output may be floats.

  Raises:
    QuantisationError: Naming the first operator or weight that is not so.
  """
  file = flatbuffer_model.read_model(content)
  with flatbuffer_model.reading():
    graph = file.subgraphs[0]
    ends = {*graph.inputs, *graph.outputs} if float_ends else set()
    for operator in graph.operators:
      for index in (*operator.inputs, *operator.outputs):
        tensor = graph.tensors[index]
        if index >= 0 and index not in ends and tensor.type not in _INTEGERS:
          raise QuantisationError(
            f"model {name!r}, trained with quantisation: "
            f"{flatbuffer_model.tensor_name(tensor)} stays in floats, because tfmot "
            f"does not quantise what is around it; {LEFT_OUT}"
          )
        _check_symmetric(file, tensor)


def _check_loads(name: str, content: bytes) -> None:
  """Raises `QuantisationError` where LiteRT refuses the file.

  XNNPACK refuses a layer whose sums of integers are to be multiplied by 256 or more.
  """
  try:
    litert.check_loads(content)
  except VerificationError as error:
    raise QuantisationError(
      f"model {name!r}, trained with quantisation: {error}; {LEFT_OUT}"
    ) from error


def _check_symmetric(file: schema.ModelT, tensor: schema.TensorT) -> None:
  """Raises `VerificationError` where a constant int8 tensor has a zero point."""
  if tensor.type != schema.TensorType.INT8:
    return
  if not flatbuffer_model.is_constant(file, tensor):
    return
  zero_points = None if tensor.quantization is None else tensor.quantization.zeroPoint
  if zero_points is not None and np.any(zero_points):
    raise VerificationError(
      f"weight {flatbuffer_model.tensor_name(tensor)} is not symmetric: zero is stored "
      f"as {np.unique(zero_points).tolist()}"
    )
