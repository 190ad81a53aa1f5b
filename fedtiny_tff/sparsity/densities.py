"""How many weights each layer keeps: uniform, Erdős–Rényi-kernel, or noisy.

*Density* is active prunable weights over all prunable weights. Every function
returns integer counts that sum to exactly floor(density * total), so that all
candidates of a pool have one length on the wire. With channel blocks counts are of
weights in whole groups, and the sum is the largest that such counts can have.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.sparsity import spec as spec_lib

# Fractions that floats cannot hold must not cost a weight: 0.3 * 10 is 3.
_FLOOR_SLACK = 1e-9
# Relative distance from the target at which a noisy draw is accepted.
_ACCEPTED_DEVIATION = 0.02
_MAX_DRAWS = 10_000


def total_count(spec: spec_lib.PrunableSpec, density: float) -> int:
  """Returns floor(density * prunable weights), and at least one group per layer.

  Where whole groups cannot sum to that, it is the next smaller sum they can have.

  Raises:
    ValueError: When density is not in (0, 1].
  """
  if not 0.0 < density <= 1.0:
    raise ValueError(f"density must be in (0, 1], got {density}")
  least = sum(spec.channel_blocks)
  wanted = max(least, int(density * spec.size + _FLOOR_SLACK))
  # Coarse groups first: each size divides the next larger one, so what they leave is
  # less than one of them, or they are all in.
  extra = wanted - least
  for step in sorted(set(spec.channel_blocks), reverse=True):
    room = sum(x.size - step for x in spec.layers if x.channel_block == step)
    extra -= min(extra // step * step, room)
  return wanted - extra


def fit_counts(
  counts: Sequence[int],
  sizes: Sequence[int],
  total: int,
  channel_blocks: Sequence[int] = (),
) -> tuple[int, ...]:
  """Trims or fills the largest layers until the counts sum to `total`.

  Args:
    counts: Wanted count per layer.
    sizes: Weights per layer.
    total: Sum to reach, from one group per layer to the sum of `sizes`.
    channel_blocks: Weights of a group in each layer, of which each size divides the
      next larger one; empty for single weights.

  Returns:
    Counts in [one group, size], of whole groups, that sum to `total`.

  Raises:
    ValueError: When no such counts exist.
  """
  steps = tuple(channel_blocks) or (1,) * len(sizes)
  if not sum(steps) <= total <= sum(sizes):
    raise ValueError(
      f"total must be between {sum(steps)} and {sum(sizes)}, got {total}"
    )
  fitted = [
    min(max(int(count) // step * step, step), size)
    for count, size, step in zip(counts, sizes, steps, strict=True)
  ]
  fitted = _moved_towards(total, fitted, sizes, steps)
  if sum(fitted) == total:
    return tuple(fitted)
  # Less than a group is missing, and finer layers have no room for it: a coarser one
  # goes a group too far, and they make up for it.
  sign = 1 if sum(fitted) < total else -1
  for i, step in enumerate(steps):
    beyond = list(fitted)
    beyond[i] += sign * step
    if step <= beyond[i] <= sizes[i]:
      beyond = _moved_towards(total, beyond, sizes, steps)
      if sum(beyond) == total:
        return tuple(beyond)
  raise ValueError(f"groups of {sorted(set(steps))} weights cannot sum to {total}")


def _moved_towards(
  total: int, counts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]
) -> list[int]:
  """Trims or fills the largest layers by whole groups, never beyond `total`."""
  moved = list(counts)
  for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
    missing = total - sum(moved)
    room = sizes[i] - moved[i] if missing > 0 else moved[i] - steps[i]
    step = min(abs(missing) // steps[i] * steps[i], room)
    moved[i] += step if missing > 0 else -step
  return moved


def uniform_counts(
  spec: spec_lib.PrunableSpec, density: float, generator: np.random.Generator
) -> tuple[int, ...]:
  """Gives every layer the same density."""
  del generator  # Nothing is drawn.
  total = total_count(spec, density)
  wanted = [int(density * size + _FLOOR_SLACK) for size in spec.sizes]
  return fit_counts(wanted, spec.sizes, total, spec.channel_blocks)


def noisy_counts(
  spec: spec_lib.PrunableSpec, density: float, generator: np.random.Generator
) -> tuple[int, ...]:
  """Draws each layer's density from U(0.5, 1.5) times the target.

  Source: FedTiny (arXiv 2212.01977), candidate pool; constants from the authors'
  code. Where no draw can come near the target (density close to 1, where draws are
  capped), the uniform counts are taken.
  """
  centres = np.full(len(spec.sizes), density)
  drawn = _drawn_around(centres, spec, density, generator)
  return drawn or uniform_counts(spec, density, generator)


def noisy_erk_counts(
  spec: spec_lib.PrunableSpec, density: float, generator: np.random.Generator
) -> tuple[int, ...]:
  """Draws each layer's density from U(0.5, 1.5) times its density by `erk_counts`.

  At very low densities a uniform share leaves small layers a handful of weights, and
  nothing passes through them; here they keep more, and the pool still differs.
  """
  centres = _erk_densities(spec, total_count(spec, density))
  drawn = _drawn_around(centres, spec, density, generator)
  return drawn or erk_counts(spec, density, generator)


def _drawn_around(
  centres: Array,
  spec: spec_lib.PrunableSpec,
  density: float,
  generator: np.random.Generator,
) -> tuple[int, ...] | None:
  """Draws counts whose overall density is within 2 % of the target; None if it fails.

  The whole vector is drawn again until it is near enough; then the largest layers
  absorb what is left.
  """
  sizes, steps = np.asarray(spec.sizes), np.asarray(spec.channel_blocks)
  total = total_count(spec, density)
  # Whole groups are fewer weights than were drawn, by less than one in each layer.
  rounding = np.sum(steps - 1) / sizes.sum()
  accepted = _ACCEPTED_DEVIATION * density + rounding
  for _ in range(_MAX_DRAWS):
    drawn = np.minimum(centres * generator.uniform(0.5, 1.5, len(sizes)), 1.0)
    groups = np.maximum((drawn * sizes / steps).astype(np.int64), 1)
    counts = groups * steps
    if abs(counts.sum() / sizes.sum() - density) < accepted:
      return fit_counts(counts.tolist(), spec.sizes, total, spec.channel_blocks)
  return None


def erk_counts(
  spec: spec_lib.PrunableSpec, density: float, generator: np.random.Generator
) -> tuple[int, ...]:
  """Gives each layer a density proportional to sum(shape) / prod(shape).

  Layers that would exceed density 1 are kept dense and the rest is scaled
  again. Source: RigL (arXiv 1911.11134), Erdős–Rényi-kernel.
  """
  del generator  # Nothing is drawn.
  total = total_count(spec, density)
  wanted = (_erk_densities(spec, total) * np.asarray(spec.sizes)).astype(int).tolist()
  return fit_counts(wanted, spec.sizes, total, spec.channel_blocks)


def _erk_densities(spec: spec_lib.PrunableSpec, total: int) -> Array:
  """Returns the Erdős–Rényi-kernel density of each layer at `total` weights in all."""
  raw = np.array([sum(layer.shape) / layer.size for layer in spec.layers])
  sizes = np.asarray(spec.sizes)
  dense = np.zeros(len(sizes), dtype=bool)
  while True:
    budget = total - sizes[dense].sum()
    scale = budget / max((raw * sizes)[~dense].sum(), 1e-12)
    shares = np.where(dense, 1.0, raw * scale)
    overfull = shares > 1.0
    if not overfull.any():
      return shares
    dense |= overfull


LayerCounts = Callable[
  [spec_lib.PrunableSpec, float, np.random.Generator], tuple[int, ...]
]

LAYER_DENSITIES: dict[str, LayerCounts] = {
  "noisy": noisy_counts,
  "uniform": uniform_counts,
  "erk": erk_counts,
  "noisy_erk": noisy_erk_counts,
}
