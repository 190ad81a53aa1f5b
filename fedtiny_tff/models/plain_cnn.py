"""Small plain networks: 3×3 convolutions with batch norm, then a classifier."""

from collections.abc import Sequence

import tensorflow as tf

from fedtiny_tff.models import layers

# Output channels and stride of each convolution.
_SMALL = ((32, 1), (64, 2), (128, 2))
_DIGITS = ((16, 1), (32, 1), (32, 2), (64, 1))
_DIGITS_HIDDEN_UNITS = 64

SMALL_CNN_BLOCKS = (("conv2",), ("conv3", "logits"))
DIGITS_CNN_BLOCKS = (("conv2",), ("conv3", "conv4"), ("dense1", "logits"))


def _features(
  image: tf.Tensor, convolutions: Sequence[tuple[int, int]], width: float
) -> tf.Tensor:
  x = image
  for number, (filters, stride) in enumerate(convolutions, start=1):
    x = layers.convolution_unit(
      x, layers.scaled(filters, width), 3, stride, f"conv{number}"
    )
  return layers.pool(x)


def small_cnn(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies three convolutions of 32, 64 and 128 channels, and a classifier.

  The dense competitor of a pruned model of equal size: for RGB images and 10 classes
  widths of 0.31, 0.63, 0.875 and 1.05 have about 10, 38, 73 and 105 thousand
  parameters.
  """
  return layers.logits(_features(image, _SMALL, width), num_classes)


def digits_cnn(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies four convolutions and two dense layers, for 8×8 grey-scale digits."""
  x = _features(image, _DIGITS, width)
  x = layers.hidden(x, layers.scaled(_DIGITS_HIDDEN_UNITS, width), "dense1")
  return layers.logits(x, num_classes)
