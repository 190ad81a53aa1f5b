"""How many bytes a device exchanges, from the message types alone. Nothing is run."""

import bisect
import dataclasses
import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
import tensorflow_federated as tff

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.federated.private_sums import hidden_votes, secure_sums
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import guards
from fedtiny_tff.protection.aggregation_config import WEIGHTED_MEAN, Aggregation
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.adjustment import Adjustment

# A new computation costs about a second and 20 MB of the worker's memory.
_LEAST_HELD_ROUNDS = 5


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


def mask_is_held(event_rounds: Sequence[int], round_index: int) -> bool:
  """Tells whether a client that misses no round holds a round's mask already.

  Args:
    event_rounds: Rounds with adjustments, ascending.
    round_index: The round.
  """
  before = bisect.bisect_left(event_rounds, round_index)
  adjusted_just_now = before > 0 and event_rounds[before - 1] == round_index - 1
  return round_index > 0 and not adjusted_just_now


def positions_stay(event_rounds: Sequence[int], round_index: int) -> bool:
  """Tells whether positions are left out of a round in which all clients take part.

  They are where the mask is held, in rounds without adjustment, when at least
  `_LEAST_HELD_ROUNDS` of them use the computation that must be made for the mask.

  Args:
    event_rounds: Rounds with adjustments, ascending.
    round_index: The round.
  """
  place = bisect.bisect_left(event_rounds, round_index)
  is_event = place < len(event_rounds) and event_rounds[place] == round_index
  if is_event or not mask_is_held(event_rounds, round_index):
    return False
  first = event_rounds[place - 1] + 2 if place else 1
  end = event_rounds[place] if place < len(event_rounds) else math.inf
  return end - first >= _LEAST_HELD_ROUNDS


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


def round_upload_bytes(
  sizes: ModelWeights,
  spec: spec_lib.PrunableSpec,
  active_count: int,
  strategy: base.Strategy,
  events: Sequence[schedules.AdjustmentEvent] = (),
  block: Optional[int] = None,
  aggregation: Aggregation = WEIGHTED_MEAN,
) -> int:
  """Counts what a client will send in a round.

  Args:
    sizes: Vector lengths of the model.
    spec: Layout and blocks.
    active_count: Unpruned weights.
    strategy: The method; says what is sent at an adjustment.
    events: Every adjustment of the run.
    block: The one that is adjusted; None for an ordinary round.
    aggregation: How reports are put together.

  Raises:
    ValueError: When a block is adjusted by no event.
  """
  adjustment, sent, values = None, tff.types.to_type(()), active_count
  if block is not None:
    capacities = schedules.capacities(events, block)
    adjustment = strategy.adjustment(
      base.AdjustmentPlan(spec, block, capacities, 0, active_count)
    )
    sent = messages.statistics_type(adjustment)
    values = 0 if adjustment.replaces_weights else active_count
  update = messages.client_update_type(sizes, values, sent)
  flags = [tff.TensorType(np.float32)] * len(guards.Verdict._fields)
  report = messages.ClientReport(update, guards.Verdict(*flags))
  return upload_bytes(aggregation, tff.types.to_type(report), adjustment)


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
  adjusting = [
    round_upload_bytes(sizes, spec, active_count, strategy, events, block)
    for block in sorted({event.block for event in events})
  ]
  instruction_type = messages.instruction_type(0)
  return RoundTraffic(
    messages.size_bytes(model_type) + messages.size_bytes(instruction_type),
    messages.size_bytes(model_type.positions),
    round_upload_bytes(sizes, spec, active_count, strategy),
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
