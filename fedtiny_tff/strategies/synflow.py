"""SynFlow: one mask, by how much of the model's flow passes through a weight. No data.

"Pruning neural networks without any data by iteratively conserving synaptic flow",
H. Tanaka et al., NeurIPS 2020, arXiv 2006.05467.

    R = sum of the outputs for an input of ones, every weight being |weight|
    score of a weight = |weight| * dR/d|weight|
    keep the highest scores of all layers, in steps: `saliency`
    FedAvg of what is left; the mask never moves

R is the paper's product of weights over all paths: the model is linear, without biases.
To ReLU, what is positive passes anyway; activations that end somewhere, as ReLU6
does, would block large flows. Batch norm is in inference mode with mean 0, variance 1
and shift 0, as untrained models have them and the paper's code prunes them; its scale
is a weight of the paths.

R of deep models leaves the range of float32, so that all of this is in float64.
"""

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import base, saliency, sparse
from fedtiny_tff.strategies.pruning_config import PruningConfig

_DTYPE = "float64"
_ACTIVATIONS = (
  tf.keras.layers.Activation,
  tf.keras.layers.ELU,
  tf.keras.layers.LeakyReLU,
  tf.keras.layers.PReLU,
  tf.keras.layers.ReLU,
  tf.keras.layers.Softmax,
  tf.keras.layers.ThresholdedReLU,
)
# What is no weight of a path, by variable name, and what it is instead.
_NEUTRAL = {"bias": 0.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}


def _make_layer(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
  if isinstance(layer, _ACTIVATIONS):
    return tf.keras.layers.Activation("linear", name=layer.name, dtype=_DTYPE)
  config = layer.get_config() | {"dtype": _DTYPE}
  if "activation" in config:
    config["activation"] = "linear"
  return type(layer).from_config(config)


def _positive(variable: tf.Variable) -> Array:
  name = variable.name.rpartition("/")[2].partition(":")[0]
  magnitudes: Array = np.abs(variable.numpy())
  return np.full_like(magnitudes, _NEUTRAL[name]) if name in _NEUTRAL else magnitudes


class _SynapticFlow:
  """The linear model of positive weights."""

  def __init__(self, start: base.Pretrained):
    """Builds the model eagerly."""
    self._name = start.definition.name
    self._plain = saliency.PlainModel(start, _make_layer)
    self._strengths = np.abs(np.asarray(start.weights.prunable, np.float64))
    model = self._plain.model
    for variable in model.variables:
      variable.assign(_positive(variable))
    self._ones = tf.ones([1, *model.input_shape[1:]], tf.float64)

  def scores(self, mask: Array) -> Array:
    """Returns the flow through every weight, float64 [prunable weights].

    Args:
      mask: bool [prunable weights].

    Raises:
      InputError: When nothing is pruned and there is no flow, or one beyond float64.
    """
    active = np.where(mask, self._strengths, 0.0)
    self._plain.assign(active)
    with tf.GradientTape() as tape:
      flow = tf.reduce_sum(self._plain.model(self._ones, training=False))
    gradients = tape.gradient(
      flow, self._plain.kernels, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # Layers that subtract, as layer normalisation does, make some of them negative.
    flows: Array = np.abs(active * saliency.flat(gradients))
    if mask.all():
      self._check(flows)
    return flows

  def _check(self, flows: Array) -> None:
    """Refuses a dense model whose flow ranks nothing."""
    problem = ""
    if not np.isfinite(flows).all():
      problem = "is not finite"
    elif not flows.any():
      problem = "never reaches its outputs"
    if problem:
      raise InputError(
        f"strategy {SynFlow.name}: the flow through model {self._name!r} {problem}; "
        "choose another strategy"
      )


class SynFlow(sparse.SparseStrategy):
  """Pruning by synaptic flow, without data."""

  name = "synflow"
  citation = "SynFlow (arXiv 2006.05467)"

  def candidate_masks(self, start: base.Pretrained, config: PruningConfig) -> Array:
    """Keeps the weights of largest flow, whatever layer they are in.

    Raises:
      InputError: When the dense model has no flow, or one beyond float64.
    """
    spec = start.definition.spec
    scores = _SynapticFlow(start).scores
    return saliency.mask_in_steps(spec, config.target_density, scores)[np.newaxis]
