"""Tests of taking arguments and computations apart."""

import logging

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated.runtimes import spreading

NUMBERS = tff.FederatedType(np.int32, tff.CLIENTS)
AT_SERVER = tff.FederatedType(np.int32, tff.SERVER)
PAIR = tff.StructType([("factor", AT_SERVER), ("numbers", NUMBERS)])


def pair(factor, numbers):
  return tff.structure.Struct([("factor", factor), ("numbers", numbers)])


@tff.tensorflow.computation(np.int32, np.int32)
def multiply(left, right):
  return left * right


@tff.federated_computation(AT_SERVER, NUMBERS)
def scaled_sum(factor, numbers):
  """Returns factor times the sum of the clients' products with the factor."""
  at_clients = tff.federated_broadcast(factor)
  total = tff.federated_sum(tff.federated_map(multiply, (at_clients, numbers)))
  return tff.federated_map(multiply, (factor, total)), total


@tff.tensorflow.computation(np.int32, np.int32)
def subtract(left, right):
  return left - right


@tff.federated_computation(NUMBERS)
def spread_of_sums(numbers):
  """Its second sum depends on the first."""
  total = tff.federated_sum(numbers)
  offsets = tff.federated_map(subtract, (numbers, tff.federated_broadcast(total)))
  return tff.federated_sum(offsets)


def test_counts_clients():
  assert spreading.count_clients(pair(2, [1, 2, 3]), PAIR) == 3
  assert spreading.count_clients([], NUMBERS) == 0
  assert spreading.count_clients(2, AT_SERVER) is None
  assert spreading.count_clients(2, tff.types.to_type(np.int32)) is None
  assert spreading.count_clients(None, None) is None
  everywhere = tff.FederatedType(np.int32, tff.CLIENTS, all_equal=True)
  assert spreading.count_clients(2, everywhere) is None


def test_refuses_different_numbers_of_clients():
  both = tff.StructType([NUMBERS, NUMBERS])
  with pytest.raises(ValueError, match=r"different numbers of clients: \[1, 2\]"):
    spreading.count_clients(([1], [1, 2]), both)


def test_takes_clients_apart_in_order():
  parts = spreading.split(pair(7, [4, 5, 6]), PAIR)
  assert [part.numbers for part in parts] == [[4], [5], [6]]
  assert [part.factor for part in parts] == [7, 7, 7]


def test_no_client_is_a_part_without_any():
  assert spreading.split([], NUMBERS) == [[]]


def test_parts_give_what_the_whole_gives(local_runtime):
  plan = spreading.make_plan(scaled_sum)
  argument = pair(3, [1, 2, 3, 4, 5])
  # 3·(1+2) = 9 and 3·(3+4+5) = 36, in all 45, times 3.
  sums = [
    local_runtime.context.invoke(plan.up_to_merge, part)
    for part in (pair(3, [1, 2]), pair(3, [3, 4, 5]))
  ]
  assert [np.asarray(each).item() for each in tf.nest.flatten(sums)] == [9, 36]
  merged = local_runtime.context.invoke(plan.merge, tff.structure.Struct.unnamed(*sums))
  result = local_runtime.context.invoke(
    plan.after_merge, tff.structure.Struct.unnamed(argument, merged)
  )
  assert tuple(result) == (135, 45) == tuple(scaled_sum(3, [1, 2, 3, 4, 5]))


def test_what_cannot_be_taken_apart_stays_whole_with_a_warning(caplog, local_runtime):
  with caplog.at_level(logging.WARNING):
    plan = spreading.make_plan(spread_of_sums)
  assert plan.merge is None
  assert plan.after_merge is None
  (record,) = caplog.records
  assert "runs on one worker" in record.getMessage()
  # 6, and (1-6) + (2-6) + (3-6).
  assert local_runtime.context.invoke(plan.up_to_merge, [1, 2, 3]) == -12
