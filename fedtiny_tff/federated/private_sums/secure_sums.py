"""Secure aggregation in the form TFF simulates: the server sees sums only.

Everything that clients report goes through TFF's secure sums, as integers. TFF
expresses the protocol and leaves it to the platform; its local runtime has none, so
here the sums are computed in the open, by the bodies that TFF gives for this.
"""

from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.protection.secure_config import MODULAR, FixedPoint, SecureSums


class SecureFloatSum(tff.aggregators.UnweightedAggregationFactory):
  """Sums structures of floats securely; its state is empty."""

  def __init__(self, sums: SecureSums, grid: FixedPoint):
    """Fixes protocol and numbers.

    Args:
      sums: Which protocol.
      grid: What floats become.
    """
    self._grid = grid
    if sums.mode == MODULAR:
      self._inner: Any = tff.aggregators.SecureModularSumFactory(
        # Of Python's, TFF makes int32 where it fits, and fails beside int64 values.
        np.int64(2 ** (grid.bits - 1)),
        symmetric_range=True,
      )
    else:
      self._inner = tff.aggregators.SecureSumFactory(grid.largest)

  def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
    """Builds the sum of values of a type, as float32."""
    grid = self._grid

    @tff.tensorflow.computation(value_type)
    def encode(value: Any) -> Any:
      return tf.nest.map_structure(grid.encode, value)

    inner = self._inner.create(encode.type_signature.result)
    summed_type = inner.next.type_signature.result.result.member

    @tff.tensorflow.computation(summed_type)
    def decode(summed: Any) -> Any:
      return tf.nest.map_structure(grid.decode, summed)

    @tff.federated_computation(
      inner.state_type, tff.FederatedType(value_type, tff.CLIENTS)
    )
    def next_fn(state: Any, value: Any) -> tff.templates.MeasuredProcessOutput:
      output = inner.next(state, tff.federated_map(encode, value))
      return tff.templates.MeasuredProcessOutput(
        output.state, tff.federated_map(decode, output.result), output.measurements
      )

    return tff.templates.AggregationProcess(inner.initialize, next_fn)


def secure_sum(
  sums: SecureSums, grid: FixedPoint, value_type: tff.Type
) -> Callable[[Any], Any]:
  """Builds the sum of structures of floats: from clients' values to the server's."""
  process = SecureFloatSum(sums, grid).create(value_type)
  return lambda value: process.next(process.initialize(), value).result


def sum_of(sums: Optional[SecureSums], value_type: tff.Type) -> Callable[[Any], Any]:
  """Builds the sum of counts and losses, in the open where nothing hides them."""
  if sums is None:
    open_sum: Callable[[Any], Any] = tff.federated_sum
    return open_sum
  return secure_sum(sums, sums.wide_grid, value_type)


def in_the_open(computation: tff.Computation) -> tff.Computation:
  """Returns a computation whose secure sums TFF's runtimes can run: in the open."""
  replaced = tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
  # TFF forgets which Python containers results come in.
  return tff.framework.ConcreteComputation.with_type(
    replaced, computation.type_signature
  )


def count_values(value_type: tff.Type) -> int:
  """Counts the numbers of a structure of tensors of static shape."""
  if isinstance(value_type, tff.StructType):
    return sum(count_values(each) for each in value_type.children())
  assert isinstance(value_type, tff.TensorType)
  return int(np.prod(value_type.shape, dtype=np.int64))
