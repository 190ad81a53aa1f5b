"""Exports a sparse model for microcontrollers that run TFLM.

Firmware gets the file whose pruned tensors are stored compactly, as C++ sources; its
dense twin says what pruning gained. Both are run in TFLM here, and nothing is
returned unless they compute the same integers.
"""

from tflite_export import tflm
from tflite_export.artifacts import Artifact, ExportBundle, ExportRequest
from tflite_export.c_source import c_sources
from tflite_export.convert import convert
from tflite_export.mcu_readme import readme
from tflite_export.mcu_verify import DENSE_PATH, MODEL_PATH, VerifiedPair, verify


def export_mcu(request: ExportRequest) -> ExportBundle:
  """Converts, encodes, verifies and writes firmware sources.

  Args:
    request: The model; its outputs are compared on `evaluation_inputs`.

  Returns:
    `mcu/model.tflite` (format int8_decode), `mcu/model_dense.tflite` (int8_dense),
    C++ sources of the first and `mcu/README.md`. When encoding saves nothing, both
    files are the same and the README says so.

  Raises:
    InputError: The model or the data cannot be exported.
    VerificationError: A file does not load in TFLM, the two differ in an output or a
      decoded weight, or a masked weight is not zero.
  """
  verified = verify(
    request, convert(request.model, "int8_dense", request.calibration_inputs)
  )
  sources = c_sources(
    verified.encoded.model_bytes,
    request.class_names if request.task.has_classes else None,
    verified.arena.recommended_bytes,
  )
  texts = {**sources, "README.md": readme(verified)}
  return ExportBundle(
    files={
      MODEL_PATH: verified.encoded.model_bytes,
      DENSE_PATH: verified.dense_bytes,
      **{f"mcu/{name}": text.encode("utf-8") for name, text in texts.items()},
    },
    artifacts=_artifacts(verified),
  )


def _artifacts(verified: VerifiedPair) -> tuple[Artifact, ...]:
  """Returns the report rows of both files."""
  dense_bytes = len(verified.dense_bytes)
  rows = (
    (MODEL_PATH, "int8_decode", len(verified.encoded.model_bytes), verified.arena),
    (DENSE_PATH, "int8_dense", dense_bytes, verified.dense_arena),
  )
  return tuple(
    Artifact(
      path=path,
      target="mcu",
      format=format,
      bytes=size,
      dense_bytes=dense_bytes,
      density=verified.density,
      accuracy=verified.comparison.accuracy,
      auc=verified.comparison.auc,
      argmax_agreement=verified.comparison.argmax_agreement,
      max_abs_error=verified.comparison.max_abs_error,
      runtime=tflm.runtime_name(),
      arena_bytes=arena.recommended_bytes,
    )
    for path, format, size, arena in rows
  )
