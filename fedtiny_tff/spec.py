"""Static description of what is pruned: layers, their order, their blocks.

All prunable weights of a model live in one flat float32 vector, layer after
layer in model order, each layer flattened row-major from its Keras kernel. The
spec says where each layer sits in it. It is Python, never a tensor.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class LayerSpec:
  """One prunable kernel.

  Attributes:
    name: Keras layer name.
    shape: Kernel shape in Keras layout (Conv2D: HWIO, Dense: IO).
  """

  name: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """Number of weights in the kernel."""
    return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class PrunableSpec:
  """Every prunable kernel of a model, in order, grouped into blocks.

  Attributes:
    layers: Kernels in model order, input to output.
    blocks: Groups of indices into `layers`, input to output; each layer stands
      in exactly one block. One block is adjusted per pruning event.
  """

  layers: tuple[LayerSpec, ...]
  blocks: tuple[tuple[int, ...], ...]

  def __post_init__(self) -> None:
    if not self.layers:
      raise ValueError("a model must have at least one prunable layer, got none")
    covered = sorted(index for block in self.blocks for index in block)
    if covered != list(range(len(self.layers))) or not all(self.blocks):
      raise ValueError(
        f"blocks must hold each of the {len(self.layers)} layers exactly once, "
        f"got {self.blocks}"
      )

  @functools.cached_property
  def offsets(self) -> tuple[int, ...]:
    """Start of each layer in the flat vector, then the vector's length."""
    return tuple(np.cumsum([0] + [layer.size for layer in self.layers]).tolist())

  @property
  def size(self) -> int:
    """Number of prunable weights of the model."""
    return self.offsets[-1]

  @property
  def sizes(self) -> tuple[int, ...]:
    """Number of weights of each layer."""
    return tuple(layer.size for layer in self.layers)

  def slice(self, index: int) -> slice:
    """Returns where layer `index` sits in the flat vector."""
    return slice(self.offsets[index], self.offsets[index + 1])

  def with_blocks(self, blocks: Iterable[Sequence[int]]) -> "PrunableSpec":
    """Returns the same layers grouped otherwise."""
    return dataclasses.replace(self, blocks=tuple(tuple(b) for b in blocks))

  def active_counts(self, mask: np.ndarray) -> tuple[int, ...]:
    """Counts unpruned weights per layer.

    Args:
      mask: bool [size].

    Returns:
      One count per layer.
    """
    return tuple(
      int(np.count_nonzero(mask[self.slice(i)])) for i in range(len(self.layers))
    )

  def masks_by_layer(self, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Splits a flat mask into kernels.

    Args:
      mask: bool [size].

    Returns:
      Layer name to bool array in the kernel's shape.
    """
    return {
      layer.name: np.asarray(mask[self.slice(i)], dtype=bool).reshape(layer.shape)
      for i, layer in enumerate(self.layers)
    }
