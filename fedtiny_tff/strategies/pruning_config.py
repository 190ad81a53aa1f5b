"""What a run's configuration says to strategies, and the events that it means for most."""

import dataclasses
from collections.abc import Collection, Sequence

from fedtiny_tff import field_types
from fedtiny_tff.sparsity import densities, schedules
from fedtiny_tff.sparsity import spec as spec_lib


@dataclasses.dataclass(frozen=True)
class PruningConfig:
  """The part of a run's configuration that strategies read.

  Attributes:
    target_density: Active prunable weights over all prunable weights.
    rounds: Rounds of the run.
    adjust_every_rounds: Rounds between mask adjustments.
    adjust_until_round: No adjustment at or after this round.
    pool_size: Candidates; 0 takes the paper's size for the density.
    layer_densities: Key of `densities.LAYER_DENSITIES`.
    granularity: Key of `schedules.GRANULARITIES`.
    adjust_order: "backward" (output to input) or "forward".
    seed: Seed of the run.
  """

  target_density: float
  rounds: int
  adjust_every_rounds: int = 10
  adjust_until_round: int = 100
  pool_size: int = 0
  layer_densities: str = "noisy"
  granularity: str = "block"
  adjust_order: str = "backward"
  seed: int = 0

  def __post_init__(self) -> None:
    """Refuses densities and rounds that cannot be with a ValueError."""
    field_types.check(self)
    if not 0.0 < self.target_density <= 1.0:
      raise ValueError(f"target_density must be in (0, 1], got {self.target_density}")
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
      "layer_densities": densities.LAYER_DENSITIES,
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


def check_entire(spec: spec_lib.PrunableSpec, method: str) -> None:
  """Holds a spec to the granularity "entire".

  Raises:
    ValueError: When not all layers are in one block, in their order.
  """
  if spec.blocks != (tuple(range(len(spec.layers))),):
    raise ValueError(
      f"{method} adjusts the whole model at once, got blocks {spec.blocks}"
    )
