"""The candidate of least mean loss is taken, with the statistics it was scored under."""

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.federated.adaptive_selection import choice, selection
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from tests.fedtiny_tff.support import floats


def test_the_first_of_least_loss():
  weights = ModelWeights(floats([1, 2]), floats([3]), floats([0]), floats([1]))
  result = selection.SelectionResult(
    tasks.Metrics(floats([6, 2, 2]), floats([1, 2, 4]), floats([4, 4, 4])),
    selection.BatchNormStatistics(floats([[5], [6], [7]]), floats([[2], [3], [4]])),
    np.float32(2),
  )
  found = choice.choose(result, weights)
  assert found.chosen == 1
  np.testing.assert_array_equal(found.losses, [1.5, 0.5, 0.5])
  np.testing.assert_array_equal(found.accuracies, [0.25, 0.5, 1.0])
  assert (found.weights.batch_norm_mean, found.weights.batch_norm_variance) == (
    [6],
    [3],
  )
  np.testing.assert_array_equal(found.weights.prunable, weights.prunable)
