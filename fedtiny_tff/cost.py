"""What a round costs a device: arithmetic and memory. Nothing is run.

Conventions (FedTiny, arXiv 2212.01977, experiments): a multiply-accumulate is two
FLOPs; batch norm, loss and activations are ignored; training is three forward
passes; memory counts 4-byte values and indices of parameters and gradients at the
peak of an adjustment round, without activations, which are listed apart. The bytes
of a round's messages follow from their types: `federated.traffic`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Optional

import tensorflow as tf

from fedtiny_tff import spec as spec_lib
from fedtiny_tff.device_cost import MemoryCost, RoundCost, Workload
from fedtiny_tff.model_profile import ModelProfile

_VALUE_BYTES = 4
_INDEX_BYTES = 4
# Largest share of a layer's active weights that an event moves.
_LARGEST_MOVED_SHARE = 0.3


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
  memory: MemoryCost,
) -> RoundCost:
  examples = workload.local_samples * workload.local_epochs
  return RoundCost(
    parameters=profile.parameters,
    macs=profile.macs,
    forward_flops=forward_flops,
    training_flops_per_round=3.0 * forward_flops * examples,
    adjust_round_flops=3.0 * forward_flops + adjust_extra_flops,
    memory=memory,
    activation_bytes=_VALUE_BYTES * profile.activation_values * workload.batch_size,
  )


def dense_cost(profile: ModelProfile, workload: Workload) -> RoundCost:
  """Dense FedAvg: every parameter has a value and a gradient."""
  parameter_bytes = _VALUE_BYTES * profile.parameters
  return _round_cost(
    profile,
    workload,
    forward_flops=2.0 * profile.macs,
    adjust_extra_flops=0.0,
    memory=MemoryCost(parameter_bytes, gradient_bytes=parameter_bytes),
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
  sizes = profile.channel_blocks or (1,) * len(active)
  value_bytes = _VALUE_BYTES * (sum(active) + profile.unpruned_parameters)
  return _round_cost(
    profile,
    workload,
    forward_flops=sparse_forward_flops(profile, active),
    adjust_extra_flops=extra / workload.steps,
    memory=MemoryCost(
      value_bytes,
      gradient_bytes=value_bytes,
      index_bytes=_INDEX_BYTES * sum(active),
      buffer_bytes=max(
        sum(
          _top_bytes(profile, active, [i for i in block if sizes[i] == size], size)
          for size in sorted(set(sizes))
        )
        for block in blocks
      ),
    ),
  )


def _top_bytes(
  profile: ModelProfile, active: Sequence[int], layers: Sequence[int], group_size: int
) -> int:
  """Bounds the buffer for what an event moves in layers of one size of groups.

  No more than are pruned; a group is one index and the value of each of its weights.
  """
  held = sum(active[i] for i in layers) // group_size
  pruned = sum(profile.prunable[i] for i in layers) // group_size - held
  moved = min(math.ceil(_LARGEST_MOVED_SHARE * held), pruned)
  return (_INDEX_BYTES + group_size * _VALUE_BYTES) * moved


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
  return _round_cost(
    profile,
    workload,
    forward_flops=forward,
    adjust_extra_flops=2.0 * profile.macs - forward,
    memory=MemoryCost(
      _VALUE_BYTES * (sum(active) + profile.unpruned_parameters),
      gradient_bytes=_VALUE_BYTES * profile.parameters,
      index_bytes=_INDEX_BYTES * sum(active),
    ),
  )


# (spec, block, largest count of any event in each of its layers) to what is sent.
StatisticsSpecs = Callable[
  [spec_lib.PrunableSpec, int, Sequence[int]], tuple[tf.TensorSpec, ...]
]


def _top_pairs(
  spec: spec_lib.PrunableSpec, block: int, capacities: Sequence[int]
) -> tuple[tf.TensorSpec, ...]:
  values = sum(
    slots * spec.channel_blocks[layer]
    for slots, layer in zip(capacities, spec.blocks[block], strict=True)
  )
  return tf.TensorSpec([sum(capacities)], tf.int32), tf.TensorSpec([values], tf.float32)


def _squared_gradients(
  spec: spec_lib.PrunableSpec, block: int, capacities: Sequence[int]
) -> tuple[tf.TensorSpec, ...]:
  del block, capacities
  return (tf.TensorSpec([spec.size], tf.float32),)


@dataclasses.dataclass(frozen=True)
class MethodCost:
  """How a method is charged.

  Attributes:
    round_cost: (profile, workload, active weights per layer, layer indices of each
      block) to what a device pays.
    statistics: What a client adds to its update at an adjustment of a block; None
      for methods that never adjust.
    is_dense: Whether clients hold every weight, whatever the target density.
    selects: Whether clients score a pool of candidates before the first round.
  """

  round_cost: Callable[
    [ModelProfile, Workload, Sequence[int], Sequence[Sequence[int]]], RoundCost
  ]
  statistics: Optional[StatisticsSpecs] = None
  is_dense: bool = False
  selects: bool = False


# By the names of the strategies; a method can have its cost here before its strategy.
COSTS: dict[str, MethodCost] = {
  "fedavg": MethodCost(
    lambda profile, workload, active, blocks: dense_cost(profile, workload),
    is_dense=True,
  ),
  "fedtiny": MethodCost(fedtiny_cost, _top_pairs, selects=True),
  "prunefl": MethodCost(
    lambda profile, workload, active, blocks: prunefl_cost(profile, workload, active),
    _squared_gradients,
  ),
}
