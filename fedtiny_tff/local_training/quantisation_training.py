"""Training and evaluation of a model as it will be in int8; and fine-tuning on rows.

TensorFlow only. The same code works in a TFF client and on the server's own samples.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds, tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import batches, optimizers, training
from fedtiny_tff.masked_models import tfmot_quantisation
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.masked_models.tfmot_quantisation import QuantisedPlan, Ranges
from fedtiny_tff.model_structure import definition
from fedtiny_tff.sparsity import spec as spec_lib

_OBSERVED_BATCH = 256


class QuantisedWeights(NamedTuple):
  """Everything that a quantised model is: NumPy arrays or tensors.

  Attributes:
    weights: The float weights beneath, flat vectors.
    ranges: Of the activations.
  """

  weights: ModelWeights
  ranges: Ranges


class QuantisedTrainer(training.LocalTrainer):
  """A quantised model with its optimiser, built in the current graph."""

  def __init__(
    self, plan: QuantisedPlan, config: training.TrainingConfig, decode: training.Decode
  ):
    """Creates all variables.

    Args:
      plan: The model.
      config: How to train; computed in float32 whatever it says, because rounding is
        to be the only error.
      decode: From raw records [n, ...] to inputs [n, ...] and labels int64 [n].
    """
    self._quantised = tfmot_quantisation.QuantisedModel(plan)
    super().__init__(plan.definition, config, decode, self._quantised)

  def apply(self, gradients: Sequence[tf.Tensor]) -> None:
    """Takes one optimiser step, after which pruned weights are exactly zero."""
    super().apply(gradients)
    self._quantised.enforce_masks()

  @tf.function
  def train_quantised(
    self,
    start: QuantisedWeights,
    mask: tf.Tensor,
    examples: batches.Examples,
    learning_rate: tf.Tensor,
  ) -> tuple[QuantisedWeights, tasks.Metrics]:
    """Trains over all epochs.

    Args:
      start: Weights and ranges.
      mask: bool [prunable weights].
      examples: Records, and the order and seed of their use.
      learning_rate: float32 scalar.

    Returns:
      Masked weights and moved ranges after the last step, and metrics summed over the
      steps, each measured before its update.
    """
    self._quantised.assign_ranges(start.ranges)
    trained, metrics = self.train(start.weights, mask, examples, learning_rate)
    return QuantisedWeights(trained, self._quantised.read_ranges()), metrics


class QuantisedEvaluator(training.Evaluator):
  """A quantised model in inference mode, built in the current graph."""

  def __init__(self, plan: QuantisedPlan, decode: training.Decode, batch_size: int):
    """Creates all variables.

    Args:
      plan: The model.
      decode: From raw records to inputs and labels.
      batch_size: Examples per batch; has no influence on the result.
    """
    self._quantised = tfmot_quantisation.QuantisedModel(plan)
    super().__init__(plan.definition, decode, batch_size, self._quantised)

  @tf.function
  def evaluate_quantised(
    self, quantised: QuantisedWeights, mask: tf.Tensor, records: tf.Tensor
  ) -> tasks.Metrics:
    """Sums metrics over all records, weights and activations being rounded.

    Args:
      quantised: What to evaluate.
      mask: bool [prunable weights].
      records: Raw records, [n, ...].
    """
    self._quantised.assign_ranges(quantised.ranges)
    metrics = self.evaluate(quantised.weights, mask, records)
    return cast("tasks.Metrics", metrics)

  @tf.function
  def observe(
    self, weights: ModelWeights, mask: tf.Tensor, records: tf.Tensor
  ) -> Ranges:
    """Finds what every activation is on some records before anything is rounded.

    Args:
      weights: Weights of the model.
      mask: bool [prunable weights].
      records: Raw records, [n, ...]; none give ranges of 0 to 0.
    """
    self._quantised.assign(weights, mask)
    self._quantised.assign_ranges(tfmot_quantisation.no_ranges(self._quantised.plan))
    examples = batches.in_stored_order(records)
    for step in tf.range(batches.number_of_steps(examples.order, self._batch_size)):
      batch = batches.batch_records(examples, step, self._batch_size)
      self._quantised.observe(self._decode(batch)[0])
    return self._quantised.read_ranges()


def finished_model(
  plan: QuantisedPlan, quantised: QuantisedWeights, mask: Array
) -> tf.keras.Model:
  """Returns the Keras model that `tflite_export.conversion.convert_quantised` takes, eagerly.

  Args:
    plan: The model.
    quantised: Its weights and ranges.
    mask: bool [prunable weights].
  """
  model = tfmot_quantisation.QuantisedModel(plan)
  model.assign(
    ModelWeights(*(tf.constant(np.asarray(v)) for v in quantised.weights)),
    tf.constant(np.asarray(mask, bool)),
  )
  model.assign_ranges(Ranges(*(tf.constant(np.asarray(v)) for v in quantised.ranges)))
  return tfmot_quantisation.export_model(model)


def weights_of(plan: QuantisedPlan, model: tf.keras.Model) -> ModelWeights:
  """Reads the flat vectors of a plain Keras model, eagerly; NumPy arrays.

  Args:
    plan: Of the same layers.
    model: Pruned weights are zero.
  """
  holder = tfmot_quantisation.QuantisedModel(plan)
  holder.copy_from(model)
  # Nothing is masked here: what the model holds is what is read.
  for mask in holder.masks:
    mask.assign(tf.ones_like(mask))
  return ModelWeights(*(vector.numpy() for vector in holder.read()))


@dataclasses.dataclass(frozen=True)
class FineTuning:
  """How a model is fine-tuned on rows.

  Attributes:
    optimizer: Optimiser and constants.
    epochs: Passes over the rows; 0 only observes ranges.
    batch_size: Rows per step.
    seed: Of the order of the rows.
  """

  optimizer: optimizers.OptimizerConfig
  epochs: int
  batch_size: int = 32
  seed: int = 0


def fine_tune(
  model: tf.keras.Model,
  masks: Mapping[str, Array],
  task: tasks.Task,
  inputs: Array,
  labels: Array,
  how: FineTuning,
) -> tf.keras.Model:
  """Adapts a plain Keras model to int8 on labelled rows, without clients.

  Args:
    model: Functional, float32, one input and one output.
    masks: Layer name to bool array in the shape of its kernel; False is pruned.
    task: What the outputs mean.
    inputs: float32 [N, ...], N at least 1, preprocessed; they also set the ranges that
      training starts from.
    labels: int [N]; of no use to a task without classes.
    how: Epochs, rate, seed.

  Returns:
    The Keras model that `tflite_export.conversion.convert_quantised` takes.

  Raises:
    InputError: Naming the layer that cannot be quantised, or what does not fit.
  """
  if not len(inputs) or len(labels) != len(inputs):
    raise InputError(
      f"quantisation-aware training: {len(inputs)} rows and {len(labels)} labels; give "
      "as many labels as rows, and at least one"
    )
  model_definition, mask = as_definition(model, masks, task)
  plan = tfmot_quantisation.plan_quantisation(model_definition)
  weights = weights_of(plan, model)
  rows, answers = tf.constant(inputs, tf.float32), tf.constant(labels, tf.int64)

  def decode(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.gather(rows, places), tf.gather(answers, places)

  places, kept = tf.range(len(inputs)), tf.constant(mask)
  observer = QuantisedEvaluator(plan, decode, _OBSERVED_BATCH)
  start = QuantisedWeights(weights, observer.observe(weights, kept, places))
  if not how.epochs:
    return finished_model(plan, start, mask)
  return finished_model(plan, _trained(plan, how, start, kept, places, decode), mask)


def _trained(
  plan: QuantisedPlan,
  how: FineTuning,
  start: QuantisedWeights,
  mask: tf.Tensor,
  places: tf.Tensor,
  decode: training.Decode,
) -> QuantisedWeights:
  config = training.TrainingConfig(how.optimizer, how.epochs, how.batch_size)
  trainer = QuantisedTrainer(plan, config, decode)
  seed = seeds.generator(how.seed, "quantisation").integers(0, 2**31 - 1, 2)
  examples = batches.shuffled(places, how.epochs, tf.constant(seed, tf.int32))
  rate = tf.constant(how.optimizer.learning_rate, tf.float32)
  trained, _ = trainer.train_quantised(start, mask, examples, rate)
  return cast("QuantisedWeights", trained)


def as_definition(
  model: tf.keras.Model, masks: Mapping[str, Array], task: tasks.Task
) -> tuple[definition.ModelDefinition, Array]:
  """Describes a Keras model and its masks as a run does.

  Args:
    model: Functional.
    masks: As for `fine_tune`.
    task: What the outputs mean.

  Returns:
    The definition, all masked layers in one block; and the mask, bool [masked weights].

  Raises:
    InputError: When nothing is masked, or a mask is not of its kernel's shape.
  """
  config = model.get_config()
  shapes = {layer.name: _kernel_shape(layer) for layer in model.layers}
  for name, mask in masks.items():
    if shapes.get(name) != mask.shape or mask.dtype != bool:
      raise InputError(
        f"mask of layer {name!r} is {mask.dtype}{list(mask.shape)}, its kernel "
        f"{shapes.get(name)}; give kernel != 0"
      )
  named = [layer.name for layer in model.layers if layer.name in masks]
  if not named:
    raise InputError(
      f"model {model.name!r} has no masked layer; give a mask, all True where nothing is "
      "pruned"
    )
  layers = tuple(spec_lib.LayerSpec(name, masks[name].shape) for name in named)
  spec = spec_lib.PrunableSpec(layers, (tuple(range(len(layers))),))

  def build() -> tf.keras.Model:
    return tf.keras.Model.from_config(copy.deepcopy(config))

  flat = np.concatenate([masks[name].reshape(-1) for name in named])
  quickly = definition.without_learning_phase(build)
  return definition.ModelDefinition(model.name, quickly, spec, task), flat


def _kernel_shape(layer: tf.keras.layers.Layer) -> tuple[int, ...]:
  found = [getattr(layer, name, None) for name in tfmot_quantisation.KERNELS]
  kernel = next((k for k in found if k is not None), None)
  return () if kernel is None else tuple(kernel.shape)
