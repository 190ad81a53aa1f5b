"""Runs a model's files in TFLM and checks that they are equal.

Three files are made of one model: the converter's (the dense twin), the same without
what TFLM does not read, and that with encoded weights.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.artifacts import ExportRequest, VerificationError
from tflite_export.decode.tflm_decode import EncodedModel
from tflite_export.decode.tflm_shrink import ShrunkModel, shrink
from tflite_export.file_format import flatbuffer_model
from tflite_export.microcontrollers.mcu_budget import encode_within
from tflite_export.runtimes import compare, tflm, weights

MODEL_PATH = "mcu/model.tflite"
DENSE_PATH = "mcu/model_dense.tflite"


@dataclasses.dataclass(frozen=True)
class VerifiedPair:
  """A dense file, its encoded form, and what was measured on them.

  Attributes:
    dense_bytes: The dense file, as the converter made it: LiteRT reads it too.
    encoded: The encoded one, and what became of each tensor, with the names that the
      converter gave.
    shrunk_size_bytes: What the dense file takes without what TFLM does not read.
    dense_arena: Working memory of the dense file.
    arena: Working memory of the encoded file.
    density: Non-zero share of the masked layers' weights.
    comparison: Outputs of the dense file against the Keras model's; the encoded
      file's are the same. Quantisation costs what it costs: nothing is enforced.
  """

  dense_bytes: bytes
  encoded: EncodedModel
  shrunk_size_bytes: int
  dense_arena: tflm.Arena
  arena: tflm.Arena
  density: float
  comparison: compare.Comparison


def verify(request: ExportRequest, converted_bytes: bytes) -> VerifiedPair:
  """Shrinks and encodes the converter's file and checks all three in TFLM.

  Args:
    request: The model; outputs are compared on its evaluation inputs. Its options say
      whether names stay in the encoded file, and how much RAM decoding may take.
    converted_bytes: The converter's file, with the names that masks are found by.

  Raises:
    VerificationError: A file does not load in TFLM, two differ in an output or a
      weight, or a masked weight is not zero.
    InputError: The evaluation data do not fit the model.
  """
  inputs = request.evaluation_inputs
  reference = compare.keras_outputs(request.model, inputs)
  with _naming(DENSE_PATH):
    masked = weights.check_masked_zeros(converted_bytes, request.masks)
    converted_run = tflm.run(converted_bytes, inputs)
    shrunk = shrink(converted_bytes, request.mcu.keep_names)
    dense_run = tflm.run(shrunk.model_bytes, inputs)
    check_identical(converted_run.stored_outputs, dense_run.stored_outputs)
    check_same_constants(converted_bytes, shrunk)
  with _naming(MODEL_PATH):
    encoded = encode_within(shrunk.model_bytes, request.mcu.ram_bytes, inputs)
    run = tflm.run(encoded.model_bytes, inputs)
    check_identical(dense_run.stored_outputs, run.stored_outputs)
    check_decoded(shrunk.model_bytes, encoded)
  return VerifiedPair(
    dense_bytes=converted_bytes,
    encoded=_with_names(encoded, converted_bytes, shrunk),
    shrunk_size_bytes=len(shrunk.model_bytes),
    dense_arena=converted_run.arena,
    arena=run.arena,
    density=masked.density,
    comparison=compare.compare(request, reference, dense_run.outputs),
  )


def _with_names(
  encoded: EncodedModel, converted_bytes: bytes, shrunk: ShrunkModel
) -> EncodedModel:
  """Returns the same file with reports that name the converter's tensors."""
  model = flatbuffer_model.read_model(converted_bytes)
  named = []
  for report in encoded.tensors:
    index = shrunk.tensors[report.subgraph][report.index]
    tensor = model.subgraphs[report.subgraph].tensors[index]
    name = flatbuffer_model.tensor_name(tensor)
    named.append(dataclasses.replace(report, name=name))
  return dataclasses.replace(encoded, tensors=tuple(named))


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
  """Puts the file's path into errors about it.

  The bytes are the converter's or the encoder's: what is wrong with them is no fault
  of the user's input.
  """
  try:
    yield
  except (InputError, VerificationError) as error:
    raise VerificationError(f"{path}: {error}") from error


def check_identical(dense_outputs: Array, outputs: Array) -> None:
  """Checks that two files gave the same integers.

  Args:
    dense_outputs: Stored outputs [N, values] of the file before a change.
    outputs: Those of the file after it.

  Raises:
    VerificationError: They differ; with the number of rows and the largest difference.
  """
  if np.array_equal(dense_outputs, outputs):
    return
  if dense_outputs.shape != outputs.shape:
    raise VerificationError(
      f"its outputs are {list(outputs.shape)}, before they were "
      f"{list(dense_outputs.shape)}"
    )
  difference = np.abs(outputs.astype(np.float64) - dense_outputs.astype(np.float64))
  rows = int(difference.reshape(len(outputs), -1).any(axis=1).sum())
  raise VerificationError(
    f"it differs from the file it was made of on {rows} of {len(outputs)} inputs, "
    f"by up to {difference.max():g}"
  )


def check_same_constants(converted_bytes: bytes, shrunk: ShrunkModel) -> None:
  """Checks that shrinking kept shape, type and values of every tensor.

  Args:
    converted_bytes: The file that was shrunk, whose masked weights were checked by
      their names.
    shrunk: What became of it.

  Raises:
    VerificationError: A tensor differs; with its name in the first file.
  """
  given, model = (
    flatbuffer_model.read_model(each) for each in (converted_bytes, shrunk.model_bytes)
  )
  for number, places in enumerate(shrunk.tensors):
    tensors = model.subgraphs[number].tensors
    for place, tensor in zip(places, tensors, strict=True):
      source = given.subgraphs[number].tensors[place]
      if _stored(given, source) != _stored(model, tensor):
        name = flatbuffer_model.tensor_name(source)
        raise VerificationError(f"tensor {name!r} is not what it was before shrinking")


def _stored(model: Any, tensor: Any) -> tuple[int, list[int], bytes]:
  """Returns a tensor's type, shape and bytes, which are empty without a constant."""
  data = model.buffers[tensor.buffer].data
  shape = flatbuffer_model.integers(tensor.shape)
  return tensor.type, shape, b"" if data is None else bytes(data)


def check_decoded(dense_bytes: bytes, encoded: EncodedModel) -> None:
  """Checks that TFLM decodes each encoded tensor to its values in the dense file.

  Outputs alone could agree by chance, for instance behind a ReLU that is never on.

  Args:
    dense_bytes: The dense `.tflite`.
    encoded: Its encoded form.

  Raises:
    VerificationError: A tensor differs; with its name and the number of values.
  """
  model = flatbuffer_model.read_model(dense_bytes)
  reports = [report for report in encoded.tensors if report.encoded]
  places = [(report.subgraph, report.index) for report in reports]
  decoded = tflm.read_tensors(encoded.model_bytes, places)
  for report, values in zip(reports, decoded, strict=True):
    tensor = model.subgraphs[report.subgraph].tensors[report.index]
    wanted = flatbuffer_model.constant(model, tensor)
    if values.shape != wanted.shape or values.tobytes() != wanted.tobytes():
      differing = (
        int((values != wanted).sum()) if values.shape == wanted.shape else "all"
      )
      raise VerificationError(
        f"tensor {report.name!r}: {differing} of {wanted.size} values differ after DECODE"
      )
