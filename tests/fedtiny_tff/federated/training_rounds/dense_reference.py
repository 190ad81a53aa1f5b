"""A plain reference of a round, written anew for the tests to compare with.

Dense arrays, unwrapped Keras models and NumPy; no TFF, no tfmot, no packing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff.federated import states
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.definition import ModelDefinition
from tests.fedtiny_tff.federated.support import Part


class PlainModel:
  """A Keras model as its builder makes it, set from flat vectors."""

  def __init__(self, model_definition: ModelDefinition):
    """Builds the model eagerly."""
    self.model = model_definition.build()
    names = [layer.name for layer in model_definition.spec.layers]
    self.kernels = [self.model.get_layer(name).kernel for name in names]
    kernel_ids = {id(kernel) for kernel in self.kernels}
    self.dense = [v for v in self.model.trainable_variables if id(v) not in kernel_ids]
    self.norms = [
      layer
      for layer in self.model.layers
      if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]
    self.means = [norm.moving_mean for norm in self.norms]
    self.variances = [norm.moving_variance for norm in self.norms]

  def set(self, weights: ModelWeights) -> None:
    """Assigns all variables."""
    groups = (self.kernels, self.dense, self.means, self.variances)
    for variables, vector in zip(groups, weights, strict=True):
      start = 0
      for variable in variables:
        size = variable.shape.num_elements()
        variable.assign(np.reshape(vector[start : start + size], variable.shape))
        start += size

  def get(self) -> ModelWeights:
    """Reads all variables."""
    groups = (self.kernels, self.dense, self.means, self.variances)
    return ModelWeights(*(_flat(variables) for variables in groups))

  def norm_inputs(self, features: np.ndarray) -> list[np.ndarray]:
    """Runs one training-mode batch; gives [values, channels] per batch norm."""
    probe = tf.keras.Model(self.model.inputs, [norm.input for norm in self.norms])
    outputs = tf.nest.flatten(probe(features, training=True))
    return [np.reshape(x.numpy(), [-1, x.shape[-1]]) for x in outputs]

  def metrics(self, part: Part) -> tuple[float, int, int]:
    """Evaluates in inference mode: sum of losses, hits, examples."""
    logits = self.model(part.features, training=False).numpy().astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    chosen = shifted[np.arange(len(part.labels)), part.labels]
    hits = int(np.sum(logits.argmax(axis=1) == part.labels))
    return float(np.sum(log_sum - chosen)), hits, len(part.labels)


def _flat(variables: Sequence) -> np.ndarray:
  arrays = [np.reshape(np.asarray(v), [-1]) for v in variables]
  return np.concatenate([np.zeros([0], np.float32), *arrays])


class ClientResult(NamedTuple):
  """What the reference client ends with.

  Attributes:
    weights: Trained weights.
    gradient: Last mini-batch's dense gradient of all kernels, flat.
    loss_sum: Sum of the losses before each update.
  """

  weights: ModelWeights
  gradient: np.ndarray
  loss_sum: float


def train_reference(
  plain: PlainModel,
  state: states.ServerState,
  part: Part,
  batches: Iterable[np.ndarray],
  rate: float,
  momentum: float,
) -> ClientResult:
  """Trains one client with plain masked SGD, everything dense.

  Args:
    plain: The model; its variables are overwritten.
    state: Where to start.
    part: The client's examples.
    batches: Indices of each mini-batch.
    rate: Learning rate.
    momentum: As in Keras: v = momentum * v - rate * g, w += v.
  """
  plain.set(state.weights)
  variables = [*plain.kernels, *plain.dense]
  masks = [np.ones(v.shape, np.float32) for v in variables]
  start = 0
  for i, kernel in enumerate(plain.kernels):
    size = kernel.shape.num_elements()
    layer_mask = state.mask[start : start + size].astype(np.float32)
    masks[i] = layer_mask.reshape(kernel.shape)
    start += size
  velocities = [np.zeros(v.shape, np.float32) for v in variables]
  loss_sum, gradient = 0.0, np.zeros([0], np.float32)
  for indices in batches:
    with tf.GradientTape() as tape:
      logits = plain.model(part.features[indices], training=True)
      losses = tf.keras.losses.sparse_categorical_crossentropy(
        part.labels[indices], logits, from_logits=True
      )
      loss = tf.reduce_mean(losses)
    gradients = [g.numpy() for g in tape.gradient(loss, variables)]
    loss_sum += float(tf.reduce_sum(losses))
    gradient = _flat(gradients[: len(plain.kernels)])
    for i, variable in enumerate(variables):
      masked = gradients[i] * masks[i]
      velocities[i] = momentum * velocities[i] - rate * masked
      variable.assign_add(velocities[i])
  return ClientResult(plain.get(), gradient, loss_sum)


def average_reference(
  weights: Sequence[ModelWeights], counts: Sequence[int]
) -> ModelWeights:
  """Averages by examples in float64; BN variances keep the spread of the means."""
  shares = np.asarray(counts, np.float64) / np.sum(counts)

  def mean(vectors) -> np.ndarray:
    stacked = np.stack([np.asarray(v, np.float64) for v in vectors])
    return np.tensordot(shares, stacked, axes=1)

  norm_mean = mean([w.batch_norm_mean for w in weights])
  within = mean([w.batch_norm_variance for w in weights])
  between = mean([(w.batch_norm_mean - norm_mean) ** 2 for w in weights])
  return ModelWeights(
    mean([w.prunable for w in weights]),
    mean([w.dense for w in weights]),
    norm_mean,
    within + between,
  )


def largest(scores: np.ndarray, count: int) -> np.ndarray:
  """Returns the indices of the `count` largest scores, the first among equals."""
  return np.argsort(-scores, kind="stable")[:count]


def adjust_reference(
  definition_: ModelDefinition,
  state: states.ServerState,
  gradients: Sequence[np.ndarray],
  counts: Sequence[int],
  block: int,
  moved: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
  """Drops and grows in one block, from every client's dense gradient.

  Args:
    definition_: The model.
    state: After averaging; the mask of before.
    gradients: Per client, float [prunable weights].
    counts: Per client, its examples.
    block: Which block.
    moved: Weights to move in each of its layers.

  Returns:
    New prunable weights and mask.
  """
  prunable, mask = np.array(state.weights.prunable), np.array(state.mask)
  spec = definition_.spec
  for layer, count in zip(spec.blocks[block], moved, strict=True):
    where = np.arange(spec.size)[spec.slice(layer)]
    active, pruned = where[state.mask[where]], where[~state.mask[where]]
    mean = np.zeros([spec.size])
    for gradient, examples in zip(gradients, counts, strict=True):
      sent = pruned[largest(np.abs(gradient[pruned]), count)]
      mean[sent] += examples / np.sum(counts) * gradient[sent]
    kept = active[largest(np.abs(prunable[active]), len(active) - count)]
    grown = pruned[largest(np.abs(mean[pruned]), count)]
    mask[where] = False
    mask[kept] = mask[grown] = True
    prunable[np.setdiff1d(where, kept)] = 0.0
  return prunable, mask
