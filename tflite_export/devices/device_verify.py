"""Checks that a device's file is the model that a run ended with, and trains it rightly.

The file computes no outputs, only sums over a batch, so that these are compared: the
losses, and how many classes are hit, of every class by itself and of all rows.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Optional

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from fedtiny_tff import roc
from fedtiny_tff.arrays import Array
from fedtiny_tff.masked_models import tfmot_masking
from tflite_export import native_output
from tflite_export.artifacts import ExportRequest, VerificationError
from tflite_export.device_training.device_bundle import DeviceBundle, DeviceRequest
from tflite_export.device_training.device_runtime import NO_INPUT, DeviceExamples
from tflite_export.file_format import flatbuffer_model
from tflite_export.runtimes.compare import keras_outputs

# Share of the largest output, as for other float32 files.
_TOLERANCE = 1e-4
# Whatever the run's own rate is: the step must be seen in float32.
_RATE = np.array([0.01], np.float32)

Tensors = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class DeviceFigures:
  """What was measured, fields as in `Artifact`.

  Attributes:
    density: Unpruned share of the prunable weights, as the file took it.
    accuracy: Share of labels hit; None without labels or classes.
    class_accuracy: The same of each class.
    auc: Of the reconstruction error; None where nothing is reconstructed.
    argmax_agreement: Share of rows of the Keras model's class.
    largest_loss_error: Largest difference of a mean loss.
  """

  density: float
  accuracy: Optional[float]
  class_accuracy: Optional[tuple[Optional[float], ...]]
  auc: Optional[float]
  argmax_agreement: Optional[float]
  largest_loss_error: float


def verify(bundle: DeviceBundle, request: ExportRequest) -> DeviceFigures:
  """Checks operators, weights there and back, figures, and a step of training.

  Args:
    bundle: File and plan.
    request: The model that they must be, and the rows to judge it on.

  Raises:
    VerificationError: Saying what is wrong.
  """
  device = request.device
  assert device is not None
  _check_operators(bundle.content)
  weights = final_weights(device, request)
  client = _Client(bundle)
  density = client.set_weights(weights) / max(bundle.plan.model.prunable, 1)
  _check_equal(weights, client.get_weights(), "weights come back changed")
  judged = _Judged(client, request)
  figures = judged.figures(density)
  _check_step(client, bundle, request, weights, judged.labels)
  return figures


def final_weights(device: DeviceRequest, request: ExportRequest) -> Tensors:
  """Returns what `set_weights` takes to hold the model that a run ended with.

  Args:
    device: What devices do in the run.
    request: The model and its masks.
  """
  masked = tfmot_masking.MaskedModel(device.definition)
  masked.copy_from(request.model)
  prunable, dense, mean, variance = (vector.numpy() for vector in masked.read())
  mask = np.concatenate(
    [request.masks[layer.name].reshape(-1) for layer in device.definition.spec.layers]
  )
  return {
    "active_values": prunable[mask],
    "mask": np.packbits(mask),
    "dense": dense,
    "batch_norm_mean": mean,
    "batch_norm_variance": variance,
  }


class _Client:
  """The file in LiteRT, with batches filled up to its size."""

  def __init__(self, bundle: DeviceBundle):
    self._batch_size = bundle.plan.batch_size
    try:
      with native_output.captured_stderr():
        self._interpreter = Interpreter(model_content=bundle.content, num_threads=1)
        self._interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise VerificationError(f"LiteRT does not load the file: {error}") from error

  def call(self, name: str, inputs: Tensors) -> dict[str, Array]:
    try:
      return dict(self._interpreter.get_signature_runner(name)(**inputs))
    except (ValueError, RuntimeError) as error:
      raise VerificationError(f"LiteRT cannot run {name}: {error}") from error

  def set_weights(self, weights: Tensors) -> int:
    """Sets the model; returns how many weights the file found active."""
    return int(self.call("set_weights", weights)["active"][0])

  def get_weights(self) -> dict[str, Array]:
    """Returns the model as it would be sent back, without vectors that are empty."""
    return self.call("get_weights", NO_INPUT)

  def batch(self, inputs: Array, labels: Array) -> dict[str, Array]:
    """Fills a batch up with rows that do not count."""
    rows = DeviceExamples(inputs.astype(np.float32), labels.astype(np.int32))
    return rows.batch(np.arange(len(rows)), self._batch_size)

  def sums(self, inputs: Array, labels: Array, size: int = 0) -> Array:
    """Evaluates rows; returns loss sum and hits of each batch, float64 [batches, 2].

    Args:
      inputs: float [n, ...].
      labels: int [n].
      size: Rows of a batch that count; 0 for as many as there is room for.
    """
    size = size or self._batch_size
    found = []
    for start in range(0, len(labels), size):
      stop = start + size
      batch = self.batch(inputs[start:stop], labels[start:stop])
      result = self.call("evaluate", batch)
      found.append([result["loss_sum"][0], result["correct"][0]])
    return np.array(found, np.float64).reshape(-1, 2)


class _Judged:
  """A client that is compared with the Keras model on the evaluation rows.

  Attributes:
    labels: int [n]; without known ones the Keras model's own classes.
  """

  def __init__(self, client: _Client, request: ExportRequest):
    self._client, self._request = client, request
    self._outputs = keras_outputs(request.model, request.evaluation_inputs)
    self._magnitude = float(np.abs(self._outputs).max())
    self._classes = np.argmax(self._outputs, axis=1)
    known = request.evaluation_labels
    self.labels = self._classes if known is None else known

  def figures(self, density: float) -> DeviceFigures:
    """Compares, and measures.

    Raises:
      VerificationError: Losses or hits are not the Keras model's.
    """
    request, has_classes = self._request, self._request.task.has_classes
    groups = [self._group(rows) for rows in self._rows_by_class()]
    hits = sum(correct for _, correct, _ in groups)
    rows = sum(count for _, _, count in groups)
    known = request.evaluation_labels is not None
    accuracy = hits / rows if has_classes and known else None
    by_class: Optional[tuple[Optional[float], ...]] = None
    if accuracy is not None:
      by_class = tuple(
        correct / count if count else None for _, correct, count in groups
      )
    return DeviceFigures(
      density=density,
      accuracy=accuracy,
      class_accuracy=by_class,
      auc=self._auc() if known and not has_classes else None,
      argmax_agreement=self._agreement() if has_classes else None,
      largest_loss_error=max(error for error, _, _ in groups),
    )

  def _rows_by_class(self) -> Iterator[Array]:
    if not self._request.task.has_classes:
      yield np.arange(len(self.labels))
      return
    for label in range(self._outputs.shape[1]):
      yield np.flatnonzero(self.labels == label)

  def _group(self, rows: Array) -> tuple[float, float, int]:
    """Compares some rows; returns the mean loss's error, the hits and their number."""
    if not len(rows):
      return 0.0, 0.0, 0
    inputs, labels = self._request.evaluation_inputs[rows], self.labels[rows]
    loss, correct = self._client.sums(inputs, labels).sum(axis=0)
    wanted = self._request.task.batch_metrics(
      tf.constant(inputs, tf.float32),
      tf.constant(labels, tf.int64),
      tf.constant(self._outputs[rows]),
    )
    wanted_loss, wanted_hits = float(wanted.loss_sum), float(wanted.correct)
    error = abs(loss - wanted_loss) / len(rows)
    allowed = _TOLERANCE * (self._magnitude + wanted_loss / len(rows))
    # Written so that a NaN fails.
    if not error <= allowed:
      raise VerificationError(
        f"the mean loss of {len(rows)} rows is {loss / len(rows):.6g}, the Keras model's "
        f"{wanted_loss / len(rows):.6g}"
      )
    if abs(correct - wanted_hits) > self._close_calls(rows):
      raise VerificationError(
        f"{correct:.0f} of {len(rows)} rows are hit, {wanted_hits:.0f} by the Keras model"
      )
    return error, float(correct), len(rows)

  def _close_calls(self, rows: Array) -> int:
    """Counts rows whose two largest outputs rounding may turn round."""
    if self._outputs.shape[1] < 2 or not self._request.task.has_classes:
      return 0
    two = np.partition(self._outputs[rows], -2, axis=1)[:, -2:]
    return int(np.sum(two[:, 1] - two[:, 0] <= 2 * _TOLERANCE * self._magnitude))

  def _agreement(self) -> float:
    sums = self._client.sums(self._request.evaluation_inputs, self._classes)
    return float(sums[:, 1].sum() / len(self._classes))

  def _auc(self) -> Optional[float]:
    one_by_one = self._client.sums(self._request.evaluation_inputs, self.labels, size=1)
    return roc.area_under_roc(one_by_one[:, 0], self.labels == 1)


def _check_operators(content: bytes) -> None:
  """Holds a file to TFLite's builtin operators.

  Raises:
    VerificationError: Naming others.
  """
  model = flatbuffer_model.read_model(content)
  custom = [
    (code.customCode or b"").decode(errors="replace")
    for code in model.operatorCodes
    if max(code.builtinCode, code.deprecatedBuiltinCode)
    == schema.BuiltinOperator.CUSTOM
  ]
  if custom:
    raise VerificationError(f"the file needs {', '.join(sorted(custom))}, no builtins")


def _check_equal(wanted: Tensors, found: Tensors, problem: str) -> None:
  for name, values in found.items():
    if not np.array_equal(values, wanted[name]):
      raise VerificationError(f"{problem}: {name}")


def _check_step(
  client: _Client,
  bundle: DeviceBundle,
  request: ExportRequest,
  weights: Tensors,
  labels: Array,
) -> None:
  """Trains a step, and looks whether what is sent of the model is all of it.

  Pruned weights cannot be asked for. Had the step changed one that counts, the model
  would not be that of its active weights alone.

  Raises:
    VerificationError: It is not, or training does nothing, or ends in no numbers.
  """
  size, classes = min(bundle.plan.batch_size, len(labels)), len(request.class_names)
  # Of what a model answers wrongly it always learns something.
  wrong = (labels[:size] + 1) % max(classes, 2)
  batch = client.batch(request.evaluation_inputs[:size], wrong)
  before = client.get_weights()
  client.call("train", {**batch, "learning_rate": _RATE})
  after = client.get_weights()
  if not all(np.isfinite(values).all() for values in after.values()):
    raise VerificationError("a step of training ends in weights that are no numbers")
  names = ("active_values", "dense")
  if classes != 1 and all(np.array_equal(before[name], after[name]) for name in names):
    raise VerificationError("a step of training changes nothing")
  trained = client.call("evaluate", batch)
  again = _Client(bundle)
  again.set_weights({**weights, **after})
  _check_equal(
    trained, again.call("evaluate", batch), "a step of training changes pruned weights"
  )
