"""What a pruning method may decide; the defaults are dense FedAvg.

A round is always the same: clients train the masked model, the server averages.
A strategy says which masks the run starts from, when masks are adjusted, what
clients send for it, and how the server moves the mask.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from fedtiny_tff import densities, schedules
from fedtiny_tff import spec as spec_lib


@dataclasses.dataclass(frozen=True)
class PruningConfig:
  """The part of a run's configuration that strategies read.

  Attributes:
    target_density: Active prunable weights over all prunable weights.
    rounds: Rounds of the run.
    adjust_every_rounds: Rounds between mask adjustments.
    adjust_until_round: No adjustment at or after this round.
    pool_size: Candidates; 0 takes the paper's size for the density.
    layer_counts: Key of `densities.LAYER_COUNTS`.
    granularity: Key of `schedules.GRANULARITIES`.
    adjust_order: "backward" (output to input) or "forward".
    seed: Seed of the run.
  """

  target_density: float
  rounds: int
  adjust_every_rounds: int = 10
  adjust_until_round: int = 100
  pool_size: int = 0
  layer_counts: str = "noisy"
  granularity: str = "block"
  adjust_order: str = "backward"
  seed: int = 0

  def __post_init__(self) -> None:
    if not 0.0 < self.target_density <= 1.0:
      raise ValueError(f"target density must be in (0, 1], got {self.target_density}")
    if self.rounds < 1:
      raise ValueError(f"rounds must be at least 1, got {self.rounds}")
    if self.adjust_every_rounds < 1:
      raise ValueError(
        f"adjust_every_rounds must be at least 1, got {self.adjust_every_rounds}"
      )
    if self.adjust_until_round < 0 or self.pool_size < 0:
      raise ValueError(
        "adjust_until_round and pool_size must be at least 0, got "
        f"{self.adjust_until_round} and {self.pool_size}"
      )
    allowed: dict[str, Collection[str]] = {
      "layer_counts": densities.LAYER_COUNTS,
      "granularity": schedules.GRANULARITIES,
      "adjust_order": ("backward", "forward"),
    }
    for name, choices in allowed.items():
      if getattr(self, name) not in choices:
        raise ValueError(
          f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
        )


def regular_events(
  spec: spec_lib.PrunableSpec, active_counts: Sequence[int], config: PruningConfig
) -> tuple[schedules.AdjustmentEvent, ...]:
  """Plans one block every few rounds, with cosine counts.

  Args:
    spec: Prunable layers and blocks.
    active_counts: Unpruned weights per layer, in whole groups.
    config: Rounds and order of the adjustments.
  """
  return schedules.plan_events(
    spec,
    active_counts,
    rounds=config.rounds,
    every_rounds=config.adjust_every_rounds,
    until_round=config.adjust_until_round,
    backward=config.adjust_order == "backward",
  )


class Adjustment(Protocol):
  """How one block's mask is adjusted; built per block, used in graphs.

  Clients turn gradients into `Statistics` (any NamedTuple of tensors of static
  shape); the server sums them, weighted, into an accumulator and applies it.
  """

  def client_statistics(
    self, gradients: Sequence[tf.Tensor], mask: tf.Tensor, counts: tf.Tensor
  ) -> NamedTuple:
    """What a client sends: from flat kernel gradients, mask and event counts."""

  def zero(self) -> Any:
    """Returns the empty accumulator, a structure of tensors."""

  def accumulate(self, total: Any, statistics: Any, weight: tf.Tensor) -> Any:
    """Adds one client's statistics times its weight."""

  def apply(
    self, prunable: tf.Tensor, mask: tf.Tensor, mean: Any, counts: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves the mask; `mean` is the accumulator over the sum of weights."""


class Strategy:
  """Dense FedAvg: nothing is pruned, nothing is adjusted.

  Attributes:
    name: Key of the registry, and of what a round costs in `cost.COSTS`.
    citation: What the method is called in a sentence, and where it comes from.
    is_sparse: Whether the final model is pruned.
  """

  name = "fedavg"
  citation = "dense FedAvg (arXiv 1602.05629)"
  is_sparse = False

  def candidate_masks(
    self, prunable: np.ndarray, spec: spec_lib.PrunableSpec, config: PruningConfig
  ) -> np.ndarray:
    """Returns the masks to choose from, bool [candidates, prunable weights].

    Args:
      prunable: Pre-trained weights, float32 [prunable weights].
      spec: Layout of the vector.
      config: Density, pool and seed.
    """
    del prunable, config
    return np.ones([1, spec.size], dtype=bool)

  def plan_events(
    self,
    spec: spec_lib.PrunableSpec,
    active_counts: Sequence[int],
    config: PruningConfig,
  ) -> tuple[schedules.AdjustmentEvent, ...]:
    """Returns every mask adjustment of the run, before the first round."""
    del spec, active_counts, config
    return ()

  def adjustment(
    self, spec: spec_lib.PrunableSpec, block: int, capacities: Sequence[int]
  ) -> Adjustment:
    """Returns how a block is adjusted.

    Args:
      spec: Layout and blocks.
      block: Index of the block.
      capacities: Largest count of any event in each layer of the block.

    Raises:
      ValueError: For strategies that never adjust.
    """
    raise ValueError(f"strategy {self.name!r} never adjusts masks, asked for {block}")
