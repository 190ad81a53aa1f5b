"""The one adapter over tfmot's pruning wrapper.

tfmot decides masks by its own magnitude schedule and has no interface for a mask
made elsewhere. Here its `PruneLowMagnitude` wrapper only *applies* masks: the
schedule never prunes, and the wrapper's mask variable is assigned by us. Client
training, fine-tuning and export go through this module and no other.

Weights, masks and statistics cross this border as the flat vectors of
`ModelWeights`.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import tensorflow as tf
import tensorflow_model_optimization as tfmot

from fedtiny_tff.masked_models import compute_dtypes
from fedtiny_tff.model_structure import definition, keras_graphs


class ModelWeights(NamedTuple):
  """All variables of a masked model as flat vectors.

  Attributes:
    prunable: float32 [prunable weights], zero where pruned.
    dense: float32 [other trainable parameters]: stem, biases, BN scale and shift.
    batch_norm_mean: float32 [BN channels], running means.
    batch_norm_variance: float32 [BN channels], running variances.
  """

  prunable: tf.Tensor
  dense: tf.Tensor
  batch_norm_mean: tf.Tensor
  batch_norm_variance: tf.Tensor


# From a prunable layer that is not built yet, and from what returns its kernel's mask
# (1 active, 0 pruned) when the model is called, to the layer that stands in its place,
# with the same variables; tfmot must know its type or find `get_prunable_weights`.
LayerTransform = Callable[
  [tf.keras.layers.Layer, Callable[[], tf.Tensor]], tf.keras.layers.Layer
]


class NeverPrune(tfmot.sparsity.keras.PruningSchedule):
  """A schedule under which tfmot never changes a mask by itself."""

  def __call__(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (do not prune, sparsity 0) at every step."""
    del step
    return tf.constant(False), tf.constant(0.0)

  def get_config(self) -> dict[str, object]:
    """Returns the configuration Keras serialises."""
    return {"class_name": type(self).__name__, "config": {}}


def _flatten(variables: Sequence[tf.Variable]) -> tf.Tensor:
  if not variables:
    return tf.zeros([0], tf.float32)
  return tf.concat([tf.reshape(v, [-1]) for v in variables], axis=0)


def _assign_flat(variables: Sequence[tf.Variable], vector: tf.Tensor) -> None:
  sizes = [v.shape.num_elements() for v in variables]
  if not sizes:
    return
  for variable, part in zip(variables, tf.split(vector, sizes), strict=True):
    variable.assign(tf.reshape(tf.cast(part, variable.dtype), variable.shape))


def zero_copy(layer: tf.keras.layers.Layer, policy: str) -> tf.keras.layers.Layer:
  """Makes a layer anew, under a dtype policy, with every variable starting at zero.

  The weights are always assigned; drawing millions of them first, for each client
  of each round, costs more than a small client's training.
  """
  config = {
    name: "zeros" if name.endswith("_initializer") else value
    for name, value in layer.get_config().items()
  }
  if not isinstance(layer, tf.keras.layers.InputLayer):
    config["dtype"] = policy
  return type(layer).from_config(config)


def unwrapped(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
  """Returns the layer that tfmot's pruning wrapper stands around, or itself."""
  # Keras has wrappers too, with a `layer` of their own.
  return layer.layer if hasattr(layer, "pruning_vars") else layer


class MaskedModel:
  """A Keras model whose prunable layers carry tfmot's wrapper.

  Attributes:
    model: The wrapped Keras model; every forward pass masks the weights.
    kernels: Prunable kernels, in the order of the spec.
    masks: Their mask variables (1.0 active, 0.0 pruned).
    dense: All other trainable variables, in model order.
    batch_norm_layers: Batch normalisation layers, in model order.
  """

  @keras_graphs.sparing_eager_models()
  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    compute_dtype: str = "float32",
    layer_transform: Optional[LayerTransform] = None,
  ):
    """Builds the model with new variables in the current graph.

    Args:
      model_definition: Which model, and which of its layers are wrapped.
      compute_dtype: Key of `compute_dtypes.POLICIES`: what layers compute in.
        Variables and the output layer are float32 always.
      layer_transform: What replaces prunable layers; None leaves them as they are.
    """
    spec = model_definition.spec
    prunable = {layer.name for layer in spec.layers}
    policy = compute_dtypes.POLICIES[compute_dtype]
    # In a graph of its own: variables made beside ours would be initialised, at
    # every call of a TFF computation, although nothing uses them.
    with tf.Graph().as_default():
      plain = model_definition.build()
    outputs = set(plain.output_names)

    def wrap(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
      own = "float32" if layer.name in outputs else policy
      copy = zero_copy(layer, own)
      if layer.name not in prunable:
        return copy
      if layer_transform is not None:
        copy = layer_transform(copy, lambda: wrapper.pruning_vars[0][1])
      wrapper = tfmot.sparsity.keras.prune_low_magnitude(
        copy, pruning_schedule=NeverPrune(), dtype=own
      )
      return wrapper

    keras_graphs.fix_learning_phase()
    self.model: tf.keras.Model = tf.keras.models.clone_model(plain, clone_function=wrap)
    by_name = {unwrapped(w).name: w for w in self.model.layers}
    wrappers = [by_name[layer.name] for layer in spec.layers]
    self.kernels = tuple(w.pruning_vars[0][0] for w in wrappers)
    self.masks = tuple(w.pruning_vars[0][1] for w in wrappers)
    self._steps = tuple(w.pruning_step for w in wrappers)
    kernel_ids = {id(kernel) for kernel in self.kernels}
    self.dense = tuple(
      v for v in self.model.trainable_variables if id(v) not in kernel_ids
    )
    self.batch_norm_layers = tuple(
      layer
      for layer in self.model.layers
      if isinstance(layer, tf.keras.layers.BatchNormalization)
    )
    self._means = tuple(layer.moving_mean for layer in self.batch_norm_layers)
    self._variances = tuple(layer.moving_variance for layer in self.batch_norm_layers)

  @property
  def trainable_variables(self) -> tuple[tf.Variable, ...]:
    """Kernels first, then all other trainable variables."""
    return self.kernels + self.dense

  @property
  def variables_of_vectors(self) -> dict[str, tuple[tf.Variable, ...]]:
    """The variables that each vector of `ModelWeights` holds, in order, by its name."""
    groups = (self.kernels, self.dense, self._means, self._variances)
    return dict(zip(ModelWeights._fields, groups, strict=True))

  def assign(self, weights: ModelWeights, mask: tf.Tensor) -> None:
    """Sets weights and masks.

    Args:
      weights: Flat vectors.
      mask: bool [prunable weights].
    """
    _assign_flat(self.kernels, weights.prunable)
    _assign_flat(self.masks, tf.cast(mask, tf.float32))
    _assign_flat(self.dense, weights.dense)
    self.assign_batch_norm(weights.batch_norm_mean, weights.batch_norm_variance)
    for step in self._steps:
      # tfmot asserts that the step counter was started before training.
      step.assign(0)

  def copy_from(self, plain: tf.keras.Model) -> None:
    """Takes over the weights of an unwrapped model with the same layers."""
    for layer in self.model.layers:
      target = unwrapped(layer)
      if not target.weights:
        continue  # Inputs and activations may be named anew at each build.
      for variable, value in zip(
        target.weights, plain.get_layer(target.name).weights, strict=True
      ):
        variable.assign(value)

  def assign_batch_norm(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
    """Sets the running statistics, each float [BN channels]."""
    _assign_flat(self._means, mean)
    _assign_flat(self._variances, variance)

  def read(self) -> ModelWeights:
    """Reads the weights, masked.

    The mask is applied once more because the last optimiser step may have moved
    pruned weights since the last forward pass.
    """
    kernels = [k * m for k, m in zip(self.kernels, self.masks, strict=True)]
    return ModelWeights(
      prunable=_flatten(kernels),
      dense=_flatten(self.dense),
      batch_norm_mean=_flatten(self._means),
      batch_norm_variance=_flatten(self._variances),
    )

  def mask_gradients(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Zeroes the gradients of pruned weights, so that no optimiser state grows.

    Args:
      gradients: In the order of `trainable_variables`.
    """
    count = len(self.kernels)
    masked = [g * m for g, m in zip(gradients[:count], self.masks, strict=True)]
    return masked + list(gradients[count:])


def strip(masked: MaskedModel) -> tf.keras.Model:
  """Removes the wrappers.

  Args:
    masked: Model whose weights and masks are set (eagerly).

  Returns:
    A plain Keras model; pruned weights are exactly zero.
  """
  for kernel, mask in zip(masked.kernels, masked.masks, strict=True):
    kernel.assign(kernel * mask)
  return tfmot.sparsity.keras.strip_pruning(masked.model)


def initial_weights(
  model_definition: definition.ModelDefinition, seed: int
) -> ModelWeights:
  """Builds the model eagerly and draws its initial weights.

  Args:
    model_definition: The model.
    seed: Seed of the run; the same seed gives the same weights.

  Returns:
    Unmasked weights.
  """
  plain = model_definition.build()
  model_definition.set_initial_weights(plain, seed)
  masked = MaskedModel(model_definition)
  masked.copy_from(plain)
  return masked.read()


def vector_sizes(model_definition: definition.ModelDefinition) -> ModelWeights:
  """Returns the lengths of the model's flat vectors, as integers.

  The model is built for it, once: every computation asks for them.
  """
  if (known := _SIZES.get(model_definition)) is None:
    known = _SIZES[model_definition] = _measured_sizes(model_definition)
  return known


@keras_graphs.sparing_eager_models()
def _measured_sizes(model_definition: definition.ModelDefinition) -> ModelWeights:
  with tf.Graph().as_default():
    masked = MaskedModel(model_definition)
    weights = masked.read()
  return ModelWeights(*(vector.shape[0] for vector in weights))


# Forgotten together with the definition, which may hold a model of the user's.
_SIZES: weakref.WeakKeyDictionary[definition.ModelDefinition, ModelWeights] = (
  weakref.WeakKeyDictionary()
)
