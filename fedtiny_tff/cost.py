"""What a round costs a device: arithmetic, memory, bytes. Nothing is run.

Conventions (FedTiny, arXiv 2212.01977, experiments): a multiply-accumulate is two
FLOPs; batch norm, loss and activations are ignored; training is three forward
passes; memory counts 4-byte values and indices of parameters and gradients at the
peak of an adjustment round, without activations, which are listed apart.
"""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from fedtiny_tff import keras_graphs
from fedtiny_tff.models import definition

_VALUE_BYTES = 4
_INDEX_BYTES = 4
# Largest share of a layer's active weights that an event moves.
_LARGEST_MOVED_SHARE = 0.3


@dataclasses.dataclass(frozen=True)
class ModelProfile:
  """Static sizes of a model.

  Attributes:
    parameters: All trainable parameters (batch norm's running statistics are not
      trainable).
    prunable: Prunable weights of each layer, in the spec's order.
    prunable_macs: Multiply-accumulates of each prunable layer for one example.
    dense_macs: Multiply-accumulates of all other layers for one example.
    activation_values: Layer outputs of one example, kept for the backward pass.
  """

  parameters: int
  prunable: tuple[int, ...]
  prunable_macs: tuple[int, ...]
  dense_macs: int
  activation_values: int

  @property
  def macs(self) -> int:
    """Multiply-accumulates of a dense forward pass of one example."""
    return sum(self.prunable_macs) + self.dense_macs

  @property
  def unpruned_parameters(self) -> int:
    """Parameters that are never pruned: stem, biases, batch norm."""
    return self.parameters - sum(self.prunable)


def _layer_macs(layer: tf.keras.layers.Layer) -> int:
  """Counts kernel weights times the output positions they are applied at."""
  attributes = ("kernel", "depthwise_kernel", "pointwise_kernel")
  kernels = [getattr(layer, name, None) for name in attributes]
  weights = sum(math.prod(k.shape.as_list()) for k in kernels if k is not None)
  output = layer.output_shape[1:] if weights else ()
  channels_first = getattr(layer, "data_format", None) == "channels_first"
  return weights * math.prod(output[1:] if channels_first else output[:-1])


@keras_graphs.sparing_eager_models()
def profile_model(model_definition: definition.ModelDefinition) -> ModelProfile:
  """Measures a model's sizes from its layers."""
  with tf.Graph().as_default():
    model = model_definition.build()
    macs = {layer.name: _layer_macs(layer) for layer in model.layers}
    parameters = sum(v.shape.num_elements() for v in model.trainable_variables)
    activations = sum(
      math.prod(layer.output_shape[1:])
      for layer in model.layers
      if not isinstance(layer, tf.keras.layers.InputLayer)
    )
  names = [layer.name for layer in model_definition.spec.layers]
  return ModelProfile(
    parameters=parameters,
    prunable=model_definition.spec.sizes,
    prunable_macs=tuple(macs[name] for name in names),
    dense_macs=sum(macs.values()) - sum(macs[name] for name in names),
    activation_values=activations,
  )


@dataclasses.dataclass(frozen=True)
class RoundCost:
  """What one device pays.

  Attributes:
    parameters: Trainable parameters of the dense model.
    macs: Multiply-accumulates of a dense forward pass of one example.
    forward_flops: FLOPs of a (sparse) forward pass of one example.
    training_flops_per_round: FLOPs of an ordinary round.
    adjust_round_flops: FLOPs per trained example in an adjustment round.
    memory_bytes: Peak of an adjustment round, without activations.
    activation_bytes: Activations kept for the backward pass of one mini-batch.
  """

  parameters: int
  macs: int
  forward_flops: float
  training_flops_per_round: float
  adjust_round_flops: float
  memory_bytes: int
  activation_bytes: int


@dataclasses.dataclass(frozen=True)
class Workload:
  """What a device trains on in a round.

  Attributes:
    local_samples: Examples of the device.
    local_epochs: Passes over them.
    batch_size: Examples per step.
  """

  local_samples: int
  local_epochs: int
  batch_size: int

  @property
  def steps(self) -> int:
    """Mini-batches of a round."""
    return self.local_epochs * -(-self.local_samples // self.batch_size)


def sparse_forward_flops(profile: ModelProfile, active: Sequence[int]) -> float:
  """FLOPs of a forward pass when layer l has `active[l]` weights left."""
  sparse = sum(
    macs * count / size
    for macs, count, size in zip(
      profile.prunable_macs, active, profile.prunable, strict=True
    )
  )
  return 2.0 * (sparse + profile.dense_macs)


def _round_cost(
  profile: ModelProfile,
  workload: Workload,
  *,
  forward_flops: float,
  adjust_extra_flops: float,
  memory_bytes: int,
) -> RoundCost:
  examples = workload.local_samples * workload.local_epochs
  return RoundCost(
    parameters=profile.parameters,
    macs=profile.macs,
    forward_flops=forward_flops,
    training_flops_per_round=3.0 * forward_flops * examples,
    adjust_round_flops=3.0 * forward_flops + adjust_extra_flops,
    memory_bytes=memory_bytes,
    activation_bytes=_VALUE_BYTES * profile.activation_values * workload.batch_size,
  )


def dense_cost(profile: ModelProfile, workload: Workload) -> RoundCost:
  """Dense FedAvg: every parameter has a value and a gradient."""
  return _round_cost(
    profile,
    workload,
    forward_flops=2.0 * profile.macs,
    adjust_extra_flops=0.0,
    memory_bytes=2 * _VALUE_BYTES * profile.parameters,
  )


def fedtiny_cost(
  profile: ModelProfile,
  workload: Workload,
  active: Sequence[int],
  blocks: Sequence[Sequence[int]],
) -> RoundCost:
  """FedTiny: sparse values and gradients, top-a pairs of one block at a time.

  An adjustment adds the weight gradient at the pruned positions of the active
  block for one mini-batch of the round; the costliest block counts.

  Args:
    profile: The model.
    workload: What the device trains on.
    active: Active weights per prunable layer.
    blocks: Layer indices of each block.
  """
  extra = max(
    sum(
      2.0 * profile.prunable_macs[i] * (1.0 - active[i] / profile.prunable[i])
      for i in block
    )
    for block in blocks
  )
  pairs = max(
    math.ceil(_LARGEST_MOVED_SHARE * sum(active[i] for i in block)) for block in blocks
  )
  values = sum(active) + profile.unpruned_parameters
  return _round_cost(
    profile,
    workload,
    forward_flops=sparse_forward_flops(profile, active),
    adjust_extra_flops=extra / workload.steps,
    memory_bytes=2 * _VALUE_BYTES * values
    + _INDEX_BYTES * sum(active)
    + (_VALUE_BYTES + _INDEX_BYTES) * pairs,
  )


def prunefl_cost(
  profile: ModelProfile, workload: Workload, active: Sequence[int]
) -> RoundCost:
  """PruneFL (arXiv 1909.12326): sparse training, dense weight gradients.

  A reconfiguration round computes the weight gradient of every position at every
  step, and keeps it.

  Args:
    profile: The model.
    workload: What the device trains on.
    active: Active weights per prunable layer.
  """
  forward = sparse_forward_flops(profile, active)
  values = sum(active) + profile.unpruned_parameters
  return _round_cost(
    profile,
    workload,
    forward_flops=forward,
    adjust_extra_flops=2.0 * profile.macs - forward,
    memory_bytes=_VALUE_BYTES * values
    + _INDEX_BYTES * sum(active)
    + _VALUE_BYTES * profile.parameters,
  )
