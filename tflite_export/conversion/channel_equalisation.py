"""Makes channels in front of depthwise convolutions about as large as one another.

All channels of an activation share a scale in int8. A channel that lost all weights to
pruning is a constant, often a tiny one, which then rounds to 0 or to twice itself; and
the batch norm behind the depthwise convolution has learnt to multiply what is left of it
by up to 300. MobileNetV1 at a tenth of its weights lost 40 points of accuracy so.

ReLU lets factors through: a channel may be multiplied before it and its depthwise kernel
divided. Factors are powers of two, so that the model's outputs stay the same, to the bit
where no channel is without weights. Masks stay as they are, and a depthwise kernel has a
scale for each channel in int8.

Source: Nagel et al., arXiv 1906.04721, section 4.1; here sizes follow from batch norm
instead of the kernels, which have been given their own scales since.
"""

import collections
import math
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array

# So that float16 still holds the kernels that are divided.
_LARGEST_FACTOR = 256.0
# Standard deviations above the mean to which a channel is taken to reach.
_REACH = 4.0

_keras = tf.keras.layers


class _Chain(NamedTuple):
  """Layers that only follow one another; padding with zeros may stand between.

  Attributes:
    convolution: Conv2D.
    batch_norm: After it.
    limit: Largest output of the ReLU after that, infinite without a limit.
    depthwise: DepthwiseConv2D, after that.
  """

  convolution: tf.keras.layers.Layer
  batch_norm: tf.keras.layers.Layer
  limit: float
  depthwise: tf.keras.layers.Layer


def equalise(model: tf.keras.Model) -> int:
  """Multiplies and divides wherever Conv2D, batch norm, ReLU and depthwise follow.

  Behind a ReLU with a limit only constants are multiplied: of others it is not known
  what reaches the limit.

  Args:
    model: Functional, of Keras's layers; changed in place.

  Returns:
    How many channels were multiplied by more than 1.
  """
  before = _only_sources(model)
  count = 0
  for layer in model.layers:
    if type(layer) is _keras.DepthwiseConv2D:
      chain = _chain(layer, before)
      if chain is not None:
        count += _equalise(chain)
  return count


def _only_sources(model: tf.keras.Model) -> dict[str, tf.keras.layers.Layer]:
  """Returns the layer before each that is used once and alone reads what it reads.

  The configuration tells of this model alone; layers may be in others too.
  """
  configs = model.get_config()["layers"]
  names = {config["config"]["name"] for config in configs}
  readers = collections.Counter(model.output_names)
  sources: dict[str, list[list[str]]] = {}
  for config in configs:
    for node in config.get("inbound_nodes", ()):
      found = [
        each
        for each in tf.nest.flatten(node)
        if isinstance(each, str) and each in names
      ]
      sources.setdefault(config["config"]["name"], []).append(found)
      readers.update(found)
  return {
    name: model.get_layer(nodes[0][0])
    for name, nodes in sources.items()
    if len(nodes) == 1 and len(nodes[0]) == 1 and readers[nodes[0][0]] == 1
  }


def _chain(
  depthwise: tf.keras.layers.Layer, before: dict[str, tf.keras.layers.Layer]
) -> Optional[_Chain]:
  """Returns the chain that ends in a layer, None where others stand before it."""
  activation = before.get(depthwise.name)
  if type(activation) is _keras.ZeroPadding2D:
    activation = before.get(activation.name)
  limit = _limit(activation)
  if activation is None or limit is None:
    return None
  norm = before.get(activation.name)
  if type(norm) is not _keras.BatchNormalization or not (norm.scale and norm.center):
    return None
  convolution = before.get(norm.name)
  if type(convolution) is not _keras.Conv2D or list(norm.axis) != [3]:
    return None
  if convolution.activation is not tf.keras.activations.linear:
    return None
  return _Chain(convolution, norm, limit, depthwise)


def _limit(layer: Optional[tf.keras.layers.Layer]) -> Optional[float]:
  """Returns the largest output of a ReLU, None for another layer."""
  if type(layer) is _keras.Activation:
    return math.inf if layer.activation is tf.keras.activations.relu else None
  if type(layer) is not _keras.ReLU or layer.threshold:
    return None
  return math.inf if layer.max_value is None else float(layer.max_value)


def _equalise(chain: _Chain) -> int:
  """Changes the variables of a chain; returns how many channels were multiplied."""
  constant = _settle_constants(chain)
  norm = chain.batch_norm
  gamma, beta, variance = (
    each.numpy() for each in (norm.gamma, norm.beta, norm.moving_variance)
  )
  deviation = np.abs(gamma) * np.sqrt(variance / (variance + norm.epsilon))
  reach = np.maximum(beta + np.where(constant, 0.0, _REACH * deviation), 0.0)
  wanted, movable = reach.max(), reach > 0
  if chain.limit < math.inf:
    wanted, movable = chain.limit, movable & constant
  ratio = wanted / np.where(movable, reach, wanted or 1.0)
  exponent = np.floor(np.log2(np.clip(ratio, 1.0, _LARGEST_FACTOR)))
  factor = np.exp2(exponent).astype(np.float32)
  norm.gamma.assign(np.where(constant, gamma, gamma * factor))
  norm.beta.assign(beta * factor)
  kernel = chain.depthwise.depthwise_kernel
  kernel.assign(kernel.numpy() / factor[:, np.newaxis])
  return int((factor > 1).sum())


def _settle_constants(chain: _Chain) -> Array:
  """Gives channels without weights a batch norm of gain 1 and the same output.

  They have a variance of 0, so that their gain is all that epsilon allows; multiplied,
  it would exceed what XNNPACK takes as a scale.

  Returns:
    bool [channels], True for a channel without weights.
  """
  kernel, norm = chain.convolution.kernel.numpy(), chain.batch_norm
  constant = ~kernel.any(axis=(0, 1, 2))
  gamma, beta, mean, variance = (each.numpy() for each in norm.weights)
  bias = 0.0 if chain.convolution.bias is None else chain.convolution.bias.numpy()
  output = beta + (bias - mean) * gamma / np.sqrt(variance + norm.epsilon)
  settled = (1.0, output, bias, 1.0 - norm.epsilon)
  for variable, given, value in zip(
    norm.weights, (gamma, beta, mean, variance), settled, strict=True
  ):
    variable.assign(np.where(constant, value, given).astype(np.float32))
  return np.asarray(constant)
