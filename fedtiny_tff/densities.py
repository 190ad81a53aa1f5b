"""How many weights each layer keeps: uniform, noisy, or Erdős–Rényi-kernel.

*Density* is active prunable weights over all prunable weights. Every function
returns integer counts that sum to exactly floor(density * total), so that all
candidates of a pool have one length on the wire.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fedtiny_tff import spec as spec_lib

# Fractions that floats cannot hold must not cost a weight: 0.3 * 10 is 3.
_FLOOR_SLACK = 1e-9
# Relative distance from the target at which a noisy draw is accepted.
_ACCEPTED_DEVIATION = 0.02
_MAX_DRAWS = 10_000


def total_count(spec: spec_lib.PrunableSpec, density: float) -> int:
  """Returns floor(density * prunable weights), and at least one per layer.

  Raises:
    ValueError: When density is not in (0, 1].
  """
  if not 0.0 < density <= 1.0:
    raise ValueError(f"density must be in (0, 1], got {density}")
  return max(len(spec.layers), int(density * spec.size + _FLOOR_SLACK))


def fit_counts(
  counts: Sequence[int], sizes: Sequence[int], total: int
) -> tuple[int, ...]:
  """Trims or fills the largest layers until the counts sum to `total`.

  Args:
    counts: Wanted count per layer.
    sizes: Weights per layer.
    total: Sum to reach; between the number of layers and the sum of `sizes`.

  Returns:
    Counts in [1, size] that sum to `total`.

  Raises:
    ValueError: When no such counts exist.
  """
  if not len(sizes) <= total <= sum(sizes):
    raise ValueError(
      f"total must be between {len(sizes)} and {sum(sizes)}, got {total}"
    )
  fitted = [min(max(int(count), 1), size) for count, size in zip(counts, sizes, strict=True)]
  largest_first = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
  missing = total - sum(fitted)
  for i in largest_first:
    room = sizes[i] - fitted[i] if missing > 0 else fitted[i] - 1
    step = min(abs(missing), room)
    fitted[i] += step if missing > 0 else -step
    missing = total - sum(fitted)
  return tuple(fitted)


def uniform_counts(
  spec: spec_lib.PrunableSpec, density: float, generator: np.random.Generator
) -> tuple[int, ...]:
  """Gives every layer the same density."""
  del generator  # Nothing is drawn.
  total = total_count(spec, density)
  wanted = [int(density * size + _FLOOR_SLACK) for size in spec.sizes]
  return fit_counts(wanted, spec.sizes, total)


def noisy_counts(
  spec: spec_lib.PrunableSpec, density: float, generator: np.random.Generator
) -> tuple[int, ...]:
  """Draws each layer's density from U(0.5, 1.5) times the target.

  The whole vector is drawn again until its overall density is within 2 % of the
  target; then the largest layers absorb what is left. Source: FedTiny
  (arXiv 2212.01977), candidate pool; constants from the authors' code. Where no
  draw can come near (density close to 1, where draws are capped), the uniform
  counts are taken.
  """
  sizes = np.asarray(spec.sizes)
  total = total_count(spec, density)
  for _ in range(_MAX_DRAWS):
    drawn = np.minimum(density * generator.uniform(0.5, 1.5, len(sizes)), 1.0)
    counts = np.maximum((drawn * sizes).astype(np.int64), 1)
    if abs(counts.sum() / sizes.sum() - density) < _ACCEPTED_DEVIATION * density:
      return fit_counts(counts.tolist(), spec.sizes, total)
  return uniform_counts(spec, density, generator)


def erk_counts(
  spec: spec_lib.PrunableSpec, density: float, generator: np.random.Generator
) -> tuple[int, ...]:
  """Gives each layer a density proportional to sum(shape) / prod(shape).

  Layers that would exceed density 1 are kept dense and the rest is scaled
  again. Source: RigL (arXiv 1911.11134), Erdős–Rényi-kernel.
  """
  del generator  # Nothing is drawn.
  total = total_count(spec, density)
  raw = np.array([sum(layer.shape) / layer.size for layer in spec.layers])
  sizes = np.asarray(spec.sizes)
  dense = np.zeros(len(sizes), dtype=bool)
  while True:
    budget = total - sizes[dense].sum()
    scale = budget / max((raw * sizes)[~dense].sum(), 1e-12)
    densities = np.where(dense, 1.0, raw * scale)
    overfull = densities > 1.0
    if not overfull.any():
      break
    dense |= overfull
  return fit_counts((densities * sizes).astype(int).tolist(), spec.sizes, total)


LayerCounts = Callable[
  [spec_lib.PrunableSpec, float, np.random.Generator], tuple[int, ...]
]

LAYER_COUNTS: dict[str, LayerCounts] = {
  "noisy": noisy_counts,
  "uniform": uniform_counts,
  "erk": erk_counts,
}
