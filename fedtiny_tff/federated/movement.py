"""What a round did to the mask, held against its plan."""

from typing import NamedTuple, Optional

import numpy as np

from fedtiny_tff.federated import states
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base


class Movement(NamedTuple):
  """How many weights a round moved.

  Attributes:
    dropped: Of each layer of the model that was pre-trained.
    grown: Likewise.
  """

  dropped: tuple[int, ...]
  grown: tuple[int, ...]


def count_moved(
  strategy: base.Strategy,
  spec: spec_lib.PrunableSpec,
  before: states.ServerState,
  after: states.ServerState,
  event: Optional[schedules.AdjustmentEvent],
) -> Movement:
  """Counts dropped and grown weights, and holds every layer to the planned density.

  Args:
    strategy: The pruning method.
    spec: Of the model that was pre-trained.
    before: State before the round.
    after: State after it.
    event: The round's adjustment, if it has one.

  Raises:
    RuntimeError: When a layer has another number of weights than planned.
  """
  old, new = (
    strategy.kept_weights(np.asarray(state.mask), state.memory)
    for state in (before, after)
  )
  removed = event.removed(spec) if event else (0,) * len(spec.layers)
  planned = np.subtract(spec.active_counts(old), removed)
  if spec.active_counts(new) != tuple(planned):
    raise RuntimeError(
      f"round {int(before.round_index)} left other densities than planned; this is a "
      "defect"
    )
  return Movement(spec.active_counts(old & ~new), spec.active_counts(new & ~old))
