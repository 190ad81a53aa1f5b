"""DS-CNN, the keyword-spotting model of MLPerf Tiny (49×10 MFCC features).

Source: Zhang et al., "Hello Edge", arXiv 1711.07128, its small size. Dropout is left
out, so that runs stay reproducible.
"""

import tensorflow as tf

from fedtiny_tff.models import layers

_FILTERS = 64
# Time by frequency.
_STEM_SIZE = (10, 4)
_UNITS = ("unit1", "unit2", "unit3", "unit4")

BLOCKS = (
  ("unit1_pointwise", "unit2_pointwise"),
  ("unit3_pointwise",),
  ("unit4_pointwise", "logits"),
)


def ds_cnn(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies a 10×4 convolution, four depthwise separable ones, and a classifier."""
  filters = layers.scaled(_FILTERS, width)
  x = layers.convolution_unit(image, filters, _STEM_SIZE, 2, "stem")
  for unit in _UNITS:
    x = layers.depthwise_unit(x, 1, f"{unit}_depthwise")
    x = layers.convolution_unit(x, filters, 1, 1, f"{unit}_pointwise")
  return layers.logits(layers.pool(x), num_classes)
