"""MobileNetV1 (Howard et al., arXiv 1704.04861), twice.

`mobilenet_v1_025` is the visual-wake-words model of MLPerf Tiny: a quarter of the
channels, "same" padding. `mobilenet_v1_sparse` has all channels at width 1 and only
what XNNPACK's sparse path takes on ARM: symmetric padding at stride 2, and a stem on
three channels, so that grey images are repeated.
"""

import tensorflow as tf

from fedtiny_tff.models import layers

_STEM_FILTERS = 32
# Output channels and stride of each depthwise separable unit, block by block.
_UNITS = (
  ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
  ((512, 2), (512, 1), (512, 1)),
  ((512, 1), (512, 1), (512, 1)),
  ((1024, 2),),
  ((1024, 1),),
)
_SPARSE_READY = layers.Style(symmetric=True, relu_limit=6.0)


def _blocks() -> tuple[tuple[str, ...], ...]:
  """Returns the pointwise kernels of each block; the classifier is in the last."""
  starts = [sum(len(block) for block in _UNITS[:i]) + 1 for i in range(len(_UNITS))]
  *first, last = (
    tuple(f"unit{number}_pointwise" for number in range(start, start + len(block)))
    for start, block in zip(starts, _UNITS, strict=True)
  )
  return (*first, (*last, "logits"))


BLOCKS = _blocks()


def _network(
  image: tf.Tensor, num_classes: int, width: float, style: layers.Style
) -> tf.Tensor:
  x = layers.convolution_unit(
    layers.three_channels(image, style),
    layers.scaled(_STEM_FILTERS, width),
    3,
    2,
    "stem",
    style,
  )
  units = (unit for block in _UNITS for unit in block)
  for number, (filters, stride) in enumerate(units, start=1):
    x = layers.depthwise_unit(x, stride, f"unit{number}_depthwise", style)
    x = layers.convolution_unit(
      x, layers.scaled(filters, width), 1, 1, f"unit{number}_pointwise", style
    )
  return layers.logits(layers.pool(x), num_classes)


def mobilenet_v1_025(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies MobileNetV1 with a quarter of its channels; `width` multiplies that."""
  return _network(image, num_classes, 0.25 * width, layers.Style())


def mobilenet_v1_sparse(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies MobileNetV1 in the form that XNNPACK's sparse path takes."""
  return _network(image, num_classes, width, _SPARSE_READY)
