"""Expands a tensor stored with TFLite's SparsityParameters.

A tensor of n dimensions, k of them cut into blocks, is a tree of n + k levels.
Level l walks dimension `traversal_order[l]`; numbers from n on are the insides of
blocks, `block_map` says of which dimension. A dense level has every index, a
compressed (CSR) level only those of non-empty branches. The leaves, from left to
right, are the stored values; everything else is zero.

Layout: table SparsityParameters in
https://github.com/tensorflow/tensorflow/blob/v2.14.1/tensorflow/lite/schema/schema.fbs
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError

# A few bytes of metadata can ask for any size: more than any layer needs is refused.
MAX_ELEMENTS = 1 << 28


@dataclasses.dataclass(frozen=True)
class Level:
  """One level of the tree: dense (`size`) or compressed (`segments`, `indices`).

  Attributes:
    size: Number of indices of a dense level, None for a compressed one.
    segments: int [parents + 1]; the children of parent i are the entries
      `segments[i]` to `segments[i + 1]` of `indices`.
    indices: int [children] index of each child within its dimension.
  """

  size: Optional[int] = None
  segments: Optional[Array] = None
  indices: Optional[Array] = None


def densify(
  values: Array,
  shape: Sequence[int],
  traversal_order: Sequence[int],
  block_map: Sequence[int],
  levels: Sequence[Level],
) -> Array:
  """Returns the dense tensor.

  Args:
    values: [stored] leaves, in order.
    shape: Sizes of the n dimensions of the dense tensor.
    traversal_order: Permutation of 0 … n - 1, then n … n + k - 1 in order.
    block_map: The k dimensions cut into blocks, ascending.
    levels: n + k levels, in traversal order.

  Raises:
    InputError: Metadata that contradicts itself, the shape or the values.
  """
  strides, sizes = _strides_and_sizes(shape, traversal_order, block_map, levels)
  offsets = np.zeros(1, np.int64)
  for dimension, level in zip(traversal_order, levels, strict=True):
    if level.size is not None:
      offsets = _expand_dense(offsets, level.size, strides[dimension])
    else:
      offsets = _expand_compressed(offsets, level, sizes[dimension], strides[dimension])
  if len(offsets) != len(values):
    raise InputError(
      f"sparse tensor has {len(values)} values for {len(offsets)} positions; the file "
      "is damaged, convert the model again"
    )
  dense = np.zeros(math.prod(shape), values.dtype)
  dense[offsets] = values
  return dense.reshape(shape)


def _expand_dense(offsets: Array, size: int, stride: int) -> Array:
  """Gives every node `size` children."""
  if len(offsets) * size > MAX_ELEMENTS:
    raise InputError(
      f"sparse tensor has more than {MAX_ELEMENTS} positions; the file is damaged, "
      "convert the model again"
    )
  places: Array = offsets[:, np.newaxis] + np.arange(size) * stride
  return places.reshape(-1)


def _expand_compressed(offsets: Array, level: Level, size: int, stride: int) -> Array:
  """Gives node i the children that its segment lists."""
  segments = np.asarray(level.segments, np.int64)
  indices = np.asarray(level.indices, np.int64)
  children = np.diff(segments)
  well_formed = (
    len(segments) == len(offsets) + 1
    and segments[0] == 0
    and segments[-1] == len(indices)
    and (children >= 0).all()
    and ((indices >= 0) & (indices < size)).all()
  )
  if not well_formed:
    raise InputError(
      f"sparse tensor has a level of {len(segments)} segments and {len(indices)} "
      f"indices below {size} for {len(offsets)} parents; the file is damaged, convert "
      "the model again"
    )
  places: Array = np.repeat(offsets, children) + indices * stride
  return places


def _strides_and_sizes(
  shape: Sequence[int],
  traversal_order: Sequence[int],
  block_map: Sequence[int],
  levels: Sequence[Level],
) -> tuple[list[int], list[int]]:
  """Returns, for each of the n + k dimensions, flat stride and number of indices."""
  rank, all_dimensions = len(shape), len(shape) + len(block_map)
  # The schema allows blocks in any order, but LiteRT 2.3 then puts values elsewhere
  # than the schema says: such a file cannot be checked, and no converter writes it.
  if (
    sorted(traversal_order[:rank]) != list(range(rank))
    or list(traversal_order[rank:]) != list(range(rank, all_dimensions))
    or list(block_map) != sorted(set(block_map) & set(range(rank)))
    or len(levels) != all_dimensions
    or any(size < 0 for size in shape)
    or math.prod(shape) > MAX_ELEMENTS
  ):
    raise _misfit(shape, traversal_order, block_map, levels)
  strides = [math.prod(shape[dimension + 1 :]) for dimension in range(rank)]
  sizes = list(shape)
  for dimension, level in zip(block_map, levels[rank:], strict=True):
    block_size = level.size or 0
    if block_size <= 0 or shape[dimension] % block_size:
      raise _misfit(shape, traversal_order, block_map, levels)
    strides.append(strides[dimension])
    sizes.append(block_size)
    strides[dimension] *= block_size
    sizes[dimension] //= block_size
  for dimension, level in zip(traversal_order, levels, strict=True):
    if level.size not in (None, sizes[dimension]):
      raise _misfit(shape, traversal_order, block_map, levels)
  return strides, sizes


def _misfit(
  shape: Sequence[int],
  traversal_order: Sequence[int],
  block_map: Sequence[int],
  levels: Sequence[Level],
) -> InputError:
  """Returns the error for metadata that do not describe a tensor of the shape."""
  return InputError(
    f"sparse tensor of shape {list(shape)} has traversal order "
    f"{list(traversal_order)}, block map {list(block_map)} and level sizes "
    f"{[level.size for level in levels]} that do not fit; the file is damaged, "
    "convert the model again"
  )
