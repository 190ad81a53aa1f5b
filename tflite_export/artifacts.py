"""What an exporter is given and what it gives back.

These types are the contract between `pipelines/` and the targets: one
`ExportRequest` in, one `ExportBundle` out, no file touched in between.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Optional

from fedtiny_tff.arrays import Array
from tflite_export.mcu_options import McuOptions
from tflite_export.provenance import Provenance

if TYPE_CHECKING:  # TensorFlow takes seconds to import and command lines read this.
  import tensorflow as tf

  from fedtiny_tff import tasks
  from tflite_export.device_training.device_bundle import DeviceRequest
  from tflite_export.file_format.activation_ranges import ActivationRanges


class VerificationError(Exception):
  """An exported file is not what it must be; it may not be shipped.

  Raised for a file that does not load in its runtime, computes something else
  than the Keras model, or holds a masked weight that is not zero.
  """


class BudgetError(VerificationError):
  """A file needs more memory than there is for it; the message holds the figures."""


@dataclasses.dataclass(frozen=True)
class ExportRequest:
  """A trained sparse model and the data its export needs.

  Attributes:
    model: Plain Keras model (no pruning wrappers) with float inputs
      [None, ...] and outputs [None, values]; pruned weights are zero.
    masks: Layer name to bool array in the layout of that layer's Keras kernel;
      False marks a pruned weight. Layers not named are dense.
    task: What the outputs mean.
    calibration: What sets the activation ranges of full-integer formats: float32
      [N, ...], preprocessed as in training, never test data; or the ranges themselves.
    evaluation_inputs: float32 [M, ...], preprocessed; outputs of every file are
      compared with the model's on them.
    evaluation_labels: int [M], or None when unknown (accuracies are then None). For
      a task without classes, 1 for an anomaly and 0 for a normal example.
    class_names: One name per output, in order; of no use to a task without classes.
    provenance: Where the model comes from, for what is told about it.
    quantisation_aware_model: What `int8` files are made from in place of `model`, as
      `convert_quantised` takes it; None to quantise `model` afterwards.
    mcu: What is chosen about the files for microcontrollers.
    device: What devices do in the model's run; None without a run, or where no file
      for it is asked for.
  """

  model: "tf.keras.Model"
  masks: Mapping[str, Array]
  task: "tasks.Task"
  calibration: "Array | ActivationRanges"
  evaluation_inputs: Array
  evaluation_labels: Optional[Array]
  class_names: tuple[str, ...]
  provenance: Provenance
  quantisation_aware_model: "Optional[tf.keras.Model]" = None
  mcu: McuOptions = dataclasses.field(default_factory=McuOptions)
  device: "Optional[DeviceRequest]" = None


@dataclasses.dataclass(frozen=True)
class Artifact:
  """What is known about one exported `.tflite` file: a row of `report.json`.

  Attributes:
    path: Where the file belongs, relative to the export directory.
    target: Key of `TARGETS`.
    format: One of `fp32_sparse fp16_sparse int8_sparse dynamic_range_sparse
      int8_decode` or a `_dense` twin of these; for microcontrollers also the
      formats that `McuSettings.name` tells, with `_decode` and `_dense`; and
      `fp32_training`, which is no inference file: devices train it.
    bytes: Size of the file.
    dense_bytes: Size of its dense twin (its own size for a dense file).
    density: Non-zero share of the masked layers' weights, read from the file; of a file
      that trains, as it was set.
    accuracy: Share of evaluation labels hit, or None without labels or classes.
    class_accuracy: The same of each class, None for one without an example; None
      without labels or classes.
    auc: Area under the ROC curve of the reconstruction error, anomalies being
      positive; None where nothing is reconstructed or no anomaly is known.
    argmax_agreement: Share of evaluation inputs on which the file's class is
      the Keras model's; None without classes, and of a single output.
    max_abs_error: Largest difference of any (dequantised) output from the Keras
      model's; of a file that trains, of the mean loss of any class or of all rows.
    runtime: Name and version of the runtime that computed the figures.
    arena_bytes: Working memory TFLM needs, or None for other runtimes.
    note: What its user must know besides, a sentence; None if there is nothing.
  """

  path: str
  target: str
  format: str
  bytes: int
  dense_bytes: int
  density: float
  accuracy: Optional[float]
  class_accuracy: Optional[tuple[Optional[float], ...]]
  auc: Optional[float]
  argmax_agreement: Optional[float]
  max_abs_error: float
  runtime: str
  arena_bytes: Optional[int]
  note: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class ExportBundle:
  """Verified files, ready to be written.

  Attributes:
    files: Path relative to the export directory, with `/`, to content.
    artifacts: One entry per `.tflite` of the model in `files`.
    output_range: Least and largest output of the Keras model on the evaluation inputs;
      None where nobody compares with it.
    recommended: Path of the file to ship first; None where nothing is recommended.
  """

  files: Mapping[str, bytes]
  artifacts: tuple[Artifact, ...]
  output_range: Optional[tuple[float, float]] = None
  recommended: Optional[str] = None


Exporter = Callable[[ExportRequest], ExportBundle]
