"""Finds tensors of a TensorFlow graph that have the values of a file's activations."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array

# Largest difference of equal tensors, as a share of the largest value: the file's
# batch norms are folded, so that its sums are rounded elsewhere.
_TOLERANCE = 1e-4


class Match(NamedTuple):
  """What a graph has of an activation.

  Attributes:
    tensor: Name of a tensor with its values; None if there is none.
    in_order: Whether they are in the same order.
  """

  tensor: Optional[str]
  in_order: bool


@dataclasses.dataclass(frozen=True)
class Computed:
  """Values to compare.

  Attributes:
    values: From names of tensors, and the first and the last probe (exclusive), to
      pairs for each probe: the file's activations, and those tensors, NumPy arrays.
    probes: Number of probes, at least 2.
  """

  values: Callable[[Sequence[str], int, int], Iterator[tuple[list[Array], list[Array]]]]
  probes: int


def tensor_names(graph: tf.compat.v1.GraphDef) -> tuple[str, ...]:
  """Names all float32 tensors that operators of a graph compute, in its order."""
  with tf.Graph().as_default() as imported:
    tf.graph_util.import_graph_def(graph, name="")
  return tuple(
    tensor.name
    for operation in imported.get_operations()
    if operation.type != "Const"
    for tensor in operation.outputs
    if tensor.dtype == tf.float32
  )


def match(
  names: Sequence[str], tensors: Sequence[str], computed: Computed
) -> list[Match]:
  """Finds a tensor for each activation.

  Ranges do not depend on the order of values, so a tensor that is transposed or
  reshaped will do; one in the same order is preferred. Between several the names
  decide: the converter joins those of all operators it fused, of which the last one
  gives the result.

  Args:
    names: Of the file's activations.
    tensors: Names of the candidates.
    computed: Gives the values of both.

  Returns:
    What was found for each activation.
  """
  # All candidates once; nearly all are out then, and the rest is computed often.
  left, _ = _narrowed([tuple(tensors)] * len(names), computed, 0, 1)
  left, in_order = _narrowed(left, computed, 1, computed.probes)
  best = [_best(name, candidates) for name, candidates in zip(names, left, strict=True)]
  return [Match(*found) for found in zip(best, in_order, strict=True)]


def unequal(candidates: Sequence[tuple[str, ...]], computed: Computed) -> list[int]:
  """Returns which activations have no candidate that equals them on all probes."""
  left, _ = _narrowed(candidates, computed, 0, computed.probes)
  return [index for index, remaining in enumerate(left) if not remaining]


def _narrowed(
  candidates: Sequence[tuple[str, ...]], computed: Computed, first: int, last: int
) -> tuple[list[tuple[str, ...]], list[bool]]:
  """Keeps the candidates that equal their activation on each of some probes.

  Returns:
    Them for each activation, and whether their values are in the same order.
  """
  left, in_order = list(candidates), [True] * len(candidates)
  tensors = tuple(dict.fromkeys(name for names in left for name in names))
  for of_file, of_graph in computed.values(tensors, first, last):
    ordered = [np.sort(value, axis=None) for value in of_graph]
    of_name = dict(zip(tensors, zip(of_graph, ordered, strict=True), strict=True))
    for index, value in enumerate(of_file):
      target = np.sort(value, axis=None)
      equal = [n for n in left[index] if _is_equal(target, of_name[n][1])]
      ordered_too = [
        n for n in equal if _is_close(value.ravel(), of_name[n][0].ravel())
      ]
      left[index] = tuple(ordered_too or equal)
      in_order[index] &= bool(ordered_too)
  return left, in_order


def _is_equal(wanted: Array, found: Array) -> bool:
  """Compares ascending values; their ends first, which tell nearly all pairs apart."""
  if wanted.size != found.size or not wanted.size:
    return wanted.size == found.size
  return _is_close(wanted[[0, -1]], found[[0, -1]]) and _is_close(wanted, found)


def _is_close(wanted: Array, found: Array) -> bool:
  # Written so that a NaN is not close.
  largest = np.abs(wanted).max(initial=0.0)
  return bool(np.abs(wanted - found).max(initial=0.0) <= _TOLERANCE * largest)


def _best(activation: str, candidates: Sequence[str]) -> Optional[str]:
  """Returns the last candidate that an activation's name mentions, else the first."""
  fused = {name.partition(":")[0] for name in activation.split(";")}
  named = [tensor for tensor in candidates if tensor.partition(":")[0] in fused]
  return next(iter([*named[::-1], *candidates]), None)
