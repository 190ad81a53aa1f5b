"""Local training and evaluation of a masked model: what one client computes.

TensorFlow only. The same code trains in a TFF client, pre-trains on the server,
and evaluates on the test split.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from fedtiny_tff import field_types
from fedtiny_tff.data import augmentation
from fedtiny_tff.local_training import batches, optimizers
from fedtiny_tff.masked_models import compute_dtypes, tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.tasks import Metrics


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """How a client trains in a round.

  Attributes:
    optimizer: Optimiser and constants; its state is new in every round.
    local_epochs: Passes over the client's examples, at least 1.
    batch_size: Examples per step, at least 1.
    augmentations: Keys of `augmentation.AUGMENTATIONS`, applied in order.
    compute_dtype: Key of `compute_dtypes.POLICIES`.
    max_local_steps: Most mini-batches of a round, whatever the epochs; 0 for no limit.
  """

  optimizer: optimizers.OptimizerConfig
  local_epochs: int = 5
  batch_size: int = 64
  augmentations: tuple[str, ...] = ()
  compute_dtype: str = "float32"
  max_local_steps: int = 0

  def __post_init__(self) -> None:
    """Refuses numbers and augmentations that cannot be with a ValueError."""
    field_types.check(self)
    if self.max_local_steps < 0:
      raise ValueError(
        f"max_local_steps must be at least 0, got {self.max_local_steps}"
      )
    for name in ("local_epochs", "batch_size"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
    for name in self.augmentations:
      if name not in augmentation.AUGMENTATIONS:
        raise ValueError(
          f"augmentations must be of {', '.join(augmentation.AUGMENTATIONS)}, "
          f"got {name!r}"
        )
    if self.compute_dtype not in compute_dtypes.POLICIES:
      raise ValueError(
        f"compute_dtype must be one of {', '.join(compute_dtypes.POLICIES)}, got "
        f"{self.compute_dtype!r}"
      )


def zero_metrics() -> Metrics:
  """Returns the sums before the first example."""
  return Metrics(*(tf.zeros([], tf.float32) for _ in Metrics._fields))


def add_metrics(left: Metrics, right: Metrics) -> Metrics:
  """Adds sums."""
  return Metrics(*(a + b for a, b in zip(left, right, strict=True)))


# Takes the dense gradient of each prunable kernel, flat, in the spec's order.
GradientStatistics = Callable[[Sequence[tf.Tensor]], NamedTuple]
# Takes weights and such gradients; says the weights and the mask to go on with.
Readjustment = Callable[
  [ModelWeights, Sequence[tf.Tensor]], tuple[ModelWeights, tf.Tensor]
]
# From the prunable kernels, flat, in the spec's order, to what is added to the loss.
Penalty = Callable[[Sequence[tf.Tensor]], tf.Tensor]
# From raw records to model inputs and labels.
Decode = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class LocalTrainer:
  """A masked model with its optimiser, built in the current graph."""

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    config: TrainingConfig,
    decode: Decode,
    masked: Optional[tfmot_masking.MaskedModel] = None,
    penalty: Optional[Penalty] = None,
  ):
    """Creates all variables.

    Args:
      model_definition: The model.
      config: How to train.
      decode: From raw records [n, ...] to inputs [n, ...] and labels int64 [n].
      masked: What to train; None builds it from the definition.
      penalty: Added to the loss of every step; metrics are without it.
    """
    self._masked = masked or tfmot_masking.MaskedModel(
      model_definition, config.compute_dtype
    )
    self._optimizer = optimizers.build_optimizer(config.optimizer)
    self._optimizer.build(self._masked.trainable_variables)
    self._batch_metrics = model_definition.task.batch_metrics
    self._config = config
    self._decode = decode
    self._penalty = penalty

  def batch(
    self, examples: batches.Examples, step: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Gathers, decodes and augments the mini-batch of a step.

    Args:
      examples: Records, and the order and seed of their use.
      step: int32, counted over all epochs.

    Returns:
      Inputs [batch, ...] and labels int64 [batch].
    """
    records = batches.batch_records(examples, step, self._config.batch_size)
    features, labels = self._decode(records)
    seed = tf.random.experimental.stateless_fold_in(examples.seed, step)
    return augmentation.augment(features, self._config.augmentations, seed), labels

  def gradients(
    self, features: tf.Tensor, labels: tf.Tensor
  ) -> tuple[list[tf.Tensor], Metrics]:
    """Returns the mean loss's dense gradients, kernels first, and the metrics.

    Args:
      features: Inputs [batch, ...].
      labels: int64 [batch].
    """
    model = self._masked.model
    with tf.GradientTape() as tape:
      outputs = model(features, training=True)
      metrics = self._batch_metrics(features, labels, outputs)
      loss = metrics.loss_sum / metrics.examples
      if model.losses:
        loss += tf.add_n(model.losses)
      if self._penalty is not None:
        loss += self._penalty(self._flat_kernels(self._masked.kernels))
    return tape.gradient(loss, self._masked.trainable_variables), metrics

  def apply(self, gradients: Sequence[tf.Tensor]) -> None:
    """Masks gradients and takes one optimiser step."""
    variables = self._masked.trainable_variables
    prepared = optimizers.prepare_gradients(
      self._config.optimizer, self._masked.mask_gradients(gradients), variables
    )
    self._optimizer.apply_gradients(zip(prepared, variables, strict=True))

  def start(
    self, weights: ModelWeights, mask: tf.Tensor, learning_rate: tf.Tensor
  ) -> None:
    """Sets weights, mask and learning rate, with a new optimiser state.

    Args:
      weights: Flat vectors.
      mask: bool [prunable weights].
      learning_rate: float32 scalar.
    """
    self._masked.assign(weights, mask)
    # Momenta and step count of an earlier call must not reach this one.
    for variable in self._optimizer.variables:
      variable.assign(tf.zeros_like(variable))
    self._optimizer.learning_rate.assign(learning_rate)

  def number_of_steps(self, examples: batches.Examples) -> tf.Tensor:
    """Returns how many mini-batches a client trains on."""
    steps = batches.number_of_steps(examples.order, self._config.batch_size)
    most = self._config.max_local_steps
    return tf.minimum(steps, most) if most else steps

  def _steps(
    self, examples: batches.Examples, first: int | tf.Tensor, end: tf.Tensor
  ) -> Metrics:
    total = zero_metrics()
    for step in tf.range(first, end):
      gradients, metrics = self.gradients(*self.batch(examples, step))
      self.apply(gradients)
      total = add_metrics(total, metrics)
    return total

  @tf.function
  def train(
    self,
    weights: ModelWeights,
    mask: tf.Tensor,
    examples: batches.Examples,
    learning_rate: tf.Tensor,
  ) -> tuple[ModelWeights, Metrics]:
    """Trains over all epochs.

    Args:
      weights: Start.
      mask: bool [prunable weights].
      examples: Records, and the order and seed of their use.
      learning_rate: float32 scalar.

    Returns:
      Masked weights after the last step, and metrics summed over the steps, each
      measured before its update.
    """
    self.start(weights, mask, learning_rate)
    metrics = self._steps(examples, 0, self.number_of_steps(examples))
    return self._masked.read(), metrics

  @tf.function
  def train_with_statistics(
    self,
    weights: ModelWeights,
    mask: tf.Tensor,
    examples: batches.Examples,
    learning_rate: tf.Tensor,
    statistics: GradientStatistics,
  ) -> tuple[ModelWeights, Metrics, NamedTuple]:
    """Trains as `train` does, and looks at the last step's gradient.

    The statistics are taken from the gradient that the last step computes, before
    its update; gradients of earlier steps are not kept.

    Args:
      weights: Start.
      mask: bool [prunable weights].
      examples: At least one record, and the order and seed of their use.
      learning_rate: float32 scalar.
      statistics: From dense kernel gradients to what is sent.

    Returns:
      Masked weights, summed metrics, the statistics.
    """
    self.start(weights, mask, learning_rate)
    last = self.number_of_steps(examples) - 1
    before = self._steps(examples, 0, last)
    gradients, metrics = self.gradients(*self.batch(examples, last))
    sent = statistics(self._flat_kernels(gradients))
    self.apply(gradients)
    return self._masked.read(), add_metrics(before, metrics), sent

  @tf.function
  def train_observed(
    self,
    weights: ModelWeights,
    mask: tf.Tensor,
    examples: batches.Examples,
    learning_rate: tf.Tensor,
    observe: Callable[[Any, Sequence[tf.Tensor]], Any],
    seen: Any,
  ) -> tuple[ModelWeights, Metrics, Any]:
    """Trains as `train` does, and looks at every step's gradient before its update.

    Args:
      weights: Start.
      mask: bool [prunable weights].
      examples: Records, and the order and seed of their use.
      learning_rate: float32 scalar.
      observe: From what was seen so far, a structure of tensors, and the dense kernel
        gradients, flat, to what is seen now.
      seen: What was seen before the first step.

    Returns:
      Masked weights, summed metrics, what was seen in the end.
    """
    self.start(weights, mask, learning_rate)
    total = zero_metrics()
    for step in tf.range(self.number_of_steps(examples)):
      gradients, metrics = self.gradients(*self.batch(examples, step))
      seen = observe(seen, self._flat_kernels(gradients))
      self.apply(gradients)
      total = add_metrics(total, metrics)
    return self._masked.read(), total, seen

  @tf.function
  def train_readjusted(
    self,
    weights: ModelWeights,
    mask: tf.Tensor,
    examples: batches.Examples,
    learning_rate: tf.Tensor,
    steps_before: tf.Tensor,
    readjust: Readjustment,
  ) -> tuple[ModelWeights, tf.Tensor, Metrics]:
    """Trains as `train` does, but for another mask after some of the steps.

    The optimiser goes on with its state, which is zero where the mask was False; where
    it becomes False, the mask holds the weight at zero, whatever momentum it had.

    Args:
      weights: Start.
      mask: bool [prunable weights].
      examples: At least one record, and the order and seed of their use.
      learning_rate: float32 scalar.
      steps_before: int32, at least 1; steps under the first mask.
      readjust: From masked weights after so many steps, and the dense kernel gradients,
        flat, that the last of these steps computed before its update, to the weights
        and the mask to go on with.

    Returns:
      Masked weights, their mask, summed metrics.
    """
    self.start(weights, mask, learning_rate)
    last = steps_before - 1
    total = self._steps(examples, 0, last)
    gradients, metrics = self.gradients(*self.batch(examples, last))
    self.apply(gradients)
    total = add_metrics(total, metrics)
    changed, new_mask = readjust(self._masked.read(), self._flat_kernels(gradients))
    self._masked.assign(changed, new_mask)
    after = self._steps(examples, steps_before, self.number_of_steps(examples))
    return self._masked.read(), new_mask, add_metrics(total, after)

  def _flat_kernels(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return [tf.reshape(t, [-1]) for t in tensors[: len(self._masked.kernels)]]


class Evaluator:
  """A masked model in inference mode, built in the current graph."""

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    decode: Decode,
    batch_size: int,
    masked: Optional[tfmot_masking.MaskedModel] = None,
  ):
    """Creates all variables.

    Args:
      model_definition: The model.
      decode: From raw records to inputs and labels.
      batch_size: Examples per batch; has no influence on the result.
      masked: What to evaluate; None builds it from the definition.
    """
    self._masked = masked or tfmot_masking.MaskedModel(model_definition)
    self._batch_metrics = model_definition.task.batch_metrics
    self._decode = decode
    self._batch_size = batch_size

  @tf.function
  def evaluate(
    self, weights: ModelWeights, mask: tf.Tensor, records: tf.Tensor
  ) -> Metrics:
    """Sums metrics over all records, with the running BN statistics.

    Args:
      weights: Weights to evaluate.
      mask: bool [prunable weights].
      records: Raw records, [n, ...].
    """
    self._masked.assign(weights, mask)
    examples = batches.in_stored_order(records)
    total = zero_metrics()
    for step in tf.range(batches.number_of_steps(examples.order, self._batch_size)):
      batch = batches.batch_records(examples, step, self._batch_size)
      features, labels = self._decode(batch)
      outputs = self._masked.model(features, training=False)
      total = add_metrics(total, self._batch_metrics(features, labels, outputs))
    return total
