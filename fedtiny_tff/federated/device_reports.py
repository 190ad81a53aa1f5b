"""Between the server's values and the tensors of messages to and from devices.

Names and shapes are those of `fedtiny_tff.device_plan`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import batch_statistics
from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated import messages, received_work, selection, states
from fedtiny_tff.strategies.adjustment import Adjustment
from fedtiny_tff.tasks import Metrics

Tensors = Mapping[str, np.ndarray]
_STATISTICS = "statistics."


def model_tensors(model: messages.SparseModel) -> dict[str, np.ndarray]:
  """Names a model's parts as they travel to a device."""
  return {name: np.asarray(part) for name, part in model._asdict().items()}


def state_tensors(state: states.ServerState) -> dict[str, np.ndarray]:
  """Names the parts of a state's model."""
  return model_tensors(states.to_sparse(state).model)


def round_tensors(
  state: states.ServerState, instruction: messages.RoundInstruction
) -> dict[str, np.ndarray]:
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
) -> dict[str, np.ndarray]:
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
    tensors: What arrived, of the plan's shapes; its statistics are in the plan's order.
    adjustment: What the statistics are for, if there are any.
  """
  statistics: Any = ()
  if adjustment is not None:
    sent = {n: value for n, value in tensors.items() if n.startswith(_STATISTICS)}
    specs = adjustment.statistics_specs()
    ordered = [sent[f"{_STATISTICS}{name}"] for name in statistics_names(specs)]
    statistics = tf.nest.pack_sequence_as(specs, ordered)
  model = messages.TrainedModel(*(tensors[n] for n in messages.TrainedModel._fields))
  metrics = Metrics(*(np.float32(tensors[name][0]) for name in Metrics._fields))
  update = messages.ClientUpdate(
    model, np.float32(tensors["weight"][0]), metrics, statistics
  )
  return received_work.Received(reference, update)


def statistics_names(specs: Any) -> list[str]:
  """Names the tensors of a method's statistics, in the order of `tf.nest.flatten`."""
  paths = [path for path, _ in _paths(specs, ())]
  return [".".join(path) for path in paths]


def _paths(specs: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
  if isinstance(specs, tf.TensorSpec):
    return [(path, specs)]
  if hasattr(specs, "_fields"):
    parts = [(name, getattr(specs, name)) for name in specs._fields]
  else:
    parts = [(str(number), each) for number, each in enumerate(specs)]
  return [found for name, part in parts for found in _paths(part, (*path, name))]


def stacked_moments(by_candidate: Sequence[Tensors]) -> batch_statistics.BatchMoments:
  """Makes of a device's moments, candidate by candidate, one report."""
  return batch_statistics.BatchMoments(*_stacked(by_candidate, ("count", "first", "second")))


def stacked_scores(by_candidate: Sequence[Tensors]) -> Metrics:
  """Makes of a device's scores, candidate by candidate, one report."""
  found = _stacked(by_candidate, Metrics._fields)
  return Metrics(*(np.reshape(each, [-1]) for each in found))


def _stacked(parts: Sequence[Tensors], names: Sequence[str]) -> list[np.ndarray]:
  return [np.stack([part[name] for part in parts]) for name in names]
