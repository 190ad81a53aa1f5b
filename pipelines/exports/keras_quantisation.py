"""Accuracy kept in int8 for a Keras model that no run of ours has trained.

There are no clients here: labelled examples take their place. Half of them train; the
other half decides, on real int8 files in LiteRT.
"""

import dataclasses
from typing import Any, Optional

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import optimizers, quantisation_training
from pipelines.apps.progress import Progress
from pipelines.runs.quantisation_decision import (
  Figures,
  Quantisation,
  facts_without_figures,
  is_better,
  is_too_much,
  reason,
  shown,
)
from tflite_export.artifacts import ExportRequest
from tflite_export.conversion.convert_quantised import convert_quantised
from tflite_export.conversion.full_integer import full_integer
from tflite_export.runtimes import litert
from tflite_export.runtimes.compare import keras_outputs

# Of which half decides: a point of accuracy is one example then.
LEAST_EXAMPLES = 200


@dataclasses.dataclass(frozen=True)
class RowsQuantisation:
  """How a model is adapted on labelled examples.

  Attributes:
    mode: `auto` (where quantising afterwards costs more than a point), `never`, or
      `always`, to which `public` is the same here.
    epochs: Passes over the half that trains.
    learning_rate: Adam's, positive.
    batch_size: Examples per step.
    seed: Of the halves and of the order.
  """

  mode: str = "auto"
  epochs: int = 10
  learning_rate: float = 1e-3
  batch_size: int = 32
  seed: int = 0


def quantise_on_rows(
  request: ExportRequest, how: RowsQuantisation, progress: Progress
) -> Quantisation:
  """Decides what int8 files are made from.

  Args:
    request: Model, masks and examples; its evaluation inputs and labels are used.
    how: What to do.
    progress: Where progress is shown.

  Raises:
    InputError: When training was demanded and cannot be.
  """
  if how.mode == "never":
    return Quantisation(None, facts_without_figures(how.mode, "Not asked for."))
  labels = request.evaluation_labels
  count = 0 if labels is None else len(labels)
  try:
    if labels is None or count < LEAST_EXAMPLES:
      raise InputError(
        f"quantisation-aware training needs {LEAST_EXAMPLES} labelled examples, got "
        f"{count}; add `y` and rows to --representative_data"
      )
    with progress.stage("export_quantisation", "int8: what quantisation costs"):
      return _decide(request, labels, how, progress)
  except InputError as error:
    if how.mode != "auto":
      raise
    progress.say(f"int8: {error}")
    return Quantisation(None, facts_without_figures(how.mode, str(error)))


def _decide(
  request: ExportRequest, labels: np.ndarray, how: RowsQuantisation, progress: Progress
) -> Quantisation:
  inputs = request.evaluation_inputs
  order = seeds.generator(how.seed, "quantisation rows").permutation(len(labels))
  training, deciding = np.array_split(order, 2)

  def measured(outputs: np.ndarray) -> Figures:
    found = request.task.quality(inputs[deciding], outputs, labels[deciding])
    return Figures(found.accuracy, found.loss)

  # The very file that is shipped otherwise.
  afterwards = full_integer(request)
  figures = {
    "float": measured(keras_outputs(request.model, inputs[deciding])),
    "post_training": measured(litert.run(afterwards, inputs[deciding])),
  }
  model: Optional[Any] = None
  if how.mode != "auto" or is_too_much(figures["float"], figures["post_training"]):
    progress.say(f"int8: training on {len(training)} examples")
    trained = quantisation_training.fine_tune(
      request.model,
      request.masks,
      request.task,
      inputs[training],
      labels[training],
      quantisation_training.FineTuning(
        optimizers.OptimizerConfig("adam", how.learning_rate),
        how.epochs,
        how.batch_size,
        how.seed,
      ),
    )
    content = convert_quantised(trained, request.masks)
    figures["quantisation_aware"] = measured(litert.run(content, inputs[deciding]))
    if is_better(figures["quantisation_aware"], figures["post_training"]):
      model = trained
  told = reason(figures, len(deciding), model is not None)
  progress.say(f"int8: {told}")
  was_trained = "quantisation_aware" in figures
  facts = {
    **facts_without_figures(how.mode, told),
    "chosen": "post_training" if model is None else "quantisation_aware",
    "figure": "accuracy" if request.task.has_classes else "loss",
    **{name: shown(pair) for name, pair in figures.items()},
    "examples": len(deciding),
    "public_examples": len(training) if was_trained else 0,
    "learning_rate": how.learning_rate if was_trained else None,
  }
  return Quantisation(model, facts)
