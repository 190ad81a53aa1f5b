"""MobileNetV2 (Sandler et al., arXiv 1801.04381), for XNNPACK's sparse path on ARM.

Symmetric padding at stride 2 is all that differs from the paper's network, that grey
images are repeated for a stem on three channels, and that `width` multiplies the last
1,280 channels too, which the paper keeps below width 1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from fedtiny_tff.models import layers


class _Unit(NamedTuple):
  """An inverted residual unit.

  Attributes:
    name: Prefix of its layers.
    expansion: Inner channels per input channel; 1 has no layer of its own.
    filters: Output channels.
    stride: Of the depthwise convolution.
  """

  name: str
  expansion: int
  filters: int
  stride: int

  @property
  def kernels(self) -> tuple[str, ...]:
    """Prunable layers."""
    parts = ("expand", "project") if self.expansion != 1 else ("project",)
    return tuple(f"{self.name}_{part}" for part in parts)


_STEM_FILTERS = 32
_LAST_FILTERS = 1280
# Expansion, output channels, units and stride of the first unit of each stage.
_STAGES = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)
_STYLE = layers.Style(symmetric=True, relu_limit=6.0)


def _units(first: int, last: int) -> Iterator[_Unit]:
  """Yields the units of stages `first` to `last`, counted from 1."""
  for stage in range(first, last + 1):
    expansion, filters, count, stride = _STAGES[stage - 1]
    for unit in range(1, count + 1):
      name = f"stage{stage}_unit{unit}"
      yield _Unit(name, expansion, filters, stride if unit == 1 else 1)


def _kernels(first: int, last: int) -> tuple[str, ...]:
  return tuple(kernel for unit in _units(first, last) for kernel in unit.kernels)


BLOCKS = (
  _kernels(1, 4),
  _kernels(5, 5),
  _kernels(6, 6),
  (*_kernels(7, 7), "last", "logits"),
)


def _inverted_residual(x: tf.Tensor, unit: _Unit, width: float) -> tf.Tensor:
  name, channels = unit.name, x.shape[-1]
  filters = layers.scaled(unit.filters, width)
  y = x
  if unit.expansion != 1:
    y = layers.convolution_unit(
      y, unit.expansion * channels, 1, 1, f"{name}_expand", _STYLE
    )
  y = layers.depthwise_unit(y, unit.stride, f"{name}_depthwise", _STYLE)
  y = layers.convolution(y, filters, 1, 1, f"{name}_project")
  y = layers.batch_norm(y, f"{name}_project")
  if unit.stride == 1 and channels == filters:
    y = tf.keras.layers.Add(name=f"{name}_add")([x, y])
  return y


def mobilenet_v2_sparse(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies MobileNetV2 in the form that XNNPACK's sparse path takes."""
  x = layers.convolution_unit(
    layers.three_channels(image, _STYLE),
    layers.scaled(_STEM_FILTERS, width),
    3,
    2,
    "stem",
    _STYLE,
  )
  for unit in _units(1, len(_STAGES)):
    x = _inverted_residual(x, unit, width)
  last = layers.scaled(_LAST_FILTERS, width)
  x = layers.convolution_unit(x, last, 1, 1, "last", _STYLE)
  return layers.logits(layers.pool(x), num_classes)
