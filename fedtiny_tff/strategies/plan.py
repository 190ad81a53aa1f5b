"""What a federated pruning run is to do, for those who drive it from Python."""

import dataclasses
from collections.abc import Collection

from fedtiny_tff.local_training import learning_rates, optimizers
from fedtiny_tff.local_training.training import TrainingConfig
from fedtiny_tff.model_structure import pruning_scope
from fedtiny_tff.sparsity import candidates
from fedtiny_tff.strategies.pruning_config import PruningConfig

# Each is a mask of the model, and each client scores all.
MOST_CANDIDATES = 1000


@dataclasses.dataclass(frozen=True)
class FedTinyPlan(PruningConfig):
  """Everything that is decided before the first round.

  A plan is a `PruningConfig`, with how clients train and what of the model is pruned.
  It fails when it is made, with the value found.

  Attributes:
    training: Clients' optimiser, epochs and batch size.
    learning_rate_schedule: Key of `learning_rates.LEARNING_RATE_SCHEDULES`, from the
      optimiser's rate over all rounds.
    blocks: Names of the prunable layers that are adjusted together, input to output;
      empty for three groups of equal length. `granularity` may group them otherwise.
    channel_block: Neighbouring output channels that are kept and dropped together.
    prune_for: Key of `pruning_scope.PRUNE_FOR`: "any" layer, or those that "xnnpack"
      skips zeros in.
    adaptive_selection: Whether candidates are scored under batch-norm statistics of the
      clients (the paper); otherwise under those that the model came with.
  """

  training: TrainingConfig = dataclasses.field(
    default_factory=lambda: TrainingConfig(optimizers.OptimizerConfig())
  )
  learning_rate_schedule: str = "constant"
  blocks: tuple[tuple[str, ...], ...] = ()
  channel_block: int = 1
  prune_for: str = "any"
  adaptive_selection: bool = True

  def __post_init__(self) -> None:
    """Refuses training and choices that cannot be with a ValueError."""
    super().__post_init__()
    if not isinstance(self.training, TrainingConfig):
      raise ValueError(f"training must be a TrainingConfig, got {self.training!r:.80}")
    allowed: dict[str, Collection[str]] = {
      "learning_rate_schedule": learning_rates.LEARNING_RATE_SCHEDULES,
      "prune_for": pruning_scope.PRUNE_FOR,
    }
    for name, choices in allowed.items():
      if getattr(self, name) not in choices:
        raise ValueError(
          f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
        )
    pool_size = self.pool_size or candidates.default_pool_size(self.target_density)
    if pool_size > MOST_CANDIDATES:
      raise ValueError(
        f"pool_size must be at most {MOST_CANDIDATES}, got {pool_size}"
        + ("" if self.pool_size else ", the paper's for this target_density; set it")
      )
    if self.channel_block < 1:
      raise ValueError(f"channel_block must be at least 1, got {self.channel_block}")
    if any(isinstance(block, str) for block in self.blocks):
      raise ValueError(f"blocks must be tuples of layer names, got {self.blocks!r:.80}")
    # Lists are as good to write, and a frozen plan should not change.
    object.__setattr__(self, "blocks", tuple(tuple(block) for block in self.blocks))

  def learning_rate(self, round_index: int) -> float:
    """Returns the clients' learning rate in a round, from 0."""
    return learning_rates.learning_rate(
      self.learning_rate_schedule,
      self.training.optimizer.learning_rate,
      round_index,
      self.rounds,
    )
