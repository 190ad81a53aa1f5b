"""The one adapter over tfmot's quantisation wrappers, beside `tfmot_masking`.

Both of tfmot's wrappers cannot stand around one layer, so quantisation has an adapter
of its own; everything else goes on as with pruning, because `QuantisedModel` is a
`MaskedModel`: flat vectors in and out, the mask assigned by us. What is rounded, and
how, says `tfmot_quantisers`.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_model_optimization as tfmot

from fedtiny_tff.errors import QuantisationError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_quantisers import (
  LEFT_OUT,
  ActivationQuantizer,
  MaskedPruningPreservingScheme,
  batch_norm_scale,
  observing,
  scope,
)
from fedtiny_tff.model_structure import definition, keras_graphs

# Variables that can be masked, by what Keras calls them.
KERNELS = ("kernel", "depthwise_kernel")


class Ranges(NamedTuple):
  """What every quantised activation may be, one entry per quantiser, in model order.

  Attributes:
    minimum: float32 [quantisers], at most 0.
    maximum: float32 [quantisers], at least 0.
  """

  minimum: tf.Tensor
  maximum: tf.Tensor


@dataclasses.dataclass(frozen=True)
class QuantisedPlan:
  """A model with tfmot's quantisation wrappers, as a description.

  tfmot copies weights while it wraps, which only works eagerly; TFF computations
  build their models from this.

  Attributes:
    definition: The model that is quantised.
    config: Configuration of the wrapped Keras model.
    trainable: (layer, variable) of each trainable variable, as a `MaskedModel` of the
      definition orders them.
    batch_norms: Its batch normalisation layers.
    folded: (dense layer, the batch norm that follows it).
    quantisers: How many activations have a range.
  """

  definition: definition.ModelDefinition
  config: Mapping[str, Any]
  trainable: tuple[tuple[str, str], ...]
  batch_norms: tuple[str, ...]
  folded: tuple[tuple[str, str], ...]
  quantisers: int


def _last_name(variable: tf.Variable) -> str:
  return str(variable.name).rpartition("/")[2].partition(":")[0]


def _folded_pairs(plain: tf.keras.Model) -> tuple[tuple[str, str], ...]:
  """Names every dense layer that a batch norm follows at once, and that batch norm."""
  pairs = []
  for layer in plain.layers:
    if isinstance(layer, tf.keras.layers.BatchNormalization):
      before = layer.inbound_nodes[0].inbound_layers
      if type(before) is tf.keras.layers.Dense:
        pairs.append((before.name, layer.name))
  return tuple(pairs)


def _without_build_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """Drops what makes Keras build tfmot's input layer twice, and gives it our range."""
  layers = []
  for entry in config["layers"]:
    layer = {key: value for key, value in entry.items() if key != "build_config"}
    if layer["class_name"].endswith("QuantizeLayer"):
      quantizer = tf.keras.utils.legacy.serialize_keras_object(ActivationQuantizer())
      layer["config"] = {**layer["config"], "quantizer": quantizer}
    layers.append(layer)
  return {**config, "layers": layers}


@keras_graphs.sparing_eager_models()
def plan_quantisation(model_definition: definition.ModelDefinition) -> QuantisedPlan:
  """Lets tfmot wrap a model; call eagerly.

  Args:
    model_definition: Which model, and which of its layers are masked.

  Raises:
    QuantisationError: Naming the layer that cannot be quantised.
  """
  with tf.Graph().as_default():
    plain = model_definition.build()
    folded = _folded_pairs(plain)
    masked = tfmot_masking.MaskedModel(model_definition)
    trainable = tuple(
      (tfmot_masking.unwrapped(layer).name, _last_name(v))
      for layer in masked.model.layers
      for v in layer.trainable_variables
    )
    batch_norms = tuple(layer.name for layer in masked.batch_norm_layers)
  # Made anew eagerly, with every variable zero.
  annotated = tf.keras.models.clone_model(
    plain,
    clone_function=lambda layer: tfmot.quantization.keras.quantize_annotate_layer(
      tfmot_masking.zero_copy(layer, "float32")
    ),
  )
  scheme = MaskedPruningPreservingScheme(
    frozenset(layer.name for layer in model_definition.spec.layers)
  )
  try:
    with scope():
      # Without a prefix, layers keep their names, by which files are checked.
      wrapped = tfmot.quantization.keras.quantize_apply(annotated, scheme, "")
      config = _without_build_config(wrapped.get_config())
  except (ValueError, RuntimeError, TypeError, KeyError) as error:
    reason = " ".join(str(error).split())
    raise QuantisationError(
      f"model {model_definition.name!r}: tfmot cannot quantise it in training "
      f"({reason[:200]}); {LEFT_OUT}"
    ) from error
  return _checked(
    QuantisedPlan(model_definition, config, trainable, batch_norms, folded, 0)
  )


def _checked(plan: QuantisedPlan) -> QuantisedPlan:
  """Counts quantisers, and makes sure that every trainable variable is still there."""
  with tf.Graph().as_default():
    model = QuantisedModel(plan)
    found = {id(v) for v in model.trainable_variables}
    strange = [v.name for v in model.model.trainable_variables if id(v) not in found]
  if strange:
    raise QuantisationError(
      f"model {plan.definition.name!r}: tfmot adds {strange[0]} when quantising; "
      f"{LEFT_OUT}"
    )
  return dataclasses.replace(plan, quantisers=len(model.range_variables))


class QuantisedModel(tfmot_masking.MaskedModel):
  """A masked model whose layers carry tfmot's quantisation wrappers instead.

  Its flat vectors are those of the `MaskedModel` of the same definition.

  Attributes:
    plan: What it was built from.
    kernel_keys: (layer, variable) of every masked kernel, in the order of the spec.
    range_variables: (minimum, maximum) of every activation quantiser, in model order.
  """

  @keras_graphs.sparing_eager_models()
  def __init__(self, plan: QuantisedPlan):
    """Builds the model with new variables, all 0, in the current graph.

    Raises:
      QuantisationError: When a layer of the definition was turned into others.
    """
    keras_graphs.fix_learning_phase()
    with scope():
      self.model = tf.keras.Model.from_config(copy.deepcopy(dict(plan.config)))
    variables = {
      (layer.name, _last_name(v)): v
      for layer in self.model.layers
      for v in layer.weights
    }
    lost = [name for name, _ in (k for k in plan.trainable if k not in variables)]
    if lost:
      raise QuantisationError(
        f"layer {lost[0]!r} of model {plan.definition.name!r}: tfmot turns it into "
        f"others when quantising; {LEFT_OUT}"
      )
    self.plan = plan
    self.kernel_keys = tuple(
      next((layer.name, name) for name in KERNELS if (layer.name, name) in variables)
      for layer in plan.definition.spec.layers
    )
    self.kernels = tuple(variables[key] for key in self.kernel_keys)
    self.masks = tuple(variables[name, f"{key}_mask"] for name, key in self.kernel_keys)
    kernel_ids = {id(kernel) for kernel in self.kernels}
    trainable = (variables[key] for key in plan.trainable)
    self.dense = tuple(v for v in trainable if id(v) not in kernel_ids)
    self.batch_norm_layers = tuple(
      self.model.get_layer(name).layer for name in plan.batch_norms
    )
    self._means = tuple(layer.moving_mean for layer in self.batch_norm_layers)
    self._variances = tuple(layer.moving_variance for layer in self.batch_norm_layers)
    for dense, norm in plan.folded:
      self.model.get_layer(dense).quantize_config.fold(self.model.get_layer(norm).layer)
    # Quantisers have no step to start, unlike pruning.
    self._steps = ()
    self.range_variables = tuple(
      (variable, variables[layer, name.removesuffix("min") + "max"])
      for (layer, name), variable in variables.items()
      if name.endswith("range_min")
    )

  def copy_from(self, plain: tf.keras.Model) -> None:
    """Takes over the weights of an unwrapped model with the same layers."""
    for layer in plain.layers:
      if layer.weights:
        mine = {_last_name(v): v for v in self.model.get_layer(layer.name).weights}
        for variable in layer.weights:
          mine[_last_name(variable)].assign(variable)

  def observe(self, features: tf.Tensor) -> tf.Tensor:
    """Widens all ranges to what a forward pass on floats shows.

    Weights are masked and nothing is rounded; batch norm and dropout are as in
    inference. So ranges become those of post-training calibration.

    Args:
      features: Inputs [n, ...], n at least 1.

    Returns:
      Outputs [n, ...] of the model before quantisation.
    """
    with observing():
      return self.model(features, training=False)

  def assign_ranges(self, ranges: Ranges) -> None:
    """Sets all ranges."""
    for number, (low, high) in enumerate(self.range_variables):
      low.assign(ranges.minimum[number])
      high.assign(ranges.maximum[number])

  def read_ranges(self) -> Ranges:
    """Reads all ranges."""
    if not self.range_variables:
      return Ranges(tf.zeros([0]), tf.zeros([0]))
    return Ranges(*(tf.stack(ends) for ends in zip(*self.range_variables, strict=True)))

  def enforce_masks(self) -> None:
    """Sets pruned weights to exactly zero, whatever an optimiser did to them."""
    for kernel, mask in zip(self.kernels, self.masks, strict=True):
      kernel.assign(kernel * mask)


def export_model(trained: QuantisedModel) -> tf.keras.Model:
  """Returns the model as it is converted, made eagerly; same outputs in inference.

  Batch norm after a dense layer is folded into it, because the converter would fold it
  into weights that were rounded before and then keep them in floats. Convolutions have
  a scale for each channel, and the converter folds there.

  Args:
    trained: With weights, masks and ranges set.
  """
  with scope():
    model = tf.keras.Model.from_config(_folded_config(trained.plan))
  values = {
    (layer.name, _last_name(v)): tf.convert_to_tensor(v)
    for layer in trained.model.layers
    for v in layer.weights
  }
  for key, kernel, mask in zip(
    trained.kernel_keys, trained.kernels, trained.masks, strict=True
  ):
    values[key] = kernel * mask
  for name, following in trained.plan.folded:
    norm = trained.model.get_layer(following).layer
    scale = batch_norm_scale(norm)
    shift = -norm.moving_mean * scale + (0.0 if norm.beta is None else norm.beta)
    values[name, "kernel"] *= scale
    values[name, "bias"] = values.get((name, "bias"), 0.0) * scale + shift
  for layer in model.layers:
    for variable in layer.weights:
      variable.assign(values[layer.name, _last_name(variable)])
  return model


def _folded_config(plan: QuantisedPlan) -> dict[str, Any]:
  """Gives folded dense layers a bias, and takes the batch norms behind them away."""
  config = copy.deepcopy(dict(plan.config))
  wrappers = {entry["config"]["name"]: entry["config"] for entry in config["layers"]}
  for dense, norm in plan.folded:
    wrappers[dense]["layer"]["config"]["use_bias"] = True
    wrappers[norm]["layer"] = tf.keras.utils.legacy.serialize_keras_object(
      tf.keras.layers.Activation("linear", name=norm)
    )
  return config


def no_ranges(plan: QuantisedPlan) -> Ranges:
  """Returns the ranges before anything was observed."""
  return Ranges(tf.zeros([plan.quantisers]), tf.zeros([plan.quantisers]))
