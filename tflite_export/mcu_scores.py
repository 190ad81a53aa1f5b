"""Anomaly scores of normal examples: from where on firmware may call one odd."""

import dataclasses
from typing import Any, Optional

import numpy as np

from fedtiny_tff.arrays import Array
from tflite_export import flatbuffer_model, quantisation, tflm
from tflite_export.artifacts import ExportRequest

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
  model = flatbuffer_model.read_model(model_bytes)
  graph = model.subgraphs[0]
  source: Any = graph.tensors[graph.inputs[0]]
  numbers = source.quantization
  if numbers is None or numbers.scale is None:
    return samples.astype(np.float64)
  dtype = np.dtype(f"int{8 * flatbuffer_model.item_bytes(source)}")
  scale, zero_point = float(numbers.scale[0]), int(numbers.zeroPoint[0])
  stored = quantisation.quantise(samples, scale, zero_point, dtype)
  return scale * (stored.astype(np.float64) - zero_point)
