"""Exports from Python: a Keras model and some examples in, verified files out.

For an Android app:

    exported = export_android(model, examples)
    print(exported)
    exported.write("export")
"""

import dataclasses
import html
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Optional, Union

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import keras_graphs
from fedtiny_tff.models import user_model_checks
from fedtiny_tff.version import VERSION
from tflite_export import given_model
from tflite_export.artifacts import Artifact, ExportBundle, ExportRequest
from tflite_export.conversion import channel_equalisation
from tflite_export.file_format.activation_ranges import ActivationRanges
from tflite_export.mcu_options import McuOptions
from tflite_export.provenance import Provenance
from tflite_export.targets import TARGETS

_SOURCE = "given"


@dataclasses.dataclass(frozen=True)
class About:
  """What else is known of a model, for its metadata, its card and its code.

  Attributes:
    name: Name of the model; empty for Keras's.
    licence: Licence of the model, as its owner states it.
    class_names: One for each output; empty for numbers.
    task: "classify" or "reconstruct"; empty to judge by the shape of the output.
    preprocessing: From raw examples to inputs; None where it is not known.
    feature_type: NumPy type name of raw examples, where preprocessing is known.
  """

  name: str = ""
  licence: str = "not stated"
  class_names: tuple[str, ...] = ()
  task: str = ""
  preprocessing: Optional[Preprocessing] = None
  feature_type: Optional[str] = None


_NOTHING_ELSE = About()


@dataclasses.dataclass(frozen=True, repr=False)
class Exported:
  """Verified files, and what is known of them.

  Attributes:
    files: Path relative to where they are written, with `/`, to content.
    artifacts: A row for each `.tflite` of the model.
  """

  files: Mapping[str, bytes]
  artifacts: tuple[Artifact, ...]

  def __getitem__(self, path: str) -> bytes:
    """Returns a file's content."""
    return self.files[path]

  def artifact(self, format: str) -> Artifact:
    """Returns the row of a format, such as `fp32_sparse`.

    Raises:
      KeyError: When there is none.
    """
    rows = {row.format: row for row in self.artifacts}
    return rows[format]

  def write(self, folder: Union[str, os.PathLike[str]]) -> pathlib.Path:
    """Writes all files below a folder; those of the same names are replaced.

    Raises:
      InputError: When the folder cannot be written.
    """
    root = pathlib.Path(folder)
    try:
      for name, content in self.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
          file.write(content)
        pathlib.Path(file.name).chmod(0o644)
        os.replace(file.name, path)
    except OSError as error:
      raise InputError(
        f"{root}: cannot be written ({error.strerror}); name another folder"
      ) from error
    return root

  def __str__(self) -> str:
    """Returns a table of the `.tflite` files."""
    rows = [_HEADINGS, *map(_cells, self.artifacts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
      "  ".join(
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
      ).rstrip()
      for row in rows
    )

  def __repr__(self) -> str:
    """Returns the table, not the files' bytes."""
    return str(self)

  def _repr_html_(self) -> str:
    """Returns the same table for notebooks."""

    def row(cells: Sequence[str], tag: str) -> str:
      inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
      return f"<tr>{inside}</tr>"

    body = "".join(row(_cells(each), "td") for each in self.artifacts)
    return f"<table><thead>{row(_HEADINGS, 'th')}</thead><tbody>{body}</tbody></table>"


_HEADINGS = (
  "file", "bytes", "of dense", "density", "accuracy", "same class", "largest error",
  "arena",
)  # fmt: skip


def _cells(row: Artifact) -> tuple[str, ...]:
  """Returns what the table says of a file."""

  def share(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.1%}"

  return (
    row.path,
    f"{row.bytes:,}",
    share(row.bytes / row.dense_bytes),
    share(row.density),
    share(row.accuracy),
    share(row.argmax_agreement),
    f"{row.max_abs_error:.2g}",
    "" if row.arena_bytes is None else f"{row.arena_bytes:,}",
  )


def export_android(
  model: tf.keras.Model,
  representative: Array,
  *,
  labels: Optional[Array] = None,
  masks: Optional[Mapping[str, Array]] = None,
  percentile: Optional[float] = None,
  about: About = _NOTHING_ELSE,
) -> Exported:
  """Converts a pruned model for LiteRT on Android, and verifies every file.

  Each of fp32, fp16, int8 and dynamic range comes with its weights stored sparse and
  stored dense. All are loaded and run, and compared with the model.

  Args:
    model: Sequential or functional Keras model; it stays as it is.
    representative: float32 [N, ...], inputs as in training. They set the ranges of
      integers, and files are compared with the model on them.
    labels: int [N], from which accuracies follow.
    masks: Layer name to bool array in the layout of its kernel, False where pruned; a
      name that layers of models within the model share too has a path, `inner/conv`.
      None takes the zeros of the weights.
    percentile: Share of activations, in percent, that integer ranges hold; None for
      minima and maxima.
    about: What else is known of the model.

  Returns:
    Eight `.tflite` files, a model card, code in Kotlin and Java, and labels.

  Raises:
    InputError: When the model or the examples cannot be used.
    VerificationError: When a file is not what it must be.
  """
  from tflite_export.android import handover  # noqa: PLC0415 - loads LiteRT

  request = _request(model, representative, labels, masks, percentile, about)
  bundle = TARGETS["android"](request)
  return _exported(handover.with_handover(bundle, request, {}))


def export_mcu(
  model: tf.keras.Model,
  representative: Array,
  *,
  labels: Optional[Array] = None,
  masks: Optional[Mapping[str, Array]] = None,
  percentile: Optional[float] = None,
  flash_bytes: Optional[int] = None,
  ram_bytes: Optional[int] = None,
  activation_bits: int = 8,
  float_ends: bool = False,
  about: About = _NOTHING_ELSE,
) -> Exported:
  """Converts a pruned model for TFLM on microcontrollers, and verifies it there.

  Args:
    model: As in `export_android`.
    representative: As there.
    labels: As there.
    masks: As there.
    percentile: As there.
    flash_bytes: What model and arrays may take; None without a limit.
    ram_bytes: What the tensor arena may take; None without a limit.
    activation_bits: 8 or 16.
    float_ends: Whether input and output are float32 instead of integers.
    about: As in `export_android`.

  Returns:
    The model with its pruned weights stored compactly, its dense twin, C++ sources of
    the first, and a README.

  Raises:
    InputError: When the model, the examples or an option cannot be used.
    BudgetError: When the model needs more memory than there is.
    VerificationError: When a file is not what it must be.
  """
  _check_numbers(activation_bits, flash_bytes, ram_bytes)
  request = dataclasses.replace(
    _request(model, representative, labels, masks, percentile, about),
    mcu=McuOptions(
      activation_bits=activation_bits,
      float_ends=float_ends,
      flash_bytes=flash_bytes,
      ram_bytes=ram_bytes,
    ),
  )
  return _exported(TARGETS["mcu"](request))


def _check_numbers(bits: int, flash: Optional[int], ram: Optional[int]) -> None:
  if bits not in (8, 16):
    raise InputError(f"activation_bits must be 8 or 16, got {bits}")
  for name, limit in (("flash_bytes", flash), ("ram_bytes", ram)):
    if limit is not None and limit < 1:
      raise InputError(f"{name} must be at least 1, got {limit}; None is no limit")


def _exported(bundle: ExportBundle) -> Exported:
  return Exported(dict(bundle.files), bundle.artifacts)


@keras_graphs.sparing_eager_models()
def _request(
  model: tf.keras.Model,
  representative: Array,
  labels: Optional[Array],
  masks: Optional[Mapping[str, Array]],
  percentile: Optional[float],
  about: About,
) -> ExportRequest:
  """Checks all that is given, and gathers it as exporters take it."""
  if not isinstance(model, tf.keras.Model):
    raise InputError(
      f"model is {type(model).__name__}; give a Keras model, as process.model(state) is"
    )
  model = _copy(user_model_checks.as_functional(_SOURCE, model))
  inputs = given_model.check_inputs("representative", np.asarray(representative), model)
  if labels is not None:
    labels = np.asarray(labels)
  task = given_model.find_task(_SOURCE, model, about.task, labels)
  if labels is not None:
    given_model.check_labels("labels", labels, len(inputs), model, task)
  outputs = int(model.outputs[0].shape[-1])
  names = tuple(about.class_names) or tuple(map(str, range(outputs)))
  if task.has_classes and len(names) != outputs:
    raise InputError(
      f"{len(names)} class_names for {outputs} outputs; give one for each"
    )
  if about.preprocessing is not None:
    given_model.check_preprocessing(about.preprocessing, model)
  kept = _masks(model, masks)
  return ExportRequest(
    model=model,
    masks=kept,
    task=task,
    calibration=_calibration(model, inputs, percentile),
    evaluation_inputs=inputs,
    evaluation_labels=labels,
    class_names=names if task.has_classes else (),
    provenance=_provenance(model, kept, len(inputs), about),
  )


def _copy(model: tf.keras.Model) -> tf.keras.Model:
  """Returns a model that may be changed, checked."""
  given_model.check_model(_SOURCE, model)
  copy = tf.keras.models.clone_model(model)
  copy.set_weights(model.get_weights())
  channel_equalisation.equalise(copy)
  return copy


def _masks(
  model: tf.keras.Model, given: Optional[Mapping[str, Array]]
) -> dict[str, Array]:
  """Returns masks whose pruned weights are zero."""
  if given is None:
    return given_model.masks_of_zeros(model)
  kernels = given_model.kernels(model)
  masks: dict[str, Array] = {}
  for name, mask in given.items():
    # Where the layers of models within the model have that name too.
    key = name if name in kernels else f"{model.name}/{name}"
    if key not in kernels or kernels[key].shape != np.shape(mask):
      raise InputError(
        f"masks: {name!r} of shape {list(np.shape(mask))} is no kernel of the model; name "
        "layers, with arrays of their kernels' shapes"
      )
    masks[key] = np.asarray(mask, bool)
    left = np.count_nonzero(kernels[key][~masks[key]])
    if left:
      raise InputError(
        f"masks: layer {name!r} has {left} weights that are pruned and not zero; take the "
        "model and the masks of the same state"
      )
  return masks


def _calibration(
  model: tf.keras.Model, inputs: Array, percentile: Optional[float]
) -> Array | ActivationRanges:
  if percentile is None:
    return inputs
  if not 50.0 < percentile <= 100.0:
    raise InputError(f"percentile must be in (50, 100], got {percentile:g}")
  from tflite_export.conversion import (  # noqa: PLC0415 - loads LiteRT
    convert,
    float_activations,
  )

  return float_activations.percentile_ranges(
    convert.float_file(model), inputs, percentile
  )


def _provenance(
  model: tf.keras.Model, masks: Mapping[str, Array], examples: int, about: About
) -> Provenance:
  rows = f"{examples} examples that were given"
  return Provenance(
    name=about.name or model.name,
    version=VERSION,
    licence=about.licence,
    method=given_model.pruned_in_words(masks),
    training={"Data": "Not known to the exporter."},
    calibration=f"On {rows}.",
    evaluation=f"{rows}, from which quantised files were also calibrated",
    preprocessing=about.preprocessing,
    feature_type=about.feature_type,
  )
