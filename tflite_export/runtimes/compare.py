"""Compares an exported file's outputs with the Keras model's."""

import dataclasses
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.artifacts import ExportRequest

_REFERENCE_BATCH = 128


@dataclasses.dataclass(frozen=True)
class Comparison:
  """How far a file's outputs are from the reference.

  Attributes:
    accuracy: Share of labels the file's class hits, in [0, 1]; None without labels
      or classes.
    class_accuracy: The same of each class, None for one without an example; None
      without labels or classes.
    auc: How well the reconstruction error tells anomalies, in [0, 1]; None without
      labels, or where nothing is reconstructed.
    argmax_agreement: Share of rows on which both give the same class; None without
      classes, and of a single output, which is no choice of one.
    max_abs_error: Largest difference of any output; NaN if any output is NaN.
    relative_error: `max_abs_error` over the largest reference magnitude.
  """

  accuracy: Optional[float]
  class_accuracy: Optional[tuple[Optional[float], ...]]
  auc: Optional[float]
  argmax_agreement: Optional[float]
  max_abs_error: float
  relative_error: float


def compare(
  request: ExportRequest, reference_outputs: Array, outputs: Array
) -> Comparison:
  """Compares two sets of outputs.

  Args:
    request: Where the outputs' inputs and labels stand, and what the outputs mean.
    reference_outputs: float [N, values] of the Keras model.
    outputs: float [N, ...] of the file, dequantised; as many values.

  Returns:
    The figures; a NaN output makes both errors NaN, so `error <= limit` fails.

  Raises:
    InputError: No rows, or shapes that do not belong together.
  """
  same_size = outputs.size == reference_outputs.size
  if not len(outputs) or len(outputs) != len(reference_outputs) or not same_size:
    raise InputError(
      f"outputs {list(outputs.shape)} and reference {list(reference_outputs.shape)} "
      "must both be [N, values] with N > 0; give evaluation inputs of the same model"
    )
  outputs = outputs.reshape(reference_outputs.shape)
  labels = request.evaluation_labels
  if labels is not None and labels.shape != outputs.shape[:1]:
    raise InputError(
      f"evaluation labels have shape {list(labels.shape)}; give [{len(outputs)}], one "
      "for each evaluation input"
    )
  quality = None
  if labels is not None:
    quality = request.task.quality(request.evaluation_inputs, outputs, labels)
  agreement: Optional[float] = None
  by_class: Optional[tuple[Optional[float], ...]] = None
  if request.task.has_classes:
    classes = np.argmax(outputs, axis=1)
    if labels is not None:
      by_class = tasks.class_accuracy(classes, labels, outputs.shape[1])
    if outputs.shape[1] > 1:
      agreement = float(np.mean(classes == np.argmax(reference_outputs, axis=1)))
  reference = reference_outputs.astype(np.float64)
  error = float(np.max(np.abs(outputs.astype(np.float64) - reference)))
  return Comparison(
    accuracy=quality and quality.accuracy,
    class_accuracy=by_class,
    auc=quality and quality.auc,
    argmax_agreement=agreement,
    max_abs_error=error,
    relative_error=_ratio(error, float(np.max(np.abs(reference)))),
  )


def _ratio(error: float, magnitude: float) -> float:
  """Returns error / magnitude, where nothing over nothing is no error."""
  if magnitude == 0:
    return 0.0 if error == 0 else float("inf")
  return error / magnitude


def keras_outputs(model: tf.keras.Model, inputs: Array) -> Array:
  """Returns the model's inference outputs [N, values] for float inputs [N, ...].

  Raises:
    InputError: No inputs, or inputs of another shape than the model's.
  """
  wanted = tuple(model.inputs[0].shape)[1:]
  if not len(inputs) or inputs.shape[1:] != wanted:
    raise InputError(
      f"evaluation inputs have shape {list(inputs.shape)}; give "
      f"[N, {', '.join(map(str, wanted))}] with N > 0"
    )
  batches = [
    model(inputs[start : start + _REFERENCE_BATCH], training=False).numpy()
    for start in range(0, len(inputs), _REFERENCE_BATCH)
  ]
  outputs = np.concatenate(batches)
  flat: Array = outputs.reshape(len(outputs), -1)
  return flat
