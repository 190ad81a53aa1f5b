"""The Android target: files for LiteRT, each checked before it is handed out.

`fp32_sparse` is the product: weights stored sparse, so that XNNPACK on ARM takes
its sparse kernels. `fp32_dense`, its twin, holds the same pruned weights stored
dense: the baseline of every size and speed claim, and the fallback.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fedtiny_tff.errors import InputError
from tflite_export import litert
from tflite_export.artifacts import (
  Artifact,
  ExportBundle,
  ExportRequest,
  VerificationError,
)
from tflite_export.compare import Comparison, compare, keras_outputs
from tflite_export.convert import convert
from tflite_export.weights import MaskedWeights, check_masked_zeros

_TARGET = "android"

# The converter leaves tensors with fewer zeros dense (`kMinSparsityLevel` in
# tensorflow/compiler/mlir/lite/transforms/dense_to_sparse.cc).
_MIN_STORED_SPARSE_ZEROS = 0.3


@dataclasses.dataclass(frozen=True)
class AndroidFormat:
  """A format shipped for Android.

  Attributes:
    format: Key of `convert.FORMATS` and name of the file.
    dense_twin: Format that stores the same numbers dense; itself if dense.
    tolerance: Largest allowed error of any output, as a share of the largest
      output magnitude of the Keras model.
  """

  format: str
  dense_twin: str
  tolerance: float

  @property
  def sparse(self) -> bool:
    """Whether weights must be stored sparse."""
    return self.format != self.dense_twin

  @property
  def path(self) -> str:
    """Where the file belongs, relative to the export directory."""
    return f"{_TARGET}/{self.format}.tflite"


ANDROID_FORMATS: tuple[AndroidFormat, ...] = (
  AndroidFormat("fp32_sparse", dense_twin="fp32_dense", tolerance=1e-4),
  AndroidFormat("fp32_dense", dense_twin="fp32_dense", tolerance=1e-4),
)


def export_android(request: ExportRequest) -> ExportBundle:
  """Converts to every Android format and verifies each file.

  A sparse file that is not smaller than its twin (few zeros, or a model of a few
  kilobytes) is correct and kept; `Artifact.bytes` and `dense_bytes` show it.

  Args:
    request: The model, its masks and its data.

  Returns:
    One file and one artifact per entry of `ANDROID_FORMATS`.

  Raises:
    VerificationError: A file does not load in LiteRT, computes something else
      than the model, holds a masked weight that is not zero, or stores dense
      what should be sparse.
    InputError: The model cannot be converted, or data do not fit it.
  """
  reference = keras_outputs(request.model, request.evaluation_inputs)
  contents = {
    entry.format: convert(request.model, entry.format, request.calibration_inputs)
    for entry in ANDROID_FORMATS
  }
  return ExportBundle(
    files={entry.path: contents[entry.format] for entry in ANDROID_FORMATS},
    artifacts=tuple(
      _verified(
        entry,
        contents[entry.format],
        len(contents[entry.dense_twin]),
        request,
        reference,
      )
      for entry in ANDROID_FORMATS
    ),
  )


def _verified(
  entry: AndroidFormat,
  model_bytes: bytes,
  dense_bytes: int,
  request: ExportRequest,
  reference: np.ndarray,
) -> Artifact:
  """Checks one file and returns what is known about it."""
  weights = check_weights(entry, model_bytes, request.masks)
  comparison = check_outputs(entry, model_bytes, request, reference)
  return Artifact(
    path=entry.path,
    target=_TARGET,
    format=entry.format,
    bytes=len(model_bytes),
    dense_bytes=dense_bytes,
    density=weights.density,
    accuracy=comparison.accuracy,
    auc=comparison.auc,
    argmax_agreement=comparison.argmax_agreement,
    max_abs_error=comparison.max_abs_error,
    runtime=litert.runtime_name(),
    arena_bytes=None,
  )


def check_weights(
  entry: AndroidFormat, model_bytes: bytes, masks: Mapping[str, np.ndarray]
) -> MaskedWeights:
  """Checks masked zeros and, for a sparse format, that weights are stored sparse.

  Raises:
    VerificationError: Which layer is wrong, and by how much.
  """
  try:
    weights = check_masked_zeros(model_bytes, masks)
  # Here the bytes are the converter's, not the user's.
  except (InputError, VerificationError) as error:
    raise VerificationError(f"{entry.path}: {error}") from error
  worth_it = [
    layer
    for layer, density in weights.layer_density.items()
    if 1 - density >= _MIN_STORED_SPARSE_ZEROS
  ]
  if entry.sparse and worth_it and not any(weights.stored_sparse.values()):
    raise VerificationError(
      f"{entry.path}: no tensor is stored sparse, although {len(worth_it)} of "
      f"{len(masks)} masked layers are at least {_MIN_STORED_SPARSE_ZEROS:.0%} zero"
    )
  return weights


def check_outputs(
  entry: AndroidFormat,
  model_bytes: bytes,
  request: ExportRequest,
  reference: np.ndarray,
) -> Comparison:
  """Runs a file in LiteRT and checks it against the Keras model's outputs.

  Raises:
    VerificationError: It does not load, or its error is above the tolerance.
  """
  try:
    outputs = litert.run(model_bytes, request.evaluation_inputs)
  except VerificationError as error:
    raise VerificationError(f"{entry.path}: {error}") from error
  comparison = compare(request, reference, outputs)
  # Written so that a NaN fails.
  if not comparison.relative_error <= entry.tolerance:
    agreement = comparison.argmax_agreement
    classes = ""
    if agreement is not None:
      classes = f"; same class on {agreement:.1%} of {len(outputs)} inputs"
    raise VerificationError(
      f"{entry.path}: largest output error {comparison.max_abs_error:.3g} is "
      f"{comparison.relative_error:.3g} of the largest output, allowed "
      f"{entry.tolerance:.3g}{classes}"
    )
  return comparison
