"""Residual networks: ResNet18 with a CIFAR stem, and ResNet-8 of MLPerf Tiny.

ResNet18 (He et al., arXiv 1512.03385) starts as FedTiny's does: a 3×3 convolution
at stride 1 and no max-pooling.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from fedtiny_tff.models import layers


class _Unit(NamedTuple):
  """A residual unit.

  Attributes:
    name: Prefix of its layers.
    filters: Output channels.
    stride: Of its first convolution and of its shortcut, which it has if not 1.
  """

  name: str
  filters: int
  stride: int

  @property
  def kernels(self) -> tuple[str, ...]:
    """Prunable layers."""
    parts = ("conv1", "conv2", "shortcut") if self.stride != 1 else ("conv1", "conv2")
    return tuple(f"{self.name}_{part}" for part in parts)


_RESNET8 = (_Unit("unit1", 16, 1), _Unit("unit2", 32, 2), _Unit("unit3", 64, 2))
_RESNET18 = tuple(
  _Unit(f"stage{stage}_unit{unit}", filters, 2 if stage > 1 and unit == 1 else 1)
  for stage, filters in enumerate((64, 128, 256, 512), start=1)
  for unit in (1, 2)
)


def _blocks(*groups: Sequence[_Unit]) -> tuple[tuple[str, ...], ...]:
  """Returns the kernels of each group of units; the classifier is in the last."""
  *first, last = (tuple(k for unit in group for k in unit.kernels) for group in groups)
  return (*first, (*last, "logits"))


RESNET8_BLOCKS = _blocks(*((unit,) for unit in _RESNET8))
# Stages 1 to 3, then the two units of stage 4, as in FedTiny.
RESNET18_BLOCKS = _blocks(
  _RESNET18[0:2], _RESNET18[2:4], _RESNET18[4:6], _RESNET18[6:7], _RESNET18[7:8]
)


def _residual_unit(
  x: tf.Tensor, unit: _Unit, width: float, shortcut_batch_norm: bool
) -> tf.Tensor:
  name, stride = unit.name, unit.stride
  filters = layers.scaled(unit.filters, width)
  y = layers.convolution_unit(x, filters, 3, stride, f"{name}_conv1")
  y = layers.convolution(y, filters, 3, 1, f"{name}_conv2")
  y = layers.batch_norm(y, f"{name}_conv2")
  if stride != 1:
    x = layers.convolution(x, filters, 1, stride, f"{name}_shortcut")
    if shortcut_batch_norm:
      x = layers.batch_norm(x, f"{name}_shortcut")
  return layers.relu(tf.keras.layers.Add(name=f"{name}_add")([x, y]), name)


def _network(
  image: tf.Tensor,
  num_classes: int,
  width: float,
  units: Sequence[_Unit],
  shortcut_batch_norm: bool,
) -> tf.Tensor:
  stem_filters = layers.scaled(units[0].filters, width)
  x = layers.convolution_unit(image, stem_filters, 3, 1, "stem")
  for unit in units:
    x = _residual_unit(x, unit, width, shortcut_batch_norm)
  return layers.logits(layers.pool(x), num_classes)


def resnet8(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies a stem, three units of 16, 32 and 64 channels, and a classifier."""
  return _network(image, num_classes, width, _RESNET8, shortcut_batch_norm=False)


def resnet18(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies a stem, two units each of 64, 128, 256, 512 channels, and a classifier."""
  return _network(image, num_classes, width, _RESNET18, shortcut_batch_norm=True)
