"""What a device trains on in a round, and the fields of what it pays for that."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Workload:
  """What a device trains on in a round.

  Attributes:
    local_samples: Examples of the device.
    local_epochs: Passes over them.
    batch_size: Examples per step.
    max_local_steps: Most mini-batches of a round; 0 for no limit.
  """

  local_samples: int
  local_epochs: int
  batch_size: int
  max_local_steps: int = 0

  @property
  def steps(self) -> int:
    """Mini-batches of a round."""
    steps = self.local_epochs * -(-self.local_samples // self.batch_size)
    return min(steps, self.max_local_steps) if self.max_local_steps else steps

  @property
  def largest_batch(self) -> int:
    """Examples of the largest mini-batch: no more than there are."""
    return min(self.batch_size, self.local_samples)

  @property
  def examples(self) -> int:
    """Examples that a round trains on, counted as often as they are used."""
    # A pass ends with what is left, be it less than a batch.
    a_pass = -(-self.local_samples // self.batch_size)
    passes, steps = divmod(self.steps, max(a_pass, 1))
    return self.local_samples * passes + min(
      self.local_samples, steps * self.batch_size
    )


@dataclasses.dataclass(frozen=True)
class MemoryCost:
  """What a device holds at the peak of an adjustment round, without activations.

  Attributes:
    parameter_bytes: Values of the weights it trains.
    gradient_bytes: Their gradients.
    index_bytes: Positions of the active weights.
    buffer_bytes: What an adjustment collects besides.
  """

  parameter_bytes: int
  gradient_bytes: int
  index_bytes: int = 0
  buffer_bytes: int = 0

  @property
  def total_bytes(self) -> int:
    """All of it."""
    return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class RoundCost:
  """What one device pays.

  Attributes:
    parameters: Trainable parameters of the dense model.
    macs: Multiply-accumulates of a dense forward pass of one example.
    forward_flops: FLOPs of a (sparse) forward pass of one example.
    training_flops_per_round: FLOPs of an ordinary round.
    adjust_round_flops: FLOPs per trained example in an adjustment round.
    memory: Peak of an adjustment round.
    activation_bytes: Activations kept for the backward pass of the largest mini-batch.
  """

  parameters: int
  macs: int
  forward_flops: float
  training_flops_per_round: float
  adjust_round_flops: float
  memory: MemoryCost
  activation_bytes: int

  @property
  def memory_bytes(self) -> int:
    """Peak of an adjustment round, without activations."""
    return self.memory.total_bytes

  def figures(self) -> dict[str, Any]:
    """Returns every figure by name, `memory_bytes` with its parts, for a report."""
    own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    del own["memory"]
    return own | {"memory_bytes": self.memory_bytes} | dataclasses.asdict(self.memory)
