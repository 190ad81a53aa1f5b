"""What sparse methods share: magnitude masks to start from, and sparse training's cost."""

from collections.abc import Sequence

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.sparsity import candidates, schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events


class SparseStrategy(base.Strategy):
  """A single mask, by the magnitude of the pre-trained weights, that never moves."""

  is_sparse = True

  def candidate_masks(self, start: base.Pretrained, config: PruningConfig) -> Array:
    """Keeps in each layer the largest weights, as many as `expected_counts` says."""
    spec = start.definition.spec
    counts = self.expected_counts(spec, config)
    prunable = np.asarray(start.weights.prunable)
    return candidates.magnitude_mask_by_layer(prunable, spec, counts)[np.newaxis]

  def round_cost(
    self,
    profile: model_profile.ModelProfile,
    workload: device_cost.Workload,
    active: Sequence[int],
    blocks: Sequence[Sequence[int]],
  ) -> device_cost.RoundCost:
    """Charges values, gradients and indices of the active weights."""
    del blocks
    return cost.sparse_cost(profile, workload, active)


class AdjustingStrategy(SparseStrategy):
  """A mask that moves in one block every few rounds, as many weights as the cosine says.

  Clients keep the largest gradients of the block, of one layer at a time.
  """

  def plan_events(
    self,
    spec: spec_lib.PrunableSpec,
    active_counts: Sequence[int],
    config: PruningConfig,
  ) -> tuple[schedules.AdjustmentEvent, ...]:
    """Adjusts blocks in turn, or the whole model where that is one block."""
    return regular_events(spec, active_counts, config)

  def round_cost(
    self,
    profile: model_profile.ModelProfile,
    workload: device_cost.Workload,
    active: Sequence[int],
    blocks: Sequence[Sequence[int]],
  ) -> device_cost.RoundCost:
    """Charges sparse training, and top-a pairs of the costliest block.

    A device that takes the largest gradients layer by layer never holds all of them.
    """
    return cost.top_gradient_cost(profile, workload, active, blocks)
