"""SNIP: one mask, by how much the loss changes when a weight is taken away.

"SNIP: Single-shot Network Pruning based on Connection Sensitivity", N. Lee et al.,
ICLR 2019, arXiv 1810.02340.

    L = mean loss of the pre-trained model on the server's public samples
    score of a weight = |dL/dm| = |weight * dL/dweight|, its mask m being a factor
    keep the highest scores of all layers, in steps: `saliency`
    FedAvg of what is left; the mask never moves

The loss is the task's alone, without penalties on weights, as in the authors' code.
Batch norm normalises with the statistics of its mini-batch, because the running ones
are of few steps and of the unpruned model; everything else is in inference mode, so
that nothing is drawn. The paper scores an untrained model once, on one mini-batch.
"""

from typing import cast

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import batch_statistics
from fedtiny_tff.strategies import base, saliency, sparse
from fedtiny_tff.strategies.pruning_config import PruningConfig

# Most samples of a mini-batch; sizes differ by one at most, so that none is left alone.
_BATCH_SIZE = 64


class _Sensitivity:
  """The pre-trained model and the samples that its weights are scored on."""

  def __init__(self, start: base.Pretrained):
    """Builds the model eagerly."""
    self._plain = saliency.PlainModel(start, batch_statistics.make_layer)
    self._prunable = np.asarray(start.weights.prunable, np.float32)
    self._batch_metrics = start.definition.task.batch_metrics
    self._inputs, self._labels = start.public

  def scores(self, mask: Array) -> Array:
    """Returns |dL/dm| of every weight, float64 [prunable weights].

    Args:
      mask: bool [prunable weights].
    """
    active = np.where(mask, self._prunable, np.float32(0))
    self._plain.assign(active)
    samples = len(self._labels)
    batches = -(-samples // _BATCH_SIZE)
    total = np.zeros(len(active), np.float64)
    for chosen in np.array_split(np.arange(samples), batches):
      features = tf.constant(self._inputs[chosen], tf.float32)
      labels = tf.constant(self._labels[chosen], tf.int64)
      total += saliency.flat(self._gradients(features, labels))
    saliencies: Array = np.abs(active * total / samples)
    return saliencies

  @tf.function(reduce_retracing=True)
  def _gradients(self, features: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
    """Returns the gradients of the summed loss, one per prunable kernel."""
    with tf.GradientTape() as tape:
      outputs = self._plain.model(features, training=False)
      loss = self._batch_metrics(features, labels, outputs).loss_sum
    gradients = tape.gradient(
      loss, self._plain.kernels, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return cast("list[tf.Tensor]", gradients)


class SNIP(sparse.SparseStrategy):
  """Pruning by connection sensitivity on the server's public samples."""

  name = "snip"
  citation = "SNIP (arXiv 1810.02340)"

  def check_public(self, samples: int) -> None:
    """Makes sure that there is something to rank weights on.

    Raises:
      InputError: When the server has no public samples.
    """
    if not samples:
      raise InputError(
        f"strategy {self.name} ranks weights by their gradients on public samples, and "
        "the server has none: give it some, by --public_samples_per_class or public="
      )

  def candidate_masks(self, start: base.Pretrained, config: PruningConfig) -> Array:
    """Keeps the weights of largest sensitivity, whatever layer they are in.

    Raises:
      InputError: When the server has no public samples.
    """
    self.check_public(len(start.public[1]))
    spec = start.definition.spec
    scores = _Sensitivity(start).scores
    return saliency.mask_in_steps(spec, config.target_density, scores)[np.newaxis]
