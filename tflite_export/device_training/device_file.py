"""A device's functions as one `.tflite` file of builtin operators."""

import re
import tempfile
from collections.abc import Mapping, Sequence

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tflite_export.file_format import flatbuffer_model
from tflite_export.native_output import captured_stderr

_RANDOM = (
  schema.BuiltinOperator.MULTINOMIAL,
  schema.BuiltinOperator.RANDOM_STANDARD_NORMAL,
  schema.BuiltinOperator.RANDOM_UNIFORM,
)


def device_file(
  variables: Sequence[tf.Variable],
  functions: Mapping[str, tf.types.experimental.ConcreteFunction],
) -> bytes:
  """Converts functions that share variables.

  Args:
    variables: All that they use.
    functions: By the name of their signature.

  Returns:
    The `.tflite` file: a signature per function, the variables shared.

  Raises:
    InputError: When a function needs an operator that TFLite does not have, or draws
      random numbers.
  """
  module = tf.Module(name="device")
  # Only what hangs on a module is saved with its functions.
  module.held = list(variables)
  # The converter takes several functions of one set of variables from a folder alone.
  options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
  with tempfile.TemporaryDirectory() as folder, captured_stderr():
    tf.saved_model.save(module, folder, signatures=dict(functions), options=options)
    converter = tf.lite.TFLiteConverter.from_saved_model(
      folder, signature_keys=list(functions)
    )
    converter.experimental_enable_resource_variables = True
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
      content = bytes(converter.convert())
    # The converter raises whatever its MLIR layers raise.
    except Exception as error:
      raise InputError(
        f"the model cannot be trained on a device: {_missing(str(error))}; use layers "
        "whose training TFLite has builtin operators for"
      ) from error
  _check_repeatable(content)
  return content


def _check_repeatable(content: bytes) -> None:
  """Refuses a file that would answer the same message differently each time.

  LiteRT seeds its generators as it likes, and they go on from call to call.

  Raises:
    InputError: Naming what draws.
  """
  model = flatbuffer_model.read_model(content)
  drawing = sorted(
    graph.tensors[operator.outputs[0]].name.decode()
    for graph in model.subgraphs
    for operator in graph.operators
    if flatbuffer_model.operator_code(model, operator) in _RANDOM
  )
  if drawing:
    raise InputError(
      f"the model cannot be trained on a device: {drawing[0]} draws random numbers, so "
      "that no answer could be made again; leave out dropout, noise and random layers"
    )


def _missing(message: str) -> str:
  """Takes from the converter's pages what it lacks."""
  named = re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", message)
  for listed in re.findall(r"TF Select ops: (.+)", message):
    named += listed.split(", ")
  if named:
    return f"TFLite has no builtin operator for {', '.join(sorted(set(named)))}"
  lines = [line.strip() for line in message.splitlines() if line.strip()]
  return lines[0] if lines else "the converter gives no reason"
