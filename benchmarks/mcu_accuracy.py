"""Accuracy in TFLM of MLPerf Tiny's four models, trained with a tenth of the weights.

What is compared is the same network (`mcu_training`) in float32 (Keras), as a dense int8
file and as an encoded one; of the autoencoder the area under the ROC curve. The int8
files are made as a user's are: channels equalised, calibrated on training images held
out, with `--calibration_ranges=percentile --calibration_percentile=99.99`, and where that
costs more than a point on them, trained with quantisation. Test images are for the final
figures alone.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import cifar10, results_file
from benchmarks.mcu_training import CASES, Case, Data, Images, read_images, train
from fedtiny_tff import tasks
from fedtiny_tff.version import VERSION
from pipelines.apps.progress import Progress
from pipelines.exports import keras_quantisation
from tflite_export.artifacts import ExportRequest
from tflite_export.conversion import channel_equalisation, float_activations
from tflite_export.conversion.convert import float_file
from tflite_export.microcontrollers import mcu, mcu_verify
from tflite_export.provenance import Provenance
from tflite_export.runtimes import compare, tflm

_MOST_HELD_OUT = 2_000
_CALIBRATION_ROWS = 500
_PERCENTILE = 99.99
_EXPORT_ROWS = 32
_TEST_SAMPLES = 1_000


def request(
  case: Case,
  model: tf.keras.Model,
  masks: dict[str, np.ndarray],
  held_out: Images,
  progress: Progress,
) -> ExportRequest:
  """Returns what the exporter is given, int8's model decided as `pipelines.export` does.

  Args:
    case: What the model is for.
    model: As `train` returns it; its channels are equalised in place.
    masks: Likewise.
    held_out: Training images that the model has not seen, with the case's labels.
    progress: Where the decision is said.
  """
  channel_equalisation.equalise(model)
  rows = case.features(tf.constant(held_out.images[:_MOST_HELD_OUT])).numpy()
  names = tuple(str(label) for label in sorted(set(case.label_of.values())))
  made = ExportRequest(
    model=model,
    masks=masks,
    task=case.task,
    calibration=float_activations.percentile_ranges(
      float_file(model), rows[:_CALIBRATION_ROWS], _PERCENTILE
    ),
    evaluation_inputs=rows,
    evaluation_labels=held_out.labels[: len(rows)],
    class_names=names,
    provenance=Provenance(
      case.model, VERSION, "CC0-1.0", "Magnitude.", {}, "Held out.", "Held out."
    ),
  )
  quantised = keras_quantisation.quantise_on_rows(
    made, keras_quantisation.RowsQuantisation(), progress
  )
  return dataclasses.replace(
    made,
    evaluation_inputs=rows[:_EXPORT_ROWS],
    evaluation_labels=None,
    quantisation_aware_model=quantised.model,
  )


def _chance(case: Case, labels: np.ndarray) -> float:
  """Returns what the best constant answer reaches."""
  if not case.task.has_classes:
    return 0.5
  return float(np.bincount(labels).max() / len(labels))


def measure(case: Case, data: Data, progress: Progress) -> dict[str, Any]:
  """Trains, exports, and compares float, dense int8 and encoded on test images."""
  progress.say(f"{case.model}: training")
  model, masks = train(case, case.chosen(data.training, with_anomalies=False))
  made = request(
    case, model, masks, case.chosen(data.held_out, with_anomalies=False), progress
  )
  progress.say(f"{case.model}: export and TFLM")
  files = mcu.export_mcu(made).files
  test = case.chosen(data.test, with_anomalies=True)
  inputs = case.features(tf.constant(test.images[:_TEST_SAMPLES])).numpy()
  labels = test.labels[: len(inputs)]
  paths = {"int8": mcu_verify.DENSE_PATH, "decode": mcu_verify.MODEL_PATH}
  runs = {name: tflm.run(files[path], inputs) for name, path in paths.items()}
  outputs: dict[str, np.ndarray] = {"float": compare.keras_outputs(model, inputs)}
  outputs |= {name: run.outputs for name, run in runs.items()}
  figures = {
    name: _figure(case.task.quality(inputs, each, labels))
    for name, each in outputs.items()
  }
  kept = sum(np.count_nonzero(model.get_layer(name).kernel) for name in masks)
  return {
    "model": case.model,
    "figure": "accuracy" if case.task.has_classes else "auc",
    "samples": len(inputs),
    "chance": _chance(case, labels),
    **figures,
    "drop_points": 100 * (figures["float"] - figures["decode"]),
    "identical": bool(
      np.array_equal(runs["int8"].stored_outputs, runs["decode"].stored_outputs)
    ),
    "trained_with_quantisation": made.quantisation_aware_model is not None,
    "prunable_weights": sum(mask.size for mask in masks.values()),
    "weights_left": int(kept),
    "dense_bytes": len(files[mcu_verify.DENSE_PATH]),
    "bytes": len(files[mcu_verify.MODEL_PATH]),
  }


def _figure(quality: tasks.Quality) -> float:
  figure = quality.auc if quality.accuracy is None else quality.accuracy
  assert figure is not None
  return figure


def main() -> None:
  """Measures every model."""
  cifar10.require()
  data, progress = read_images(), Progress()
  results_file.publish(
    "mcu_accuracy", [measure(case, data, progress) for case in CASES]
  )


if __name__ == "__main__":
  main()
