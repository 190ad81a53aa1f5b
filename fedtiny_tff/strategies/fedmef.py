"""FedMef: weights that are pushed out before they are dropped, and pruned activations.

"FedMef: Towards Memory-efficient Federated Dynamic Pruning", H. Huang et al.,
CVPR 2024, arXiv 2403.14737.

    start from the largest pre-trained weights
    every round that leads to an event (budget-aware extrusion), p of its budget gone:
      clients: loss + 0.01 p * sum over layers of |the weights that it would drop|_2
               learning rate max(scheduled, REX(p) * the first round's)
    every few rounds, in the whole model:
      clients: the a largest |gradient| at pruned positions, as (index, value)
      server:  drop the a smallest |weight|, grow the a largest |mean gradient|
    always (scaled activation pruning): convolutions, see `activation_pruning`

What was decided where public sources differ or are silent:
- Norms are not squared, and the weights of an event are marked once a round, by the
  weights that the server sent: all clients push out the same ones. So does the authors'
  library, https://github.com/FedPruning/FedPruning. The budget is all rounds since the
  last event (or the start), and the penalty grows over them in a straight line, because
  newly grown weights are the smallest of all and must not be pushed out at once.
- REX(t) = (2 T - 2 t) / (2 T - t) after t of T rounds; the paper multiplies it by
  2 sigmoid(norm of the marked weights) - 1, taken as 1 here: the norm of hundreds of
  weights is far from 0. As in the paper, a constant schedule leaves nothing to raise.
- Batch normalisation stays, which the paper's models do without: all methods are
  compared on the same model. The first convolution's input are the data themselves,
  which a device holds anyway: pruned are the inputs of convolutions with masks.
- Rounds keep the weights that clients train; whatever leaves them, evaluations and the
  final model, has standardised kernels and plain convolutions (`plain_weights`).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.sparsity import activation_pruning, masks, schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base, fedtiny, sparse

# The penalty's factor in the round of an event.
_STRENGTH = 0.01
# Under the root, whose slope at 0 is infinite.
_LEAST_SQUARE = 1e-24


class Budget(NamedTuple):
  """The rounds that lead to an event.

  Attributes:
    event: The event.
    spent: Rounds since the last one, or since the first round; the event's own counts.
    rounds: All of them.
  """

  event: schedules.AdjustmentEvent
  spent: int
  rounds: int


def budget(
  events: Sequence[schedules.AdjustmentEvent], round_index: int
) -> Optional[Budget]:
  """Returns the budget that a round is part of, None after the last event.

  Args:
    events: Every adjustment of the run, in order.
    round_index: The round.
  """
  coming = [event for event in events if event.round_index >= round_index]
  if not coming:
    return None
  past = [e.round_index for e in events if e.round_index < round_index]
  start = past[-1] if past else 0
  return Budget(coming[0], round_index - start, coming[0].round_index - start)


def strength(events: Sequence[schedules.AdjustmentEvent], round_index: int) -> float:
  """Returns the penalty's factor: 0.01 times the share of the budget that is spent.

  It is 0 in round 0 and after the last event, 0.01 in the round of an event.

  Args:
    events: Every adjustment of the run, in order.
    round_index: The round.
  """
  found = budget(events, round_index)
  return _STRENGTH * found.spent / max(found.rounds, 1) if found else 0.0


def mark_smallest(
  prunable: tf.Tensor, mask: tf.Tensor, counts: tf.Tensor, spec: spec_lib.PrunableSpec
) -> list[tf.Tensor]:
  """Marks the active weights that an event would drop, were it now.

  Args:
    prunable: float32 [prunable weights].
    mask: bool [prunable weights].
    counts: int32 [layers], groups of weights in each layer of the model.
    spec: Layout.

  Returns:
    bool [weights of the layer] for each layer.
  """
  marked = []
  for layer, size in enumerate(spec.channel_blocks):
    place = spec.slice(layer)
    norms = masks.group_norms(prunable[place], size)
    active = masks.group_mask(mask[place], size)
    dropped = masks.drop_mask(norms, active, counts[layer])
    marked.append(masks.spread(dropped, size))
  return marked


def _counts(spec: spec_lib.PrunableSpec, found: Optional[Budget]) -> list[int]:
  """Returns what the coming event drops of each layer of the model."""
  counts = [0] * len(spec.layers)
  if found:
    layers = spec.blocks[found.event.block]
    for layer, count in zip(layers, found.event.counts, strict=True):
      counts[layer] = count
  return counts


def extrusion(
  spec: spec_lib.PrunableSpec, events: Sequence[schedules.AdjustmentEvent]
) -> base.PenaltyRule:
  """Returns the penalty of every round.

  Args:
    spec: Prunable layers and blocks.
    events: Every adjustment of the run, in order; at least one.
  """
  # The last of these rounds stands for all that follow.
  rounds = range(events[-1].round_index + 2)
  strengths = [strength(events, number) for number in rounds]
  counts = [_counts(spec, budget(events, number)) for number in rounds]

  def rule(
    prunable: tf.Tensor, mask: tf.Tensor, round_index: tf.Tensor
  ) -> training.Penalty:
    place = tf.minimum(round_index, rounds[-1])
    factor = tf.gather(tf.constant(strengths, tf.float32), place)
    moved = tf.gather(tf.constant(counts, tf.int32), place)
    marked = mark_smallest(prunable, mask, moved, spec)

    def penalty(kernels: Sequence[tf.Tensor]) -> tf.Tensor:
      norms = [
        tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(kernel[mark])), _LEAST_SQUARE))
        for kernel, mark in zip(kernels, marked, strict=True)
      ]
      return factor * tf.add_n(norms)

    return penalty

  return rule


class FedMef(sparse.AdjustingStrategy):
  """The paper's method."""

  name = "fedmef"
  citation = "FedMef (arXiv 2403.14737)"
  granularity = "entire"
  layer_transform = staticmethod(activation_pruning.prune_activations)

  def adjustment(self, plan: base.AdjustmentPlan) -> fedtiny.TopGradientAdjustment:
    """Moves weights by aggregated top-a gradients, as FedTiny does."""
    return fedtiny.TopGradientAdjustment(plan)

  def client_penalty(
    self, spec: spec_lib.PrunableSpec, events: Sequence[schedules.AdjustmentEvent]
  ) -> Optional[base.PenaltyRule]:
    """Pushes out what the coming event will drop."""
    return extrusion(spec, events) if events else None

  def learning_rate_factor(
    self,
    round_index: int,
    events: Sequence[schedules.AdjustmentEvent],
    scheduled: float,
  ) -> float:
    """Raises the rate to REX times that of the first round, where it is lower."""
    found = budget(events, round_index)
    if found is None:
      return 1.0
    # The rounds before this one; none at the very start, which is in no budget.
    spent = max(found.spent - 1, 0)
    rex = 2.0 * (found.rounds - spent) / max(2 * found.rounds - spent, 1)
    return max(1.0, rex / scheduled)

  def plain_weights(
    self, spec: spec_lib.PrunableSpec, weights: ModelWeights, mask: Array
  ) -> ModelWeights:
    """Standardises the kernels of convolutions."""
    baked = activation_pruning.standardise_convolutions(
      np.asarray(weights.prunable), mask, spec
    )
    return weights._replace(prunable=baked)

  def round_cost(
    self,
    profile: model_profile.ModelProfile,
    workload: device_cost.Workload,
    active: Sequence[int],
    blocks: Sequence[Sequence[int]],
  ) -> device_cost.RoundCost:
    """Charges FedTiny's arithmetic, marks of weights, and fewer activations.

    The marks of extrusion are a bit for each active weight. Of every tensor that only
    pruned convolutions need, what they keep is stored.
    """
    paid = cost.top_gradient_cost(profile, workload, active, blocks)
    marks_bytes = -(-sum(active) // 8)
    buffer_bytes = paid.memory.buffer_bytes + marks_bytes
    sizes = [size * workload.largest_batch for size in profile.convolution_inputs]
    saved_bytes = sum(
      cost.VALUE_BYTES * size - activation_pruning.stored_bytes(size) for size in sizes
    )
    return dataclasses.replace(
      paid,
      memory=dataclasses.replace(paid.memory, buffer_bytes=buffer_bytes),
      activation_bytes=paid.activation_bytes - saved_bytes,
    )
