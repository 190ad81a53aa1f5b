"""When masks are adjusted, in which block, and how many weights move.

Everything here is decided in Python, in float64, before the first round.
Source: FedTiny (arXiv 2212.01977), progressive pruning.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from fedtiny_tff.sparsity import spec as spec_lib

# Share of a layer's active weights that moves at the first event, the largest.
LARGEST_MOVED_SHARE = 0.3


@dataclasses.dataclass(frozen=True)
class AdjustmentEvent:
  """One mask adjustment.

  Attributes:
    round_index: Round (from 0) whose clients send statistics.
    block: Index into `PrunableSpec.blocks`.
    counts: What moves in each layer of the block, in the block's order: groups of
      weights, which are single weights without channel blocks.
    grows: Whether as many weights come as go; else those that go are gone for good.
  """

  round_index: int
  block: int
  counts: tuple[int, ...]
  grows: bool = True

  def removed(self, spec: spec_lib.PrunableSpec) -> tuple[int, ...]:
    """Returns by how many weights it shrinks each layer of the model."""
    by_layer = [0] * len(spec.layers)
    if not self.grows:
      for layer, count in zip(spec.blocks[self.block], self.counts, strict=True):
        by_layer[layer] = count * spec.layers[layer].channel_block
    return tuple(by_layer)


def adjustment_count(round_index: int, until_round: int, active: int, size: int) -> int:
  """Returns how many of a layer's weights, or groups of them, move at an event.

  ceil(0.15 * (1 + cos(pi * r / r_stop)) * active), at most the number of pruned
  weights and at most active - 1 (the local epochs cancel out of t / (r_stop E)).

  Args:
    round_index: Round of the event.
    until_round: Round at which the count reaches 0.
    active: Unpruned weights (or groups) of the layer.
    size: All weights (or groups) of the layer.
  """
  share = (
    LARGEST_MOVED_SHARE / 2 * (1.0 + math.cos(math.pi * round_index / until_round))
  )
  # A share of 0.3 times 10 is 3 weights, although the float product exceeds 3.
  wanted = math.ceil(share * active - 1e-9)
  return max(0, min(wanted, size - active, active - 1))


def is_event(round_index: int, every_rounds: int, until_round: int) -> bool:
  """Whether masks are adjusted at the end of a round."""
  return 0 < round_index < until_round and round_index % every_rounds == 0


def plan_events(
  spec: spec_lib.PrunableSpec,
  active_counts: Sequence[int],
  *,
  rounds: int,
  every_rounds: int,
  until_round: int,
  backward: bool = True,
) -> tuple[AdjustmentEvent, ...]:
  """Lists every adjustment of a run.

  Blocks take turns by event counter, not by round number, so none is skipped.

  Args:
    spec: Prunable layers and blocks.
    active_counts: Unpruned weights per layer, in whole groups; constant over the run.
    rounds: Rounds of the run.
    every_rounds: Rounds between events, at least 1.
    until_round: No event at or after this round.
    backward: Output to input (the paper's order) instead of input to output.

  Returns:
    Events in order.

  Raises:
    ValueError: When `every_rounds` is below 1.
  """
  if every_rounds < 1:
    raise ValueError(f"every_rounds must be at least 1, got {every_rounds}")
  order = list(range(len(spec.blocks)))
  if backward:
    order.reverse()
  events: list[AdjustmentEvent] = []
  for round_index in range(rounds):
    if not is_event(round_index, every_rounds, until_round):
      continue
    block = order[len(events) % len(order)]
    counts = tuple(
      adjustment_count(
        round_index,
        until_round,
        active_counts[i] // spec.layers[i].channel_block,
        spec.layers[i].groups,
      )
      for i in spec.blocks[block]
    )
    events.append(AdjustmentEvent(round_index, block, counts))
  return tuple(events)


def capacities(events: Iterable[AdjustmentEvent], block: int) -> tuple[int, ...]:
  """Returns the largest count of any event in each layer of a block.

  Raises:
    ValueError: When no event adjusts the block.
  """
  counts = [event.counts for event in events if event.block == block]
  if not counts:
    raise ValueError(f"no event adjusts block {block}")
  return tuple(max(of_layer) for of_layer in zip(*counts, strict=True))


def _by_model(spec: spec_lib.PrunableSpec) -> spec_lib.PrunableSpec:
  return spec


def _by_layer(spec: spec_lib.PrunableSpec) -> spec_lib.PrunableSpec:
  return spec.with_blocks([i] for i in range(len(spec.layers)))


def _entire(spec: spec_lib.PrunableSpec) -> spec_lib.PrunableSpec:
  return spec.with_blocks([range(len(spec.layers))])


GRANULARITIES: dict[str, Callable[[spec_lib.PrunableSpec], spec_lib.PrunableSpec]] = {
  "block": _by_model,
  "layer": _by_layer,
  "entire": _entire,
}
