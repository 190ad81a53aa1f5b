"""Between the server's values and the tensors of messages to and from devices.

Names and shapes are those of `fedtiny_tff.devices.device_plan`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.federated.device_rounds import received_work
from fedtiny_tff.masked_models import batch_statistics
from fedtiny_tff.strategies.adjustment import Adjustment
from fedtiny_tff.tasks import Metrics

Tensors = Mapping[str, Array]
_STATISTICS = "statistics"


def model_tensors(model: messages.SparseModel) -> dict[str, Array]:
  """Names a model's parts as they travel to a device."""
  return {name: np.asarray(part) for name, part in model._asdict().items()}


def state_tensors(state: states.ServerState) -> dict[str, Array]:
  """Names the parts of a state's model."""
  return model_tensors(states.to_sparse(state).model)


def round_tensors(
  state: states.ServerState, instruction: messages.RoundInstruction
) -> dict[str, Array]:
  """Names what a device needs for a round; its number is the message's."""
  return {
    **state_tensors(state),
    "learning_rate": np.reshape(np.float32(instruction.learning_rate), [1]),
    "counts": np.asarray(instruction.counts, np.int32),
  }


def candidate_tensors(
  pool: selection.CandidatePool,
  number: int,
  statistics: Optional[selection.BatchNormStatistics] = None,
) -> dict[str, Array]:
  """Names the parts of a candidate.

  Args:
    pool: All of them.
    number: Which.
    statistics: Its batch-norm statistics, by candidate; the pool's without any.
  """
  mean, variance = pool.batch_norm_mean, pool.batch_norm_variance
  if statistics is not None:
    mean, variance = statistics.mean[number], statistics.variance[number]
  return model_tensors(
    messages.SparseModel(
      pool.active_values[number], pool.positions[number], pool.dense, mean, variance
    )
  )


def received_update(
  reference: ClientReference, tensors: Tensors, adjustment: Optional[Adjustment]
) -> received_work.Received:
  """Makes of a device's update what the server's computation takes.

  Args:
    reference: Who sent it, and how many examples it said to have.
    tensors: What arrived, of the plan's shapes.
    adjustment: What the statistics are for, if there are any.
  """
  statistics: Any = ()
  if adjustment is not None:
    specs = adjustment.statistics_specs()
    statistics = pack_statistics(specs, tensors, _STATISTICS)
  model = messages.TrainedModel(*(tensors[n] for n in messages.TrainedModel._fields))
  metrics = Metrics(*(np.float32(tensors[name][0]) for name in Metrics._fields))
  update = messages.ClientUpdate(
    model, np.float32(tensors["weight"][0]), metrics, statistics
  )
  return received_work.Received(reference, update)


def flat_statistics(statistics: Any, prefix: str = "") -> dict[str, Any]:
  """Returns the leaves of what a client sends for an adjustment, by name.

  Args:
    statistics: A NamedTuple, whose fields may be such again.
    prefix: Put before every name.

  Returns:
    By the fields' names, one within another after a dot.
  """
  if isinstance(statistics, tuple):
    fields = getattr(statistics, "_fields", range(len(statistics)))
    named: dict[str, Any] = {}
    for field, value in zip(fields, statistics, strict=True):
      named |= flat_statistics(value, f"{prefix}.{field}" if prefix else str(field))
    return named
  return {prefix: statistics}


def pack_statistics(like: Any, named: Mapping[str, Any], prefix: str = "") -> Any:
  """Returns leaves that `flat_statistics` has named in the structure they came from.

  Args:
    like: As `Adjustment.statistics_specs` returns it.
    named: Leaf by name.
    prefix: As it was given to `flat_statistics`.
  """
  return tf.nest.pack_sequence_as(
    like, [named[name] for name in flat_statistics(like, prefix)]
  )


def stacked_moments(by_candidate: Sequence[Tensors]) -> batch_statistics.BatchMoments:
  """Makes of a device's moments, candidate by candidate, one report."""
  return batch_statistics.BatchMoments(
    *_stacked(by_candidate, ("count", "first", "second"))
  )


def stacked_scores(by_candidate: Sequence[Tensors]) -> Metrics:
  """Makes of a device's scores, candidate by candidate, one report."""
  found = _stacked(by_candidate, Metrics._fields)
  return Metrics(*(np.reshape(each, [-1]) for each in found))


def _stacked(parts: Sequence[Tensors], names: Sequence[str]) -> list[Array]:
  return [np.stack([part[name] for part in parts]) for name in names]
