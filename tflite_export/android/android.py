"""The Android target: files for LiteRT, each checked before it is handed out.

Every format comes twice: with its weights stored sparse, and its twin, the same pruned
weights stored dense, the baseline of every size and speed claim and the fallback.
`fp32_sparse` and `fp16_sparse` are the product: XNNPACK on ARM takes its sparse kernels
for them. int8 is never accelerated by zeros; there sparse storage saves bytes, and only
where LiteRT unpacks it (`sparsify`): int8 dense layers stay dense, and so does every
convolution and dense layer of `dynamic_range`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.android.android_description import describe
from tflite_export.artifacts import (
  Artifact,
  ExportBundle,
  ExportRequest,
  VerificationError,
)
from tflite_export.conversion import output_meaning
from tflite_export.conversion.convert import convert
from tflite_export.conversion.full_integer import full_integer
from tflite_export.conversion.sparsify import sparsify
from tflite_export.metadata import model_metadata
from tflite_export.runtimes import litert
from tflite_export.runtimes.compare import Comparison, compare, keras_outputs
from tflite_export.runtimes.weights import MaskedWeights, check_masked_zeros
from tflite_export.xnnpack import eligibility

_TARGET = "android"

# float32 and float16 layers of this many weights and zeros are smaller when sparse.
_SURELY_SPARSE_WEIGHTS = 1024
_SURELY_SPARSE_ZEROS = 0.8


@dataclasses.dataclass(frozen=True)
class AndroidFormat:
  """A format shipped for Android.

  Attributes:
    format: Key of `convert.FORMATS` and name of the file.
    dense_twin: Format that stores the same numbers dense; itself if dense.
    tolerance: Largest allowed error of any output, as a share of the largest
      output magnitude of the Keras model.
    floats: Whether all weights are floating point numbers.
  """

  format: str
  dense_twin: str
  tolerance: float
  floats: bool

  @property
  def sparse(self) -> bool:
    """Whether weights must be stored sparse."""
    return self.format != self.dense_twin

  @property
  def path(self) -> str:
    """Where the file belongs, relative to the export directory."""
    return f"{_TARGET}/{self.format}.tflite"

  @property
  def dense_path(self) -> str:
    """Where the dense twin belongs; for a dense file, itself."""
    return f"{_TARGET}/{self.dense_twin}.tflite"


# Half precision is 11 bits. Full-integer files saturate on inputs beyond the calibration
# data, which anomalies are: of them, as of dynamic range, only what is plainly wrong is
# refused, and `Artifact` tells the rest.
ANDROID_FORMATS: tuple[AndroidFormat, ...] = tuple(
  AndroidFormat(f"{name}_{storage}", f"{name}_dense", tolerance, floats)
  for name, tolerance, floats in (
    ("fp32", 1e-4, True),
    ("fp16", 1e-2, True),
    ("int8", 1.0, False),
    ("dynamic_range", 0.5, False),
  )
  for storage in ("dense", "sparse")
)


def export_android(request: ExportRequest) -> ExportBundle:
  """Converts to every Android format and verifies each file.

  A sparse file is never larger than its twin; where nothing gets smaller (few zeros, a
  model of a few kilobytes, layers that LiteRT does not unpack) it is the twin. So it is
  where XNNPACK on ARM would take the sparse file and not load it or compute something
  else; `Artifact.note` says why, and how the model is to be mended.

  Args:
    request: The model, its masks and its data.

  Returns:
    One file and one artifact per entry of `ANDROID_FORMATS`.

  Raises:
    VerificationError: A file does not load in LiteRT, computes something else
      than the model or its twin, holds a masked weight that is not zero, or stores
      dense what should be sparse.
    InputError: The model cannot be converted, or data do not fit it.
  """
  reference = keras_outputs(request.model, request.evaluation_inputs)
  dense: dict[str, bytes] = {}
  files: dict[str, bytes] = {}
  outputs: dict[str, Array] = {}
  artifacts = []
  for entry in ANDROID_FORMATS:
    note = None
    if entry.sparse:
      plain, note = _sparsified(dense[entry.dense_path])
    else:
      plain = _convert(request, entry)
      dense[entry.path] = plain
    if entry.sparse and plain == dense[entry.dense_path]:
      content = files[entry.dense_path]
    else:
      content = model_metadata.attach(plain, describe(request, entry.format))
    files[entry.path] = content
    twin = files[entry.dense_path]
    if entry.sparse and content == twin:
      outputs[entry.path] = outputs[entry.dense_path]
    else:
      outputs[entry.path] = run(entry, content, request.evaluation_inputs)
    check_identical(entry, outputs[entry.dense_path], outputs[entry.path])
    weights = check_weights(entry, content, request.masks, is_withheld=note is not None)
    comparison = check_outputs(entry, outputs[entry.path], request, reference)
    made = _artifact(entry, content, len(twin), weights, comparison)
    artifacts.append(dataclasses.replace(made, note=note))
  given = float(reference.min()), float(reference.max())
  return ExportBundle(files=files, artifacts=tuple(artifacts), output_range=given)


def _convert(request: ExportRequest, entry: AndroidFormat) -> bytes:
  """Returns a dense file."""
  if entry.format == "int8_dense":
    return full_integer(request)
  name = output_meaning.signature_name(request)
  return convert(request.model, entry.format, request.calibration, name)


def _sparsified(dense: bytes) -> tuple[bytes, Optional[str]]:
  """Returns a file stored sparse; where that would fail on ARM, itself and why."""
  sparse = sparsify(dense)
  errors = eligibility.inspect(sparse).errors
  if not errors:
    return sparse, None
  return dense, f"stored dense, because stored sparse it would fail on ARM: {errors[0]}"


def _artifact(
  entry: AndroidFormat,
  content: bytes,
  dense_bytes: int,
  weights: MaskedWeights,
  comparison: Comparison,
) -> Artifact:
  """Returns what is known about a checked file."""
  return Artifact(
    path=entry.path,
    target=_TARGET,
    format=entry.format,
    bytes=len(content),
    dense_bytes=dense_bytes,
    density=weights.density,
    accuracy=comparison.accuracy,
    class_accuracy=comparison.class_accuracy,
    auc=comparison.auc,
    argmax_agreement=comparison.argmax_agreement,
    max_abs_error=comparison.max_abs_error,
    runtime=litert.runtime_name(),
    arena_bytes=None,
  )


def check_weights(
  entry: AndroidFormat,
  model_bytes: bytes,
  masks: Mapping[str, Array],
  is_withheld: bool = False,
) -> MaskedWeights:
  """Checks masked zeros and, for a sparse format, that weights are stored sparse.

  Args:
    entry: What the file is to be.
    model_bytes: The file.
    masks: As in `ExportRequest`.
    is_withheld: Whether it is stored dense on purpose.

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
    if masks[layer].size >= _SURELY_SPARSE_WEIGHTS
    and 1 - density >= _SURELY_SPARSE_ZEROS
  ]
  must_be_sparse = entry.sparse and entry.floats and worth_it and not is_withheld
  if must_be_sparse and not any(weights.stored_sparse.values()):
    raise VerificationError(
      f"{entry.path}: no tensor is stored sparse, although {len(worth_it)} of "
      f"{len(masks)} masked layers have {_SURELY_SPARSE_WEIGHTS} weights or more and "
      f"are at least {_SURELY_SPARSE_ZEROS:.0%} zero"
    )
  return weights


def run(entry: AndroidFormat, model_bytes: bytes, inputs: Array) -> Array:
  """Returns the outputs [N, values] of a file in LiteRT, flat.

  Raises:
    VerificationError: It does not load or run.
  """
  try:
    return litert.run(model_bytes, inputs).reshape(len(inputs), -1)
  except VerificationError as error:
    raise VerificationError(f"{entry.path}: {error}") from error


def check_identical(entry: AndroidFormat, dense_outputs: Array, outputs: Array) -> None:
  """Checks that a sparse file gave the same numbers as its twin.

  On x86 it must: there XNNPACK runs both with the same dense kernels.

  Raises:
    VerificationError: They differ, on how many inputs, and by how much.
  """
  # A NaN in both is for the comparison with the model to refuse.
  if not np.array_equal(dense_outputs, outputs, equal_nan=True):
    difference = np.abs(outputs - dense_outputs)
    raise VerificationError(
      f"{entry.path}: outputs differ from the dense file's on "
      f"{int(difference.any(axis=1).sum())} of {len(outputs)} inputs, by up to "
      f"{difference.max():.3g}"
    )


def check_outputs(
  entry: AndroidFormat,
  outputs: Array,
  request: ExportRequest,
  reference: Array,
) -> Comparison:
  """Checks a file's outputs [N, values] against the Keras model's.

  Raises:
    VerificationError: The error is above the tolerance.
  """
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
