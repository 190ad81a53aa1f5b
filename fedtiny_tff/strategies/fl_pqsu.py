"""FL-PQSU: one mask, by the magnitude of the pre-trained weights.

"Accelerating Federated Learning for IoT in Big Data Analytics With Pruning,
Quantization and Selective Updating", W. Xu et al., IEEE Access 9, 2021,
doi 10.1109/ACCESS.2021.3063291; there is no arXiv version.

    in each layer, once: keep the weights of largest magnitude
    FedAvg of what is left; the mask never moves

This is the first of its three stages, in which the server prunes the pre-trained model
before it is sent. Quantisation and the choice of updates to send say nothing about
masks.

The authors' code keeps in each layer as many filters as a table says, those of largest
L1 norm; and so ranks are per layer here too, and `expected_counts` is the table. What
is ranked here are single weights, or with channel blocks groups of them by their L1
norm, so that densities are those of the other methods. Pruning in steps would end in
the same mask: magnitudes stay what they are.
"""

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.strategies import base, saliency, sparse
from fedtiny_tff.strategies.pruning_config import PruningConfig


class FLPQSU(sparse.SparseStrategy):
  """Magnitude pruning on the server, before the first round."""

  name = "fl_pqsu"
  citation = "FL-PQSU (doi 10.1109/ACCESS.2021.3063291)"

  def candidate_masks(self, start: base.Pretrained, config: PruningConfig) -> Array:
    """Keeps in each layer the largest L1 norms, as many as `expected_counts` says."""
    spec = start.definition.spec
    magnitudes = np.nan_to_num(np.abs(np.asarray(start.weights.prunable)), nan=0.0)
    counts = self.expected_counts(spec, config)
    norms = saliency.group_scores(magnitudes, spec)
    return saliency.keep_by_layer(norms, spec, counts)[np.newaxis]
