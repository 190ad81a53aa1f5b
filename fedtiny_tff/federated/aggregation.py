"""How a round makes one model, and one vote, of its clients' reports.

What the names mean is told in `fedtiny_tff.protection.aggregation_config`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated import messages
from fedtiny_tff.protection import guards, robust
from fedtiny_tff.protection.aggregation_config import MEAN, ROBUST, Aggregation
from fedtiny_tff.strategies.adjustment import Adjustment


def robust_process(model_type: tff.Type) -> tff.templates.AggregationProcess:
  """Returns TFF's zeroing and clipping around a weighted mean.

  The norms above which updates are zeroed and clipped follow those of the rounds
  before, as in `tff.learning.robust_aggregator`.

  Args:
    model_type: Of how far each part of a model moved.
  """
  quantiles = tff.aggregators.PrivateQuantileEstimationProcess
  clipping = quantiles.no_noise(
    initial_estimate=1.0, target_quantile=0.8, learning_rate=0.2
  )
  zeroing = quantiles.no_noise(
    initial_estimate=10.0,
    target_quantile=0.98,
    learning_rate=np.log(10.0),
    multiplier=2.0,
    increment=1.0,
  )
  factory = tff.aggregators.zeroing_factory(
    zeroing,
    tff.aggregators.clipping_factory(clipping, tff.aggregators.MeanFactory()),
    zeroed_count_sum_factory=tff.aggregators.SumFactory(),
  )
  return factory.create(model_type, tff.TensorType(np.float32))


def stacked_mean(
  aggregation: Aggregation,
  value_type: tff.Type,
  valued: Optional[Callable[[Any], Any]] = None,
  one: Any = None,
) -> Callable[[Any, Any], Any]:
  """Builds a mean of what most clients agree on.

  Args:
    aggregation: With slots for all clients of a round, see `most_clients`.
    value_type: Of what a client reports.
    valued: From that to the structure of float tensors that is averaged; None for what
      is reported itself.
    one: Specs of that structure; None where it is what is reported.

  Returns:
    From values and whether they count (float32, 0 or 1), both at the clients, to the
    mean at the server.
  """
  specs = one if one is not None else _specs(value_type)
  value_of = valued or (lambda value: value)

  @tff.tensorflow.computation()
  def zero() -> Any:
    return robust.empty(specs, aggregation.slots)

  stack_type = zero.type_signature.result

  @tff.tensorflow.computation(stack_type, tff.types.to_type([value_type, np.float32]))
  def accumulate(stack: robust.Stack, report: Any) -> robust.Stack:
    value, accepted = report
    # What was left out is blank, and positions that are blank cannot be decoded.
    grown: robust.Stack = tf.cond(
      accepted > 0.0, lambda: robust.append(stack, value_of(value)), lambda: stack
    )
    return grown

  @tff.tensorflow.computation(stack_type, stack_type)
  def merge(left: robust.Stack, right: robust.Stack) -> robust.Stack:
    return robust.merge(left, right)

  @tff.tensorflow.computation(stack_type)
  def report(stack: robust.Stack) -> Any:
    return robust.trimmed_mean(stack, aggregation.share)

  def mean(value: Any, accepted: Any) -> Any:
    zipped = tff.federated_zip((value, accepted))
    return tff.federated_aggregate(zipped, zero(), accumulate, merge, report)

  return mean


def _specs(value_type: tff.Type) -> Any:
  return tff.types.type_to_py_container(
    tff.types.structure_from_tensor_type_tree(
      lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), value_type
    ),
    value_type,
  )


def _is_held(aggregation: Aggregation, adjustment: Adjustment) -> bool:
  """Whether what clients send for an adjustment is held side by side."""
  return aggregation.is_stacked or (
    aggregation.name == ROBUST and not adjustment.statistics_are_scores
  )


def most_clients(
  aggregation: Aggregation, adjustments: Iterable[Adjustment]
) -> Optional[int]:
  """Returns how many clients' reports a round can put together, None for any number.

  Args:
    aggregation: How.
    adjustments: All of the run.
  """
  if aggregation.secure is not None:
    return aggregation.secure.clients
  held = any(_is_held(aggregation, each) for each in adjustments)
  return aggregation.slots if aggregation.is_stacked or held else None


def vote_mean(
  aggregation: Aggregation, adjustment: Adjustment, statistics_type: tff.Type
) -> Callable[[Any, Any], Any]:
  """Builds the mean of what clients send for an adjustment.

  Args:
    aggregation: How.
    adjustment: What their statistics are added up as.
    statistics_type: Of what a client sends.

  Returns:
    From reports, and the round's instruction at the server, to the mean of
    `adjustment.zero()`'s structure at the server.
  """

  def contribution(statistics: Any) -> Any:
    return adjustment.accumulate(adjustment.zero(), statistics, tf.ones([]))

  if _is_held(aggregation, adjustment):
    with tf.Graph().as_default():
      one = tf.nest.map_structure(
        lambda each: tf.TensorSpec(each.shape, each.dtype), adjustment.zero()
      )
    stacked = stacked_mean(aggregation, statistics_type, contribution, one)
    return lambda report, instruction: stacked(
      report.update.statistics, report.verdict.accepted
    )

  def weighted(total: Any, statistics: Any, weight: tf.Tensor) -> Any:
    if aggregation.name == MEAN:
      return adjustment.accumulate(total, statistics, weight)
    vote = robust.to_unit_norm(contribution(statistics))
    return tf.nest.map_structure(lambda a, b: a + weight * b, total, vote)

  mean = _weighted_mean(adjustment, statistics_type, weighted)
  return lambda report, instruction: mean(
    report.update.statistics, report.update.weight
  )


def _weighted_mean(
  adjustment: Adjustment,
  statistics_type: tff.Type,
  add: Callable[[Any, Any, tf.Tensor], Any],
) -> Callable[[Any, Any], Any]:
  """Builds a mean that weighs clients by their examples, and adds them up as they come."""
  weighted_type = tff.types.to_type([statistics_type, np.float32])

  @tff.tensorflow.computation()
  def zero() -> Any:
    return adjustment.zero(), tf.zeros([], tf.float32)

  total_type = zero.type_signature.result

  @tff.tensorflow.computation(total_type, weighted_type)
  def accumulate(total: Any, sent: Any) -> Any:
    statistics, weight = sent
    # What was left out is blank, and positions that are blank cannot be decoded.
    summed = tf.cond(
      weight > 0.0, lambda: add(total[0], statistics, weight), lambda: total[0]
    )
    return summed, total[1] + weight

  @tff.tensorflow.computation(total_type, total_type)
  def merge(left: Any, right: Any) -> Any:
    return tf.nest.map_structure(tf.add, tuple(left), tuple(right))

  @tff.tensorflow.computation(total_type)
  def report(total: Any) -> Any:
    return tf.nest.map_structure(lambda t: t / tf.maximum(total[1], 1e-30), total[0])

  def mean(statistics: Any, weight: Any) -> Any:
    sent = tff.federated_zip((statistics, weight))
    return tff.federated_aggregate(sent, zero(), accumulate, merge, report)

  return mean


def offsets_computation(model_type: tff.Type, values_type: tff.Type) -> tff.Computation:
  """Builds how far each part of a client's model moved.

  Returns:
    (TrainedModel, ModelValues, float32) to TrainedModel; zeros where the last, whether
    the report counts, is 0: norms are learnt from all that arrives.
  """

  @tff.tensorflow.computation(model_type, values_type, np.float32)
  def moved(
    trained: messages.TrainedModel,
    received: messages.ModelValues,
    accepted: tf.Tensor,
  ) -> messages.TrainedModel:
    return guards.blank_unless(accepted, messages.offsets(trained, received))

  return moved
