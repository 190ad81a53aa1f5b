"""The pool of coarsely pruned models among which selection chooses.

All candidates share the pre-trained weights; they differ in how many weights each
layer keeps. Source: FedTiny (arXiv 2212.01977), candidate pool.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from fedtiny_tff.sparsity import densities, masks
from fedtiny_tff.sparsity import spec as spec_lib

# More than any pool can have: of the least densities the quotient is infinite.
_ENDLESS = 2**31


def default_pool_size(density: float) -> int:
  """Returns the paper's optimal pool size, max(1, floor(0.1 / density + 0.5))."""
  return max(1, math.floor(min(0.1 / density, _ENDLESS) + 0.5))


def magnitude_mask_by_layer(
  prunable: Array, spec: spec_lib.PrunableSpec, counts: Sequence[int]
) -> Array:
  """Keeps in each layer the given number of largest weights, in whole groups.

  Args:
    prunable: float32 [prunable weights].
    spec: Layout of the vector.
    counts: Weights to keep per layer, multiples of its channel block.

  Returns:
    bool [prunable weights].
  """
  parts = [
    masks.magnitude_mask(
      tf.constant(prunable[spec.slice(i)]), count // group_size, group_size
    ).numpy()
    for i, (count, group_size) in enumerate(
      zip(counts, spec.channel_blocks, strict=True)
    )
  ]
  return np.concatenate(parts)


def candidate_counts(
  spec: spec_lib.PrunableSpec,
  *,
  density: float,
  pool_size: int,
  layer_densities: str,
  seed: int,
) -> list[tuple[int, ...]]:
  """Draws how many weights each layer of each candidate keeps: weights play no part.

  Args:
    spec: Prunable layers.
    density: Target share of active weights.
    pool_size: Number of candidates, at least 1.
    layer_densities: Key of `densities.LAYER_DENSITIES`.
    seed: Seed of the run.

  Raises:
    ValueError: When the pool would be empty.
  """
  if pool_size < 1:
    raise ValueError(f"pool_size must be at least 1, got {pool_size}")
  draw = densities.LAYER_DENSITIES[layer_densities]
  return [
    draw(spec, density, seeds.generator(seed, "candidate", number))
    for number in range(pool_size)
  ]


def candidate_masks(
  prunable: Array,
  spec: spec_lib.PrunableSpec,
  *,
  density: float,
  pool_size: int,
  layer_densities: str,
  seed: int,
) -> Array:
  """Draws the pool.

  Args:
    prunable: Pre-trained weights, float32 [prunable weights].
    spec: Layout of the vector.
    density: As in `candidate_counts`, and all that follows.
    pool_size: As there.
    layer_densities: As there.
    seed: As there.

  Returns:
    bool [pool_size, prunable weights]; every row has the same number of True.

  Raises:
    ValueError: When the pool would be empty.
  """
  drawn = candidate_counts(
    spec,
    density=density,
    pool_size=pool_size,
    layer_densities=layer_densities,
    seed=seed,
  )
  return np.stack([magnitude_mask_by_layer(prunable, spec, counts) for counts in drawn])
