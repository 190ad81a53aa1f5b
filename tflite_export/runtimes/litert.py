"""Runs a `.tflite` file in LiteRT, the runtime Android phones use."""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export import native_output
from tflite_export.artifacts import VerificationError
from tflite_export.runtimes import quantisation


def runtime_name() -> str:
  """Returns the runtime's name and version, as in `Artifact.runtime`."""
  return f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"


def run(model_bytes: bytes, inputs: Array) -> Array:
  """Computes the outputs of a one-input, one-output file.

  One row at a time, as on the device: the batch dimension is fixed in the file,
  and a Reshape in it may name that size. One thread, so that sums are added in
  the same order on every machine of one kind. LiteRT itself can crash on bytes
  made to harm it: run only files that this package converted.

  Args:
    model_bytes: The `.tflite` file, with float32 or integer inputs and outputs.
    inputs: float [N, ...]; quantised here if the file's input is quantised.

  Returns:
    float32 [N, ...], dequantised.

  Raises:
    VerificationError: The file does not load, does not fit the inputs or fails.
    InputError: There is no input row.
  """
  if not len(inputs):
    raise InputError("inputs have no rows; give at least one to run the file on")
  interpreter = _loaded(model_bytes, threads=1)
  source, target = _single_tensors(interpreter)
  fed = quantisation.stored_inputs(inputs, source)
  rows = []
  try:
    for row in fed:
      interpreter.set_tensor(source["index"], row[np.newaxis])
      interpreter.invoke()
      rows.append(interpreter.get_tensor(target["index"])[0])
  except (ValueError, RuntimeError) as error:
    raise VerificationError(f"LiteRT cannot run the file: {error}") from error
  return quantisation.real_outputs(np.stack(rows), target)


def check_loads(model_bytes: bytes) -> None:
  """Checks that LiteRT takes a file.

  Raises:
    VerificationError: It does not.
  """
  _loaded(model_bytes, threads=1)


def prepared(model_bytes: bytes, example: Array, threads: int) -> Callable[[], None]:
  """Returns a function that computes one inference, to be measured.

  Args:
    model_bytes: A file as for `run`.
    example: float [...], the input of every inference.
    threads: Threads of the interpreter.

  Raises:
    VerificationError: The file does not load, or does not fit the example.
  """
  interpreter = _loaded(model_bytes, threads)
  source, _ = _single_tensors(interpreter)
  fed = quantisation.stored_inputs(example[np.newaxis], source)
  interpreter.set_tensor(source["index"], fed)
  invoke: Callable[[], None] = interpreter.invoke
  return invoke


def _loaded(model_bytes: bytes, threads: int) -> litert.Interpreter:
  """Returns an interpreter whose tensors are allocated."""
  try:
    # The interpreter reads constants from this very buffer: it must stay alive,
    # and it does, in the interpreter object.
    with native_output.captured_stderr():
      interpreter = litert.Interpreter(model_content=model_bytes, num_threads=threads)
      interpreter.allocate_tensors()
  # Loading ends in ValueError or RuntimeError, by the stage that gives up.
  except (ValueError, RuntimeError) as error:
    raise VerificationError(f"LiteRT does not load the file: {error}") from error
  return interpreter


def _single_tensors(
  interpreter: litert.Interpreter,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the details of the one input and of the one output."""
  sources = interpreter.get_input_details()
  targets = interpreter.get_output_details()
  if len(sources) != 1 or len(targets) != 1:
    raise VerificationError(
      f"the file has {len(sources)} inputs and {len(targets)} outputs; expected one each"
    )
  return sources[0], targets[0]
