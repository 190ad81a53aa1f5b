"""Which candidate a run starts from, once clients have scored them all."""

from typing import NamedTuple

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights


class Choice(NamedTuple):
  """What the scores say.

  Attributes:
    chosen: Number of the candidate of least loss.
    losses: float64 [candidates], mean over the held-out examples.
    accuracies: float64 [candidates], share of hits among them.
    weights: The pre-trained weights with the candidate's batch-norm statistics, under
      which it was scored; not masked.
  """

  chosen: int
  losses: Array
  accuracies: Array
  weights: ModelWeights


def choose(result: selection.SelectionResult, weights: ModelWeights) -> Choice:
  """Takes the candidate of least loss, the first among equals.

  Args:
    result: What the server learnt, of at least one client.
    weights: Pre-trained, as NumPy arrays.
  """
  examples = np.maximum(np.asarray(result.metrics.examples, np.float64), 1.0)
  losses = np.asarray(result.metrics.loss_sum, np.float64) / examples
  accuracies = np.asarray(result.metrics.correct, np.float64) / examples
  chosen = int(np.argmin(losses))
  adapted = weights._replace(
    batch_norm_mean=np.asarray(result.statistics.mean)[chosen],
    batch_norm_variance=np.asarray(result.statistics.variance)[chosen],
  )
  return Choice(chosen, losses, accuracies, adapted)
