"""Runs a model's dense and its encoded file in TFLM and checks that they are equal."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np

from fedtiny_tff.errors import InputError
from tflite_export import compare, flatbuffer_model, tflm, weights
from tflite_export.artifacts import ExportRequest, VerificationError
from tflite_export.tflm_decode import EncodedModel, encode_pruned

MODEL_PATH = "mcu/model.tflite"
DENSE_PATH = "mcu/model_dense.tflite"


@dataclasses.dataclass(frozen=True)
class VerifiedPair:
  """A dense file, its encoded form, and what was measured on them.

  Attributes:
    dense_bytes: The dense file.
    encoded: The encoded one, and what became of each tensor.
    dense_arena: Working memory of the dense file.
    arena: Working memory of the encoded file.
    density: Non-zero share of the masked layers' weights.
    comparison: Outputs of the dense file against the Keras model's; the encoded
      file's are the same. Quantisation costs what it costs: nothing is enforced.
  """

  dense_bytes: bytes
  encoded: EncodedModel
  dense_arena: tflm.Arena
  arena: tflm.Arena
  density: float
  comparison: compare.Comparison


def verify(request: ExportRequest, dense_bytes: bytes) -> VerifiedPair:
  """Encodes the dense file and checks both files in TFLM.

  Raises:
    VerificationError: A file does not load in TFLM, the two differ in an output or a
      decoded weight, or a masked weight is not zero.
    InputError: The evaluation data do not fit the model.
  """
  reference = compare.keras_outputs(request.model, request.evaluation_inputs)
  with _naming(DENSE_PATH):
    masked = weights.check_masked_zeros(dense_bytes, request.masks)
    dense_run = tflm.run(dense_bytes, request.evaluation_inputs)
  with _naming(MODEL_PATH):
    encoded = encode_pruned(dense_bytes)
    run = tflm.run(encoded.model_bytes, request.evaluation_inputs)
    check_identical(dense_run.stored_outputs, run.stored_outputs)
    check_decoded(dense_bytes, encoded)
  return VerifiedPair(
    dense_bytes=dense_bytes,
    encoded=encoded,
    dense_arena=dense_run.arena,
    arena=run.arena,
    density=masked.density,
    comparison=compare.compare(request, reference, dense_run.outputs),
  )


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


def check_identical(dense_outputs: np.ndarray, outputs: np.ndarray) -> None:
  """Checks that both files gave the same integers.

  Args:
    dense_outputs: Stored outputs [N, values] of the dense file.
    outputs: Those of the encoded file.

  Raises:
    VerificationError: They differ; with the number of rows and the largest difference.
  """
  if np.array_equal(dense_outputs, outputs):
    return
  if dense_outputs.shape != outputs.shape:
    raise VerificationError(
      f"the encoded file's outputs are {list(outputs.shape)}, the dense file's "
      f"{list(dense_outputs.shape)}"
    )
  difference = np.abs(outputs.astype(np.float64) - dense_outputs.astype(np.float64))
  rows = int(difference.reshape(len(outputs), -1).any(axis=1).sum())
  raise VerificationError(
    f"the encoded file differs from the dense one on {rows} of {len(outputs)} inputs, "
    f"by up to {difference.max():g}"
  )


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
