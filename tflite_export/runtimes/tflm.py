"""Runs a `.tflite` file in TFLM, the runtime of microcontrollers, on this machine.

The wheel's interpreter is TFLM's portable C++ compiled for the host: it computes the
integers a microcontroller computes with the reference kernels.
"""

import dataclasses
import importlib.metadata
import math
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from tflite_micro.python.tflite_micro import runtime

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.artifacts import VerificationError
from tflite_export.file_format import flatbuffer_model
from tflite_export.native_output import captured_stderr
from tflite_export.runtimes import quantisation

ARENA_ALIGNMENT_BYTES = 16
ARENA_MARGIN_FRACTION = 0.05
ARENA_MARGIN_BYTES = 1024

_ARENA_LINE = re.compile(r"Arena allocation (head|tail) (\d+) bytes")

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Arena:
  """Working memory of one model, as recorded by TFLM after one inference.

  Attributes:
    activations_bytes: The head: tensors and decoded weights, reused in turn.
    persistent_bytes: The tail: TFLM's structures and what kernels keep. Pointers are
      8 bytes here and 4 on most microcontrollers, so less is needed there.
  """

  activations_bytes: int
  persistent_bytes: int

  @property
  def used_bytes(self) -> int:
    """Everything that was recorded."""
    return self.activations_bytes + self.persistent_bytes

  @property
  def recommended_bytes(self) -> int:
    """The arena to declare: used + 5 % + 1 KiB, in multiples of 16.

    The recorder does not count what is allocated temporarily during Prepare and
    Invoke nor padding at the arena's ends, and optimised kernels of a target
    ask for scratch memory that the reference kernels do without.
    """
    wanted = self.used_bytes * (1 + ARENA_MARGIN_FRACTION) + ARENA_MARGIN_BYTES
    return math.ceil(wanted / ARENA_ALIGNMENT_BYTES) * ARENA_ALIGNMENT_BYTES


@dataclasses.dataclass(frozen=True)
class Run:
  """What a file computed.

  Attributes:
    stored_outputs: [N, ...] in the file's own number format, int8 for int8 outputs:
      equal arrays mean bit-identical files.
    outputs: float32 [N, ...], dequantised.
    arena: Working memory that was used.
  """

  stored_outputs: Array
  outputs: Array
  arena: Arena


def runtime_name() -> str:
  """Returns the runtime's name and version, as in `Artifact.runtime`."""
  return f"tflite-micro {importlib.metadata.version('tflite-micro')}"


def run(model_bytes: bytes, inputs: Array) -> Run:
  """Computes the outputs of a one-input, one-output file, one row at a time.

  Args:
    model_bytes: The `.tflite` file, with float32 or integer inputs and outputs.
    inputs: float [N, ...] with N > 0; quantised here if the file's input is.

  Returns:
    Outputs and arena figures.

  Raises:
    InputError: There are no inputs.
    VerificationError: The file does not load, does not fit the inputs or fails.
  """
  if not len(inputs):
    raise InputError("there are no inputs to run the model on; give at least one")
  interpreter = _load(model_bytes, runtime.InterpreterConfig.kAllocationRecording)
  source = interpreter.get_input_details(0)
  target = interpreter.get_output_details(0)
  stored_outputs = _invoke(interpreter, quantisation.stored_inputs(inputs, source))
  return Run(
    stored_outputs,
    quantisation.real_outputs(stored_outputs, target),
    _arena(interpreter),
  )


def read_tensors(model_bytes: bytes, places: Sequence[tuple[int, int]]) -> list[Array]:
  """Returns tensors as they are after one inference on zeros.

  Every tensor is kept, so that this shows what TFLM's DECODE kernel wrote.

  Args:
    model_bytes: The `.tflite` file.
    places: (subgraph, tensor index) of each tensor wanted.

  Raises:
    VerificationError: The file does not load or run.
  """
  interpreter = _load(model_bytes, runtime.InterpreterConfig.kPreserveAllTensors)
  source = interpreter.get_input_details(0)
  _invoke(interpreter, np.zeros(source["shape"], source["dtype"]))
  return [
    np.array(interpreter.GetTensor(index, subgraph)["tensor_data"])
    for subgraph, index in places
  ]


def _load(model_bytes: bytes, mode: runtime.InterpreterConfig) -> runtime.Interpreter:
  """Returns an interpreter with memory to spare.

  The file is checked first and the arena is generous: the interpreter crashes the
  process on damaged bytes and in an arena that is far too small.
  """
  try:
    model = flatbuffer_model.read_model(model_bytes)
  except InputError as error:
    raise VerificationError(f"TFLM cannot load the file: {error}") from error
  graph = model.subgraphs[0]
  if len(graph.inputs) != 1 or len(graph.outputs) != 1:
    raise VerificationError(
      f"the file has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
      "expected one each"
    )
  tensor_bytes = sum(
    8 * math.prod(flatbuffer_model.integers(tensor.shape))
    for subgraph in model.subgraphs
    for tensor in subgraph.tensors
  )
  # A whole number of blocks, so that padding does not depend on the file's size.
  blocks = 2**16 + math.ceil(
    (8 * len(model_bytes) + tensor_bytes) / ARENA_ALIGNMENT_BYTES
  )
  return _quietly(
    "load",
    lambda: runtime.Interpreter.from_bytes(
      model_bytes,
      arena_size=blocks * ARENA_ALIGNMENT_BYTES,
      intrepreter_config=mode,
    ),
  )


def _invoke(interpreter: runtime.Interpreter, rows: Array) -> Array:
  """Returns the stored outputs [N, ...] for stored inputs [N, ...]."""

  def compute() -> Array:
    outputs = []
    for row in rows:
      interpreter.set_input(row[np.newaxis], 0)
      interpreter.invoke()
      outputs.append(interpreter.get_output(0))
    return np.concatenate(outputs)

  return _quietly("run", compute)


def _quietly(verb: str, action: Callable[[], _Result]) -> _Result:
  """Calls the runtime; what it prints goes into the error if it fails."""
  with captured_stderr() as printed:
    try:
      return action()
    except (RuntimeError, ValueError) as error:
      reason = " ".join(f"{error}: {printed()}".split())
      raise VerificationError(f"TFLM cannot {verb} the file: {reason}") from error


def _arena(interpreter: runtime.Interpreter) -> Arena:
  """Returns the recorder's figures, which it can only print."""
  with captured_stderr() as printed:
    interpreter.print_allocations()
    figures = dict(_ARENA_LINE.findall(printed()))
  if figures.keys() != {"head", "tail"}:
    raise VerificationError(
      f"{runtime_name()} prints its arena in another form; pin the tested version"
    )
  return Arena(int(figures["head"]), int(figures["tail"]))
