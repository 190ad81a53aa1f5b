"""How many bytes a device exchanges, from the message types alone. Nothing is run."""

import dataclasses
from collections.abc import Sequence
from typing import Optional

import tensorflow_federated as tff

from fedtiny_tff import schedules
from fedtiny_tff import spec as spec_lib
from fedtiny_tff.aggregation_config import Aggregation
from fedtiny_tff.federated import hidden_votes, messages, secure_sums, selection
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.adjustment import Adjustment
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


def upload_bytes(
  aggregation: Aggregation, report_type: tff.Type, adjustment: Optional[Adjustment]
) -> int:
  """Counts what a client sends in a round.

  Args:
    aggregation: How reports are put together.
    report_type: Of what the server has of a client.
    adjustment: What its statistics are for, if there are any.
  """
  update, secure = report_type.update, aggregation.secure
  if secure is None:
    return messages.size_bytes(update)
  values = secure_sums.count_values(update.model)
  if adjustment is not None and adjustment.statistics_specs():
    values += secure_sums.count_values(
      hidden_votes.vote_type(aggregation, adjustment, update.statistics)
    )
  sums = secure_sums.count_values(update.metrics) + secure_sums.count_values(
    report_type.verdict
  )
  # Private updates weigh alike and send no weight.
  sums += aggregation.privacy is None
  return secure.values_bytes(values) + secure.sums_bytes(sums)


def round_traffic(
  sizes: ModelWeights,
  spec: spec_lib.PrunableSpec,
  active_count: int,
  strategy: base.Strategy,
  events: Sequence[schedules.AdjustmentEvent] = (),
) -> RoundTraffic:
  """Weighs the messages of a run's rounds.

  Args:
    sizes: Vector lengths of the model.
    spec: Layout and blocks.
    active_count: Unpruned weights; before the first round, where events shrink the
      model, so that figures are those of its heaviest rounds.
    strategy: The method; says what is sent at an adjustment.
    events: Every adjustment of the run.

  Raises:
    ValueError: When there are events, but the method never adjusts.
  """
  model_type = messages.sparse_model_type(sizes, active_count)

  def upload_bytes(values: int, sent: tff.Type) -> int:
    return messages.size_bytes(messages.client_update_type(sizes, values, sent))

  adjusting = []
  for block in sorted({event.block for event in events}):
    capacities = schedules.capacities(events, block)
    plan = base.AdjustmentPlan(spec, block, capacities, 0, active_count)
    adjustment = strategy.adjustment(plan)
    values = 0 if adjustment.replaces_weights else active_count
    adjusting.append(upload_bytes(values, messages.statistics_type(adjustment)))
  instruction_type = messages.instruction_type(0)
  return RoundTraffic(
    messages.size_bytes(model_type) + messages.size_bytes(instruction_type),
    messages.size_bytes(model_type.positions),
    upload_bytes(active_count, tff.types.to_type(())),
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
