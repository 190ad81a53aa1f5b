"""Fully connected autoencoder: anomaly detection of MLPerf Tiny.

As published (arXiv 2106.07597, reference code): 640 inputs, four layers of 128
units, a bottleneck of 8, four of 128, 640 outputs; batch norm and ReLU follow every
layer but the last. Here hidden layers have no bias, which batch norm would cancel;
batch norm and initial weights follow `layers`. That makes 266,896 trainable
parameters; the original adds 1,032 biases, and 2,064 moving statistics to the count.
"""

import tensorflow as tf

from fedtiny_tff.models import layers

_HIDDEN_UNITS = 128
_HIDDEN_LAYERS = 4
_BOTTLENECK_UNITS = 8

_ENCODER = tuple(f"encoder{number + 1}" for number in range(_HIDDEN_LAYERS))
_DECODER = tuple(f"decoder{number + 1}" for number in range(_HIDDEN_LAYERS))

BLOCKS = (_ENCODER, ("bottleneck", *_DECODER), ("reconstruction",))


def autoencoder(inputs: tf.Tensor, outputs: int, width: float) -> tf.Tensor:
  """Maps examples of any shape to a flat reconstruction.

  Args:
    inputs: [None, ...], at least one dimension besides the batch.
    outputs: Values of one example.
    width: Multiplies every number of hidden units, the bottleneck's too.

  Returns:
    [None, outputs], in the row-major order of the input.
  """
  x = inputs
  if len(x.shape) > 2:
    x = tf.keras.layers.Flatten(name="flatten")(x)
  hidden = layers.scaled(_HIDDEN_UNITS, width)
  for name in _ENCODER:
    x = layers.dense_unit(x, hidden, name)
  x = layers.dense_unit(x, layers.scaled(_BOTTLENECK_UNITS, width), "bottleneck")
  for name in _DECODER:
    x = layers.dense_unit(x, hidden, name)
  return tf.keras.layers.Dense(outputs, name="reconstruction")(x)
