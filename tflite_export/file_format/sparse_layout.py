"""Stores a tensor with zeros in the fewest bytes TFLite's SparsityParameters allow.

The tree of `sparse_tensor` may walk the dimensions in any order, and each level may
be dense or compressed. How many bytes a choice takes follows from how many branches
are not empty, which depends only on the dimensions walked so far: for four dimensions
sixteen counts decide between 384 forms.

Layout: table SparsityParameters in
https://github.com/tensorflow/tensorflow/blob/v2.14.1/tensorflow/lite/schema/schema.fbs
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedtiny_tff.arrays import Array
from tflite_export.file_format.sparse_tensor import Level

# Tables, offsets and lengths that a compressed level takes besides its numbers, and
# a dense one not.
_COMPRESSED_LEVEL_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Layout:
  """A form of storage for a tensor of n dimensions.

  Attributes:
    traversal_order: Permutation of 0 … n - 1.
    compressed: For each level, in traversal order, whether it lists its indices.
  """

  traversal_order: tuple[int, ...]
  compressed: tuple[bool, ...]


@dataclasses.dataclass(frozen=True)
class SparseValues:
  """A tensor as it is stored.

  Attributes:
    values: [stored] leaves, in order.
    traversal_order: Permutation of the tensor's dimensions.
    levels: One for each dimension, in traversal order.
  """

  values: Array
  traversal_order: tuple[int, ...]
  levels: tuple[Level, ...]

  @property
  def bytes(self) -> int:
    """Bytes of values, segments and indices, and of what compressed levels add."""
    return self.values.nbytes + sum(
      _COMPRESSED_LEVEL_BYTES
      + index_type(level.segments).itemsize * len(level.segments)
      + index_type(level.indices).itemsize * len(level.indices)
      for level in self.levels
      if level.segments is not None and level.indices is not None
    )


def index_type(numbers: Array) -> np.dtype[Any]:
  """Returns the narrowest type that TFLite has for these segments or indices."""
  return _index_type(int(numbers.max(initial=0)))


def rows_layout(rank: int) -> Layout:
  """Returns the form TensorFlow's converter writes: only the last level compressed."""
  return Layout(tuple(range(rank)), (False,) * (rank - 1) + (True,))


def smallest_layout(values: Array) -> Layout:
  """Returns the form that takes the fewest bytes.

  Args:
    values: Of at least one dimension, without empty ones.
  """
  occupied = _occupied(values)
  branches = {
    walked: int(occupied.any(axis=_others(walked, values.ndim)).sum())
    for count in range(values.ndim + 1)
    for walked in itertools.combinations(range(values.ndim), count)
  }

  def cost(layout: Layout) -> int:
    total, nodes = 0, 1
    for level, dimension in enumerate(layout.traversal_order):
      size = values.shape[dimension]
      if layout.compressed[level]:
        walked = tuple(sorted(layout.traversal_order[: level + 1]))
        children = branches[walked]
        total += _COMPRESSED_LEVEL_BYTES
        total += _index_type(children).itemsize * (nodes + 1)
        total += _index_type(size - 1).itemsize * children
        nodes = children
      else:
        nodes *= size
    return total + nodes * values.itemsize

  return min(_layouts(values.ndim), key=cost)


def encode(values: Array, layout: Layout) -> SparseValues:
  """Stores a tensor in a form.

  Args:
    values: As for `smallest_layout`. Where no value is other than zero one zero is
      stored all the same: LiteRT takes a tensor without data for an activation.
    layout: Of as many dimensions as `values`.
  """
  arranged = np.transpose(_occupied(values), layout.traversal_order)
  # Flat positions, in traversal order, of the nodes of the level above.
  nodes = np.zeros(1, np.int64)
  levels = []
  for level, size in enumerate(arranged.shape):
    children = (nodes[:, np.newaxis] * size + np.arange(size)).reshape(-1)
    if layout.compressed[level]:
      inner = tuple(range(level + 1, arranged.ndim))
      kept = arranged.any(axis=inner).reshape(-1)[children]
      counts = kept.reshape(len(nodes), size).sum(axis=1)
      nodes = children[kept]
      levels.append(
        Level(segments=np.concatenate([[0], np.cumsum(counts)]), indices=nodes % size)
      )
    else:
      nodes = children
      levels.append(Level(size=size))
  leaves = np.transpose(values, layout.traversal_order).reshape(-1)[nodes]
  return SparseValues(leaves, layout.traversal_order, tuple(levels))


def _occupied(values: Array) -> Array:
  """Returns where values are stored; at least in one place."""
  occupied: Array = values != 0
  if not occupied.any():
    occupied.flat[0] = True
  return occupied


def _others(walked: tuple[int, ...], rank: int) -> tuple[int, ...]:
  """Returns the dimensions that are not walked yet."""
  return tuple(dimension for dimension in range(rank) if dimension not in walked)


def _layouts(rank: int) -> Iterator[Layout]:
  """Yields every form; of equally large ones the converter's comes first."""
  yield rows_layout(rank)
  for order in itertools.permutations(range(rank)):
    for compressed in itertools.product((False, True), repeat=rank):
      yield Layout(order, compressed)


def _index_type(largest: int) -> np.dtype[Any]:
  """Returns the narrowest type that holds 0 … `largest`."""
  for name in ("u1", "<u2"):
    if largest <= np.iinfo(name).max:
      return np.dtype(name)
  return np.dtype("<i4")
