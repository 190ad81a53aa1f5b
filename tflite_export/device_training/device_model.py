"""What a device computes in a federated round, as functions of static shapes.

    set_weights    the round's model, in its sparse form; the optimiser begins anew
    train          one step on one batch
    top_gradients  what a mask adjustment wants to know of a batch, one function a block
    get_weights    the model as it is sent back, without vectors that are empty
    bn_statistics  sums over the inputs of every batch norm, for adaptive selection
    score          a batch's loss under batch-norm statistics that are given
    evaluate       the same under those that the model holds

All batches have one size, but for `bn_statistics`, which takes a row more. Rows that are
filled up have the label -1 and count nowhere.
The model is that of `tfmot_masking`, so that masks are applied as they are in simulation.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import optimizers
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from fedtiny_tff.sparsity import packing
from tflite_export.device_training import losses, moment_norm
from tflite_export.device_training.builtin_gradients import builtin_gradients

Named = dict[str, tf.Tensor]
# From dense gradients, flat, one per prunable layer of the model, the mask, bool [n],
# and how many groups of weights move in each layer of the block, int32.
Statistics = Callable[[Sequence[tf.Tensor], tf.Tensor, tf.Tensor], Named]


@dataclasses.dataclass(frozen=True)
class DeviceBlock:
  """What an adjustment of one block asks of a device.

  Attributes:
    layers: Number of its layers.
    statistics: What is made of a batch's gradients.
  """

  layers: int
  statistics: Statistics


@dataclasses.dataclass(frozen=True)
class DeviceTraining:
  """How a device trains.

  Attributes:
    optimizer: Optimiser and constants; learning rates come with each step.
    batch_size: Rows of every batch, at least 2.
    active: Active weights of every mask that is set.
    blocks: By block; None where it is never adjusted.
  """

  optimizer: optimizers.OptimizerConfig
  batch_size: int
  active: int
  blocks: tuple[Optional[DeviceBlock], ...] = ()

  def __post_init__(self) -> None:
    """Refuses sizes that cannot be trained with a ValueError."""
    if self.batch_size < 2:
      raise ValueError(f"batch_size must be at least 2, got {self.batch_size}")
    if self.active < 0:
      raise ValueError(f"active must be at least 0, got {self.active}")


class DeviceModel:
  """A masked model with its optimiser, and the functions above.

  Attributes:
    variables: All that the functions use.
    sizes: Lengths of the model's flat vectors.
    input_shape: Shape of one example.
    classes: Number of outputs that are a class each; 0 where there are no classes.
  """

  def __init__(
    self, model_definition: definition.ModelDefinition, training: DeviceTraining
  ):
    """Creates all variables, eagerly.

    Args:
      model_definition: The model.
      training: How it is trained.

    Raises:
      InputError: When a layer cannot be trained on a device.
    """
    self._task = model_definition.task
    self._training = training
    self._masked = tfmot_masking.MaskedModel(
      dataclasses.replace(
        model_definition,
        build=lambda: moment_norm.with_moment_norm(model_definition.build()),
      )
    )
    self._optimizer = optimizers.build_optimizer(training.optimizer)
    self._optimizer.build(self._masked.trainable_variables)
    rate = self._optimizer.learning_rate
    self.variables = (
      *self._masked.model.variables, *self._optimizer.variables, rate
    )  # fmt: skip
    self.input_shape = tuple(self._masked.model.input_shape[1:])
    outputs = int(self._masked.model.output_shape[-1])
    self.classes = outputs if self._task.has_classes else 0
    self.sizes = tfmot_masking.ModelWeights(
      *(int(vector.shape[0]) for vector in self._masked.read())
    )

  def functions(self) -> Mapping[str, tf.types.experimental.ConcreteFunction]:
    """Returns every function by its name, traced for its shapes.

    Raises:
      InputError: When the model cannot be trained on a device.
    """
    x, y = self._batch_specs(self._training.batch_size)
    rate = _vector("learning_rate", 1)
    mean = _vector("batch_norm_mean", self.sizes.batch_norm_mean)
    variance = _vector("batch_norm_variance", self.sizes.batch_norm_variance)
    found = {
      "set_weights": self._traced(
        self._set_weights,
        _vector("active_values", self._training.active),
        _vector("mask", packing.packed_size_bytes(self.sizes.prunable), tf.uint8),
        _vector("dense", self.sizes.dense),
        mean,
        variance,
      ),
      # Android's interpreter runs no signature without an input.
      "get_weights": self._traced(self._get_weights, _vector("unused", 1)),
      "train": self._traced(self._train, x, y, rate),
      "evaluate": self._traced(self._evaluate, x, y),
    }
    if self._masked.batch_norm_layers:
      # A last example that is alone joins the batch before it, as it has no spread.
      one_more = self._batch_specs(self._training.batch_size + 1)
      found["bn_statistics"] = self._traced(self._bn_statistics, *one_more)
      found["score"] = self._traced(self._score, x, y, mean, variance)
    for number, block in enumerate(self._training.blocks):
      if block is None:
        continue
      found[f"top_gradients_{number}"] = self._traced(
        _for_block(self._top_gradients, block),
        x,
        y,
        _vector("counts", block.layers, tf.int32),
      )
    return found

  def _batch_specs(self, rows: int) -> tuple[tf.TensorSpec, tf.TensorSpec]:
    shape = (rows, *self.input_shape)
    return tf.TensorSpec(shape, tf.float32, "x"), _vector("y", rows, tf.int32)

  def _traced(
    self, function: Callable[..., Named], *specs: tf.TensorSpec
  ) -> tf.types.experimental.ConcreteFunction:
    try:
      return tf.function(function, input_signature=specs).get_concrete_function()
    except Exception as error:
      # AutoGraph makes pages of what is raised in functions that it has converted.
      refused = _input_error(error)
      if refused is None:
        raise
      raise refused from error

  def _set_weights(
    self,
    active_values: tf.Tensor,
    mask: tf.Tensor,
    dense: tf.Tensor,
    batch_norm_mean: tf.Tensor,
    batch_norm_variance: tf.Tensor,
  ) -> Named:
    marks = _unpacked(mask, self.sizes.prunable)
    # Position 0 stands for what is pruned.
    numbers = tf.cumsum(marks) * marks
    prunable = tf.gather(tf.concat([tf.zeros([1]), active_values], 0), numbers)
    weights = tfmot_masking.ModelWeights(
      prunable, dense, batch_norm_mean, batch_norm_variance
    )
    self._masked.assign(weights, marks > 0)
    for variable in self._optimizer.variables:
      variable.assign(tf.zeros_like(variable))
    return {"active": tf.reshape(tf.reduce_sum(marks), [1])}

  def _get_weights(self, unused: tf.Tensor) -> Named:
    del unused
    weights = self._masked.read()
    places = tf.reshape(tf.where(self._mask()), [self._training.active])
    return _without_empty({
      "active_values": tf.gather(weights.prunable, tf.cast(places, tf.int32)),
      "dense": weights.dense,
      "batch_norm_mean": weights.batch_norm_mean,
      "batch_norm_variance": weights.batch_norm_variance,
    })  # fmt: skip

  def _mask(self) -> tf.Tensor:
    flat = [tf.reshape(mask, [-1]) for mask in self._masked.masks]
    return tf.concat(flat, 0) > 0.0

  def _gradients(
    self, x: tf.Tensor, y: tf.Tensor, follows: bool
  ) -> tuple[list[tf.Tensor], tasks.Metrics]:
    """Returns the mean loss's dense gradients, kernels first, and the metrics."""
    rows = _counting(y)
    way = moment_norm.Pass(rows, follows)
    with builtin_gradients(), moment_norm.passing(way):
      outputs = self._masked.model(x, training=True)
      metrics = losses.batch_metrics(self._task, x, y, outputs, rows)
      loss = metrics.loss_sum / tf.maximum(metrics.examples, 1.0)
      if added := self._masked.model.losses:
        _check_weights_only(added, x)
        loss += tf.add_n(added)
    return tf.gradients(loss, list(self._masked.trainable_variables)), metrics

  def _train(self, x: tf.Tensor, y: tf.Tensor, learning_rate: tf.Tensor) -> Named:
    gradients, metrics = self._gradients(x, y, follows=True)
    variables = self._masked.trainable_variables
    prepared = optimizers.prepare_gradients(
      self._training.optimizer, self._masked.mask_gradients(gradients), variables
    )
    self._optimizer.learning_rate.assign(learning_rate[0])
    self._optimizer.apply_gradients(zip(prepared, variables, strict=True))
    return _named(metrics)

  def _top_gradients(
    self, x: tf.Tensor, y: tf.Tensor, counts: tf.Tensor, block: DeviceBlock
  ) -> Named:
    gradients, _ = self._gradients(x, y, follows=False)
    flat = [tf.reshape(g, [-1]) for g in gradients[: len(self._masked.kernels)]]
    return _without_empty(block.statistics(flat, self._mask(), counts))

  def _bn_statistics(self, x: tf.Tensor, y: tf.Tensor) -> Named:
    """Sums (input - running mean) and its square over all values of each channel."""
    rows = _counting(y)
    way = moment_norm.Pass(rows, follows=False, measures=True)
    with moment_norm.passing(way):
      self._masked.model(x, training=False)
    counts, firsts, seconds = [], [], []
    for layer in self._masked.batch_norm_layers:
      centred = way.inputs[layer.name] - layer.moving_mean
      count, first = moment_norm.sums(centred, rows)
      counts.append(tf.fill([first.shape[0]], count))
      firsts.append(first)
      seconds.append(moment_norm.sums(tf.square(centred), rows)[1])
    return {
      "count": tf.concat(counts, 0),
      "first": tf.concat(firsts, 0),
      "second": tf.concat(seconds, 0),
    }

  def _evaluate(self, x: tf.Tensor, y: tf.Tensor) -> Named:
    outputs = self._masked.model(x, training=False)
    return _named(losses.batch_metrics(self._task, x, y, outputs, _counting(y)))

  def _score(
    self,
    x: tf.Tensor,
    y: tf.Tensor,
    batch_norm_mean: tf.Tensor,
    batch_norm_variance: tf.Tensor,
  ) -> Named:
    held = self._masked.read()
    self._masked.assign_batch_norm(batch_norm_mean, batch_norm_variance)
    found = self._evaluate(x, y)
    with tf.control_dependencies(list(found.values())):
      self._masked.assign_batch_norm(held.batch_norm_mean, held.batch_norm_variance)
    return found


def _input_error(error: Optional[BaseException]) -> Optional[InputError]:
  """Returns the error that another was made of."""
  while error is not None and not isinstance(error, InputError):
    error = error.__context__
  return error


def _vector(name: str, length: int, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
  # Never a scalar: such inputs crash LiteRT on ARM64.
  return tf.TensorSpec([length], dtype, name)


def _check_weights_only(added: Sequence[tf.Tensor], x: tf.Tensor) -> None:
  """Refuses losses that a model adds of a batch, whose filled-up rows would count.

  Raises:
    InputError: When one is of the batch.
  """
  if tf.gradients(added, x)[0] is not None:
    raise InputError(
      "the model cannot be trained on a device: it adds a loss of its activations, to "
      "which rows without an example would add; leave out activity_regularizer and "
      "add_loss, or regularise weights"
    )


def _for_block(
  function: Callable[..., Named], block: DeviceBlock
) -> Callable[..., Named]:
  def of_block(x: tf.Tensor, y: tf.Tensor, counts: tf.Tensor) -> Named:
    return function(x, y, counts, block)

  return of_block


def _without_empty(found: Named) -> Named:
  # LiteRT cannot hand out what is empty.
  return {name: each for name, each in found.items() if each.shape.num_elements()}


def _counting(labels: tf.Tensor) -> tf.Tensor:
  return tf.cast(labels >= 0, tf.float32)


def _named(metrics: tasks.Metrics) -> Named:
  return {name: tf.reshape(value, [1]) for name, value in metrics._asdict().items()}


def _unpacked(packed: tf.Tensor, size: int) -> tf.Tensor:
  """Unpacks bits, most significant first, uint8 [ceil(size / 8)], into int32 [size]."""
  powers = tf.constant(2 ** np.arange(7, -1, -1), tf.int32)
  digits = tf.math.floordiv(tf.cast(packed, tf.int32)[:, tf.newaxis], powers)
  return tf.reshape(tf.math.floormod(digits, 2), [-1])[:size]
