"""Local training and evaluation of a masked model: what one client computes.

TensorFlow only. The same code trains in a TFF client, pre-trains on the server,
and evaluates on the test split.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from fedtiny_tff import batches, compute_dtypes, optimizers, tfmot_masking
from fedtiny_tff.data import augmentation
from fedtiny_tff.models import definition
from fedtiny_tff.tasks import Metrics
from fedtiny_tff.tfmot_masking import ModelWeights


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """How a client trains in a round.

  Attributes:
    optimizer: Optimiser and constants; its state is new in every round.
    local_epochs: Passes over the client's examples, at least 1.
    batch_size: Examples per step, at least 1.
    augmentations: Keys of `augmentation.AUGMENTATIONS`, applied in order.
    compute_dtype: Key of `compute_dtypes.POLICIES`.
  """

  optimizer: optimizers.OptimizerConfig
  local_epochs: int = 5
  batch_size: int = 64
  augmentations: tuple[str, ...] = ()
  compute_dtype: str = "float32"

  def __post_init__(self) -> None:
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
  ):
    """Creates all variables.

    Args:
      model_definition: The model.
      config: How to train.
      decode: From raw records [n, ...] to inputs [n, ...] and labels int64 [n].
      masked: What to train; None builds it from the definition.
    """
    self._masked = masked or tfmot_masking.MaskedModel(
      model_definition, config.compute_dtype
    )
    self._optimizer = optimizers.build_optimizer(config.optimizer)
    self._optimizer.build(self._masked.trainable_variables)
    self._batch_metrics = model_definition.task.batch_metrics
    self._config = config
    self._decode = decode

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

  def _steps(self, examples: batches.Examples, count: tf.Tensor) -> Metrics:
    total = zero_metrics()
    for step in tf.range(count):
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
    count = batches.number_of_steps(examples.order, self._config.batch_size)
    metrics = self._steps(examples, count)
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
    last = batches.number_of_steps(examples.order, self._config.batch_size) - 1
    before = self._steps(examples, last)
    gradients, metrics = self.gradients(*self.batch(examples, last))
    kernels = gradients[: len(self._masked.kernels)]
    sent = statistics([tf.reshape(g, [-1]) for g in kernels])
    self.apply(gradients)
    return self._masked.read(), add_metrics(before, metrics), sent


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
