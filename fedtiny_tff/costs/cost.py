"""What a round costs a device: arithmetic and memory. Nothing is run.

Each strategy says with `round_cost` which of these it is charged.

Conventions (FedTiny, arXiv 2212.01977, experiments): a multiply-accumulate is two
FLOPs; batch norm, loss and activations are ignored; training is three forward
passes; memory counts 4-byte values and indices of parameters and gradients at the
peak of an adjustment round, without activations, which are listed apart. The bytes
of a round's messages follow from their types: `federated.traffic`.
"""

import math
from collections.abc import Sequence
from typing import Optional

from fedtiny_tff.costs.device_cost import MemoryCost, RoundCost, Workload
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import schedules

VALUE_BYTES = 4
INDEX_BYTES = 4


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
  return RoundCost(
    parameters=profile.parameters,
    macs=profile.macs,
    forward_flops=forward_flops,
    training_flops_per_round=3.0 * forward_flops * workload.examples,
    adjust_round_flops=3.0 * forward_flops + adjust_extra_flops,
    memory=memory,
    activation_bytes=VALUE_BYTES * profile.activation_values * workload.largest_batch,
  )


def dense_cost(profile: ModelProfile, workload: Workload) -> RoundCost:
  """Dense FedAvg: every parameter has a value and a gradient."""
  parameter_bytes = VALUE_BYTES * profile.parameters
  return _round_cost(
    profile,
    workload,
    forward_flops=2.0 * profile.macs,
    adjust_extra_flops=0.0,
    memory=MemoryCost(parameter_bytes, gradient_bytes=parameter_bytes),
  )


def sparse_cost(
  profile: ModelProfile,
  workload: Workload,
  active: Sequence[int],
  *,
  adjust_extra_flops: float = 0.0,
  gradient_bytes: Optional[int] = None,
  buffer_bytes: int = 0,
) -> RoundCost:
  """Charges training of the active weights, and what a method adds to it.

  Args:
    profile: The model.
    workload: What the device trains on.
    active: Active weights per prunable layer.
    adjust_extra_flops: What an adjustment round adds, per example.
    gradient_bytes: Gradients at the peak; None for those of the active weights.
    buffer_bytes: What an adjustment collects besides.
  """
  value_bytes = VALUE_BYTES * (sum(active) + profile.unpruned_parameters)
  return _round_cost(
    profile,
    workload,
    forward_flops=sparse_forward_flops(profile, active),
    adjust_extra_flops=adjust_extra_flops,
    memory=MemoryCost(
      value_bytes,
      gradient_bytes=value_bytes if gradient_bytes is None else gradient_bytes,
      index_bytes=INDEX_BYTES * sum(active),
      buffer_bytes=buffer_bytes,
    ),
  )


def dense_gradient_cost(
  profile: ModelProfile, workload: Workload, active: Sequence[int]
) -> RoundCost:
  """Charges sparse training with dense weight gradients at every step of an adjustment.

  Args:
    profile: The model.
    workload: What the device trains on.
    active: Active weights per prunable layer.
  """
  return sparse_cost(
    profile,
    workload,
    active,
    adjust_extra_flops=2.0 * profile.macs - sparse_forward_flops(profile, active),
    gradient_bytes=VALUE_BYTES * profile.parameters,
  )


def top_gradient_cost(
  profile: ModelProfile,
  workload: Workload,
  active: Sequence[int],
  blocks: Sequence[Sequence[int]],
) -> RoundCost:
  """Charges sparse training, and top-a pairs of one block at a time.

  An adjustment adds the weight gradient at the pruned positions of the active block
  for one mini-batch of the round; the costliest block counts.

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
  return sparse_cost(
    profile,
    workload,
    active,
    adjust_extra_flops=extra / workload.steps,
    buffer_bytes=max(top_pairs_bytes(profile, active, block) for block in blocks),
  )


def top_pairs_bytes(
  profile: ModelProfile, active: Sequence[int], block: Sequence[int]
) -> int:
  """Bounds the buffer for the (index, value) pairs that an event of a block sends.

  No more than are pruned; a group is one index and the value of each of its weights.

  Args:
    profile: The model.
    active: Active weights per prunable layer.
    block: Layer indices.
  """
  sizes = profile.channel_blocks or (1,) * len(active)
  total = 0
  for size in sorted({sizes[i] for i in block}):
    layers = [i for i in block if sizes[i] == size]
    held = sum(active[i] for i in layers) // size
    pruned = sum(profile.prunable[i] for i in layers) // size - held
    moved = min(math.ceil(schedules.LARGEST_MOVED_SHARE * held), pruned)
    total += (INDEX_BYTES + size * VALUE_BYTES) * moved
  return total
