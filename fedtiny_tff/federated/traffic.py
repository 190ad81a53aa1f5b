"""How many bytes a device exchanges, from the message types alone. Nothing is run."""

import dataclasses
from collections.abc import Sequence
from typing import Optional

import tensorflow_federated as tff

from fedtiny_tff import cost, schedules
from fedtiny_tff import spec as spec_lib
from fedtiny_tff.federated import messages, selection
from fedtiny_tff.tfmot_masking import ModelWeights


@dataclasses.dataclass(frozen=True)
class RoundTraffic:
  """What one device exchanges in a round.

  Attributes:
    download_bytes: Download of a round without adjustment; one with it adds 4 bytes
      per layer of its block.
    position_bytes: The part of it that says where the active weights are.
    upload_bytes: Upload of a round without adjustment.
    adjust_upload_bytes: Largest upload of a round with one; 0 without such rounds.
  """

  download_bytes: int
  position_bytes: int
  upload_bytes: int
  adjust_upload_bytes: int

  @property
  def download_bytes_mask_held(self) -> int:
    """The same for a device that holds the mask already."""
    return self.download_bytes - self.position_bytes


@dataclasses.dataclass(frozen=True)
class SelectionTraffic:
  """What one device exchanges in selection, before the first round.

  Attributes:
    download_bytes: The candidates, and the pooled statistics of each.
    upload_bytes: Moments and scores of each candidate.
  """

  download_bytes: int
  upload_bytes: int


def round_traffic(
  sizes: ModelWeights,
  spec: spec_lib.PrunableSpec,
  active_count: int,
  events: Sequence[schedules.AdjustmentEvent] = (),
  statistics: Optional[cost.StatisticsSpecs] = None,
) -> RoundTraffic:
  """Weighs the messages of a run's rounds.

  Args:
    sizes: Vector lengths of the model.
    spec: Layout and blocks.
    active_count: Unpruned weights.
    events: Every adjustment of the run.
    statistics: What clients add to their update at an adjustment; needed with
      events.

  Raises:
    ValueError: When there are events, but no statistics.
  """
  model_type = messages.sparse_model_type(sizes, active_count)

  def upload_bytes(sent: tff.Type) -> int:
    return messages.size_bytes(messages.client_update_type(sizes, active_count, sent))

  adjusting = []
  for block in sorted({event.block for event in events}):
    if statistics is None:
      raise ValueError(f"block {block} is adjusted by a method that never adjusts")
    sent = statistics(spec, block, schedules.capacities(events, block))
    tensors = [tff.TensorType(s.dtype.as_numpy_dtype, s.shape.as_list()) for s in sent]
    adjusting.append(upload_bytes(tff.types.to_type(tensors)))
  instruction_type = messages.instruction_type(0)
  return RoundTraffic(
    messages.size_bytes(model_type) + messages.size_bytes(instruction_type),
    messages.size_bytes(model_type.positions),
    upload_bytes(tff.types.to_type(())),
    max(adjusting, default=0),
  )


def selection_traffic(
  sizes: ModelWeights, candidates: int, active_count: int, adaptive: bool = True
) -> SelectionTraffic:
  """Weighs the messages of a selection; none are sent for an empty pool.

  Args:
    sizes: Vector lengths of the model.
    candidates: Size of the pool.
    active_count: Unpruned weights of every candidate.
    adaptive: Whether clients measure batch-norm statistics first.
  """
  if not candidates:
    return SelectionTraffic(0, 0)
  down = (
    selection.candidate_pool_type(sizes, candidates, active_count),
    selection.batch_norm_statistics_type(sizes, candidates),
  )
  up = [selection.candidate_scores_type(candidates)]
  if adaptive:
    up.append(selection.batch_moments_type(sizes, candidates))
  return SelectionTraffic(
    sum(messages.size_bytes(message) for message in down),
    sum(messages.size_bytes(message) for message in up),
  )
