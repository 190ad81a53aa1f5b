"""VGG11 with batch norm (Simonyan and Zisserman, arXiv 1409.1556), as FedTiny has it.

Eight convolutions and a head of 512 and 512 units. Dropout is left out: masks and
batch norm regularise already, and runs stay reproducible.
"""

import tensorflow as tf

from fedtiny_tff.models import layers

# Output channels of each 3×3 convolution, and which of them end in max-pooling.
_FILTERS = (64, 128, 256, 256, 512, 512, 512, 512)
_POOLED = (1, 2, 4, 6, 8)
_HIDDEN_UNITS = 512

# Prunable tensors in pairs.
BLOCKS = (
  ("conv2", "conv3"),
  ("conv4", "conv5"),
  ("conv6", "conv7"),
  ("conv8", "dense1"),
  ("dense2", "logits"),
)


def vgg11_bn(image: tf.Tensor, num_classes: int, width: float) -> tf.Tensor:
  """Applies convolutions with max-pooling, two hidden layers and a classifier."""
  x = image
  for number, filters in enumerate(_FILTERS, start=1):
    x = layers.convolution_unit(x, layers.scaled(filters, width), 3, 1, f"conv{number}")
    if number in _POOLED:
      x = tf.keras.layers.MaxPooling2D(name=f"conv{number}_pool")(x)
  x = layers.pool(x)
  for name in ("dense1", "dense2"):
    x = layers.hidden(x, layers.scaled(_HIDDEN_UNITS, width), name)
  return layers.logits(x, num_classes)
