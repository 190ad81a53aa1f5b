"""A run's model with everything that the flags decide about what is pruned in it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition, keras_graphs, pruning_scope
from fedtiny_tff.models import registry, table, user_model_checks
from fedtiny_tff.sparsity import candidates, densities, schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from pipelines.settings import config as config_lib

_SPARSE_ON_ARM = "xnnpack"
# Digits of a density that is proposed.
_SHOWN_DIGITS = 4


def find_model(
  config: config_lib.RunConfig,
  input_shape: tuple[int, ...],
  num_classes: Optional[int],
  strategy: base.Strategy,
  width: Optional[float] = None,
) -> definition.ModelDefinition:
  """Returns the model with the layers, groups and blocks that adjustments go by.

  Args:
    config: The run.
    input_shape: Shape of one example.
    num_classes: Number of classes; None where there are none.
    strategy: The method, which may need a granularity of its own.
    width: Width multiplier; None for `--width`.

  Raises:
    InputError: When the model is unknown, does not fit the data, or has nothing to
      prune for what `--prune_for` says.
  """
  plain = registry.get_model(
    config.model, input_shape, num_classes, config.width if width is None else width
  )
  try:
    found = pruning_scope.prune_for(plain, config.prune_for)
  except InputError as error:
    raise _refusal(config, str(error)) from error
  spec = found.spec.with_channel_block(config.channel_block)
  spec = schedules.GRANULARITIES[strategy.granularity or config.granularity](spec)
  return dataclasses.replace(found, spec=spec)


def plan_models(
  config: config_lib.RunConfig,
  input_shape: tuple[int, ...],
  num_classes: Optional[int],
  strategy: base.Strategy,
) -> base.ModelPlan:
  """Returns a run's models, each as `find_model` gives it.

  Args:
    config: The run.
    input_shape: Shape of one example.
    num_classes: Number of classes; None where there are none.
    strategy: The method, which may have devices train a smaller model.

  Raises:
    InputError: As `find_model`, and when no model is small enough, or it is the user's
      own, of which nobody knows how to make it smaller.
  """
  if strategy.is_smaller and registry.is_own(config.model):
    raise InputError(
      f"--strategy={strategy.name} makes the model narrower, and how is not known of "
      f"your own one, --model={config.model}; choose a strategy of sparse masks"
    )

  def find(width: float) -> definition.ModelDefinition:
    return find_model(config, input_shape, num_classes, strategy, width)

  try:
    return strategy.plan_models(find, config.width, config.pruning)
  except InputError as error:
    if not strategy.is_smaller:
      raise
    raise InputError(
      f"--strategy={strategy.name} --target_density={config.target_density:g}: {error}"
    ) from error


@keras_graphs.sparing_eager_models()
def check_exportable(
  config: config_lib.RunConfig, model_definition: definition.ModelDefinition
) -> None:
  """Makes sure that an own model can be exported when it is trained.

  Raises:
    InputError: Naming the layer that cannot.
  """
  if not registry.is_own(config.model):
    return
  with tf.Graph().as_default():
    user_model_checks.check_loops(config.model, model_definition.build())


def check_purpose(
  config: config_lib.RunConfig,
  model_definition: definition.ModelDefinition,
  is_sparse: bool = True,
) -> None:
  """Makes sure that the final model will serve what it is pruned for.

  For XNNPACK a stand-in for the final model, with random weights and uniform masks of
  the target density, is converted and inspected: some seconds.

  Args:
    config: The run.
    model_definition: As `find_model` gives it.
    is_sparse: Whether the strategy prunes at all.

  Raises:
    InputError: Naming the rule that fails.
  """
  if config.prune_for != _SPARSE_ON_ARM:
    return
  if not is_sparse:
    raise InputError(
      f"--prune_for={config.prune_for}: --strategy={config.strategy} leaves the model "
      "dense; choose one that prunes"
    )
  _check_density(config.target_density, model_definition.spec)
  reason = _obstacle(model_definition, config.target_density)
  if reason:
    raise _refusal(config, reason)


def _refusal(config: config_lib.RunConfig, reason: str) -> InputError:
  fit = [name for name in registry.MODELS if name not in table.XNNPACK_OBSTACLES]
  return InputError(
    f"--prune_for={config.prune_for}: --model={config.model} would not run sparse on "
    f"ARM: {reason}. Models that do, on images of 1 or 3 channels: {', '.join(fit)}"
  )


def _check_density(density: float, spec: spec_lib.PrunableSpec) -> None:
  """Holds the target to XNNPACK's rule: zeros are more than two thirds."""
  most = (spec.size - 1) // 3
  if densities.total_count(spec, density) <= most:
    return
  scale = 10**_SHOWN_DIGITS
  largest = math.floor(scale * most / spec.size) / scale
  if largest <= 0.0 or densities.total_count(spec, largest) > most:
    raise InputError(
      f"--prune_for={_SPARSE_ON_ARM}: the {len(spec.layers)} prunable 1×1 convolutions "
      f"have only {spec.size:,} weights, too few for more than two thirds of zeros; "
      "raise --width or lower --channel_block"
    )
  raise InputError(
    f"--target_density={density:g} leaves no more than two thirds zeros, which "
    f"--prune_for={_SPARSE_ON_ARM} needs: the largest density that works is "
    f"{largest:.{_SHOWN_DIGITS}f}"
  )


def _obstacle(model_definition: definition.ModelDefinition, density: float) -> str:
  """Returns the first rule of XNNPACK's that the converted model breaks, or nothing."""
  # As heavy to load as an export; other runs need neither.
  from tflite_export.conversion import convert
  from tflite_export.xnnpack import eligibility

  content = convert.convert(stand_in(model_definition, density), "fp32_sparse")
  report = eligibility.inspect(content)
  if report.errors:
    return report.errors[0]
  if report.eligible:
    return ""
  for op in report.ops:
    if op.macs and not op.sparse_on_arm:
      return "; ".join(filter(None, (op.reason, op.mend)))
  return "the converter turns its 1×1 convolutions into other operators"


@keras_graphs.sparing_eager_models()
def stand_in(
  model_definition: definition.ModelDefinition,
  density: float,
  counts: Optional[Sequence[int]] = None,
) -> tf.keras.Model:
  """Returns a model of the target density in which no value is 0 or 1 by chance.

  The converter leaves out what such values make superfluous; trained ones do not.

  Args:
    model_definition: What it stands for.
    density: Share of the prunable weights that stay, the same in every layer.
    counts: How many stay in each layer, if they are not to be the same share.
  """
  generator = np.random.default_rng(0)

  def draw(shape: Any) -> np.ndarray:
    return generator.uniform(0.5, 1.5, shape).astype(np.float32)

  model, spec = model_definition.build(), model_definition.spec
  for variable in model.variables:
    if variable.dtype.is_floating:
      variable.assign(tf.cast(draw(variable.shape), variable.dtype))
  if counts is None:
    counts = densities.uniform_counts(spec, density, generator)
  mask = candidates.magnitude_mask_by_layer(draw([spec.size]), spec, counts)
  for name, kept in spec.masks_by_layer(mask).items():
    kernel = model.get_layer(name).kernel
    kernel.assign(kernel * tf.constant(kept, kernel.dtype))
  return model


def tame(model: tf.keras.Model) -> None:
  """Draws the signs of a stand-in's weights and scales them, so that it can be run.

  As in a trained model, sums neither grow from layer to layer nor drown in biases.
  """
  generator = np.random.default_rng(0)
  for variable in model.variables:
    if variable.shape.rank > 1:
      signs = generator.choice([-1.0, 1.0], variable.shape)
      scaled = signs / math.sqrt(math.prod(variable.shape[:-1]))
      variable.assign(variable * scaled.astype(np.float32))
