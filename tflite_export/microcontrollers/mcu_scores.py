"""Anomaly scores of normal examples: from where on firmware may call one odd."""

import dataclasses
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from tflite_export.artifacts import ExportRequest
from tflite_export.file_format import flatbuffer_model, model_tensors
from tflite_export.runtimes import quantisation, tflm

PERCENTILES = (95, 99)


@dataclasses.dataclass(frozen=True)
class Scores:
  """How a file scores calibration samples; a score is a mean squared difference.

  Attributes:
    samples: How many there were.
    percentiles: (percentage, the score that so many of them do not exceed), ascending.
    source: Where the samples come from, a sentence.
  """

  samples: int
  percentiles: tuple[tuple[int, float], ...]
  source: str


def scores(model_bytes: bytes, request: ExportRequest) -> Optional[Scores]:
  """Scores the calibration samples as firmware does: with the file's own integers.

  They are of the training split. Those that are evaluated on as well are left out: what
  is chosen by them could not be judged by them any more.

  Args:
    model_bytes: The file for TFLM.
    request: What it was made from.

  Returns:
    None for a model with classes, where there are no samples, or too few: to say what 95
    of a hundred do takes 20.
  """
  given = request.calibration
  if request.task.has_classes or not isinstance(given, np.ndarray):
    return None
  judged = {row.tobytes() for row in request.evaluation_inputs}
  is_free = np.array([row.tobytes() not in judged for row in given], bool)
  samples = given[is_free]
  known = [each for each in PERCENTILES if len(samples) * (100 - each) >= 100]
  if not known:
    return None
  found = np.percentile(_errors(model_bytes, samples), known)
  return Scores(
    len(samples),
    tuple((each, float(score)) for each, score in zip(known, found, strict=True)),
    request.provenance.calibration,
  )


def _errors(model_bytes: bytes, samples: Array) -> Array:
  """Returns float64 [n], the mean squared difference of outputs and stored inputs."""
  outputs = tflm.run(model_bytes, samples).outputs.astype(np.float64)
  inputs = _as_stored(model_bytes, samples).reshape(len(samples), -1)
  errors = outputs.reshape(len(samples), -1) - inputs
  scores: Array = np.square(errors).mean(axis=1)
  return scores


def _as_stored(model_bytes: bytes, samples: Array) -> Array:
  """Returns what is left of inputs in the file's own numbers."""
  (source,), _ = model_tensors.tensor_facts(flatbuffer_model.read_model(model_bytes))
  if not source.scale:
    return samples.astype(np.float64)
  scale, zero_point = source.scale[0], source.zero_point[0]
  stored = quantisation.quantise(samples, scale, zero_point, np.dtype(source.dtype))
  return scale * (stored.astype(np.float64) - zero_point)
