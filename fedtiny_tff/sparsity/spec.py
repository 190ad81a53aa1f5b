"""Static description of what is pruned: layers, their order, their blocks.

All prunable weights of a model live in one flat float32 vector, layer after
layer in model order, each layer flattened row-major from its Keras kernel. The
spec says where each layer sits in it. It is Python, never a tensor.
"""

import dataclasses
import functools
import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from fedtiny_tff.arrays import Array


@dataclasses.dataclass(frozen=True)
class LayerSpec:
  """One prunable kernel.

  Attributes:
    name: Keras layer name.
    shape: Kernel shape in Keras layout (Conv2D: HWIO, Dense: IO).
    channel_block: Neighbouring output channels, the last axis, whose weights at one
      input position are kept and dropped together; divides their number.
  """

  name: str
  shape: tuple[int, ...]
  channel_block: int = 1

  def __post_init__(self) -> None:
    """Refuses blocks that do not divide the channels with a ValueError."""
    if self.channel_block < 1 or self.shape[-1] % self.channel_block:
      raise ValueError(
        f"channel_block of layer {self.name!r} must divide its {self.shape[-1]} output "
        f"channels, got {self.channel_block}"
      )

  @property
  def size(self) -> int:
    """Number of weights in the kernel."""
    return math.prod(self.shape)

  @property
  def groups(self) -> int:
    """Number of groups of weights that masks keep or drop whole.

    A group is `channel_block` consecutive weights of the flattened kernel.
    """
    return self.size // self.channel_block


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
    """Refuses blocks that do not hold each layer once with a ValueError."""
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

  @property
  def channel_blocks(self) -> tuple[int, ...]:
    """Weights of a group in each layer."""
    return tuple(layer.channel_block for layer in self.layers)

  def slice(self, index: int) -> slice:
    """Returns where layer `index` sits in the flat vector."""
    return slice(self.offsets[index], self.offsets[index + 1])

  def with_blocks(self, blocks: Iterable[Sequence[int]]) -> "PrunableSpec":
    """Returns the same layers grouped otherwise."""
    return dataclasses.replace(self, blocks=tuple(tuple(b) for b in blocks))

  def with_channel_block(self, channel_block: int) -> "PrunableSpec":
    """Returns the same layers, masked in groups of neighbouring output channels.

    Args:
      channel_block: Output channels of a group. A layer whose channels it does not
        divide takes the greatest common divisor: of 6 channels, pairs instead of 4.
    """
    layers = tuple(
      dataclasses.replace(layer, channel_block=math.gcd(channel_block, layer.shape[-1]))
      for layer in self.layers
    )
    return dataclasses.replace(self, layers=layers)

  def restricted_to(self, names: Collection[str]) -> "PrunableSpec":
    """Returns the named layers alone; blocks that lose all of theirs are gone.

    Args:
      names: Layers to keep; others are ignored.

    Raises:
      ValueError: When none is left.
    """
    kept = [i for i, layer in enumerate(self.layers) if layer.name in names]
    blocks = (tuple(kept.index(i) for i in b if i in kept) for b in self.blocks)
    return PrunableSpec(
      tuple(self.layers[i] for i in kept), tuple(block for block in blocks if block)
    )

  def active_counts(self, mask: Array) -> tuple[int, ...]:
    """Counts unpruned weights per layer.

    Args:
      mask: bool [size].

    Returns:
      One count per layer.
    """
    return tuple(
      int(np.count_nonzero(mask[self.slice(i)])) for i in range(len(self.layers))
    )

  def masks_by_layer(self, mask: Array) -> dict[str, Array]:
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
