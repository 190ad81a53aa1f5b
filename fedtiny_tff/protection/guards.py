"""What a server looks at in a client's report before it adds it to others.

A report that is not finite, claims other counts than are known, or lies outlandishly
far from the model that was sent, is left out as a whole and counted. These checks keep
broken clients out; against clients that lie within such bounds there are the
aggregations of `fedtiny_tff.protection.robust`.
"""

from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from fedtiny_tff.tasks import Metrics

# An update may be so many times as long as the model that it changes. Training from
# random weights at a rate that just about works was seen to double them.
_OUTLANDISH_FACTOR = 10.0
# Sums of float32 over a hundred thousand examples are off by less.
_COUNT_TOLERANCE = 1e-3
# Of a float32: what is weighed by all examples of a round and added up stays finite.
LARGEST = 1e28

_Report = TypeVar("_Report")


class Verdict(NamedTuple):
  """What was found; each 0 or 1, so that clients add up.

  Attributes:
    accepted: float32, whether the report counts.
    not_finite: float32, whether a value is infinite, as good as that, or no number.
    wrong_count: float32, whether it claims examples or positions that cannot be.
    outlandish: float32, whether the model moved too far.
  """

  accepted: tf.Tensor
  not_finite: tf.Tensor
  wrong_count: tf.Tensor
  outlandish: tf.Tensor


def is_finite(report: Any) -> tf.Tensor:
  """Whether all floats of a structure are finite, bool, and stay so when added up."""
  floats = [each for each in tf.nest.flatten(report) if each.dtype.is_floating]
  # What is no number is not within either.
  within = [tf.reduce_all(tf.abs(each) <= LARGEST) for each in floats]
  return tf.reduce_all(within)


def counts_fit(
  weight: tf.Tensor, metrics: Metrics, examples: tf.Tensor, epochs: int
) -> tf.Tensor:
  """Whether a report's counts can be, bool.

  Args:
    weight: float32, examples that the client claims.
    metrics: Its sums over all steps.
    examples: int64, examples that the server knows it to have.
    epochs: Most passes over them in a round.
  """
  known = tf.cast(examples, tf.float32)
  slack = 1.0 + _COUNT_TOLERANCE
  return (
    tf.equal(weight, known)
    & (known > 0.0)
    & (metrics.examples >= 0.0)
    & (metrics.examples <= known * epochs * slack)
    & (metrics.correct >= 0.0)
    & (metrics.correct <= metrics.examples * slack)
  )


def is_near(update: Any, model: Any) -> tf.Tensor:
  """Whether an update is not outlandishly long, bool.

  Args:
    update: Structure of float32 tensors, what is to be added to the model.
    model: Structure of float32 tensors, what was sent.
  """
  longest = tf.linalg.global_norm(tf.nest.flatten(model)) + 1.0
  length = tf.linalg.global_norm(tf.nest.flatten(update))
  return length <= _OUTLANDISH_FACTOR * longest


def judge(finite: tf.Tensor, counted: tf.Tensor, near: tf.Tensor) -> Verdict:
  """Names the first thing that is wrong, if any is.

  Args:
    finite: bool, see `is_finite`.
    counted: bool, see `counts_fit`.
    near: bool, see `is_near`.
  """
  wrong_count = tf.logical_and(finite, tf.logical_not(counted))
  outlandish = tf.logical_and(tf.logical_and(finite, counted), tf.logical_not(near))
  accepted = finite & counted & near
  parts = (accepted, tf.logical_not(finite), wrong_count, outlandish)
  return Verdict(*(tf.cast(each, tf.float32) for each in parts))


def blank_unless(accepted: tf.Tensor, report: _Report) -> _Report:
  """Returns a report, all zeros unless it is accepted.

  Args:
    accepted: float32, 0 or 1.
    report: Any structure of tensors.
  """
  keep = accepted > 0.0
  # A product would keep what is no number.
  kept: _Report = tf.nest.map_structure(
    lambda each: tf.where(keep, each, tf.zeros_like(each)), report
  )
  return kept
