"""What a pruning method may decide; the defaults are dense FedAvg.

A round is always the same: clients train the masked model, the server averages.
A strategy says which masks the run starts from, when masks are adjusted, and what that
costs a device; its `Adjustment` says what clients send for it and how the server moves
the mask.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition as model_definitions
from fedtiny_tff.model_structure import model_profile, narrowing
from fedtiny_tff.sparsity import densities, schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies.adjustment import Adjustment
from fedtiny_tff.strategies.pruning_config import PruningConfig

# Layer densities that differ from draw to draw, and what they are on average.
_EXPECTED_COUNTS = {"noisy": "uniform", "noisy_erk": "erk"}


class Pretrained(NamedTuple):
  """What the server knows before the first round.

  Attributes:
    definition: The model.
    weights: Pre-trained weights, NumPy arrays.
    public: The server's own samples, decoded: inputs float32 [n, ...] and labels
      int64 [n]; n may be 0.
  """

  definition: model_definitions.ModelDefinition
  weights: tfmot_masking.ModelWeights
  public: tuple[Array, Array]


class ModelPlan(NamedTuple):
  """The models of a run: the same one, unless devices train a smaller one.

  Attributes:
    full: The model asked for. Densities are shares of its weights, and dense FedAvg
      trains it.
    pretrained: What the server trains before the first round.
    trained: What devices train, and what becomes of the run.
    strategy: The method, knowing its models.
  """

  full: model_definitions.ModelDefinition
  pretrained: model_definitions.ModelDefinition
  trained: model_definitions.ModelDefinition
  strategy: "Strategy"


def plan_one_model(
  strategy: "Strategy", model_definition: model_definitions.ModelDefinition
) -> ModelPlan:
  """Plans a run with one model for everything."""
  return ModelPlan(model_definition, model_definition, model_definition, strategy)


@dataclasses.dataclass(frozen=True)
class AdjustmentPlan:
  """What an adjustment of one block is built from.

  Attributes:
    spec: Layout and blocks.
    block: Index of the block.
    capacities: Largest count of any event in each layer of the block.
    seed: Seed of the run.
    active_count: Unpruned weights of the model before the adjustment; for methods whose
      messages are that long.
  """

  spec: spec_lib.PrunableSpec
  block: int
  capacities: tuple[int, ...]
  seed: int
  active_count: int


# From what a client receives (prunable weights, float32, and mask, bool) and the round's
# index, int32, to what it adds to its loss in that round.
PenaltyRule = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], training.Penalty]


class Strategy:
  """Dense FedAvg: nothing is pruned, nothing is adjusted.

  Attributes:
    name: Key of the registry.
    citation: What the method is called in a sentence, and where it comes from.
    is_sparse: Whether the final model has pruned weights, which are zeros.
    is_smaller: Whether devices train a physically smaller, dense model.
    selects: Whether clients score the candidates before the first round.
    granularity: Key of `schedules.GRANULARITIES` that the method needs; None leaves
      it to the configuration.
    layer_transform: What stands for prunable layers while clients train; the plain
      model must compute the same with `plain_weights`.
  """

  name = "fedavg"
  citation = "dense FedAvg (arXiv 1602.05629)"
  is_sparse = False
  is_smaller = False
  selects = False
  granularity: Optional[str] = None
  layer_transform: Optional[tfmot_masking.LayerTransform] = None

  @property
  def prunes(self) -> bool:
    """Whether the final model has fewer weights than dense FedAvg's."""
    return self.is_sparse or self.is_smaller

  def plan_models(
    self, find: narrowing.FindModel, width: float, config: PruningConfig
  ) -> ModelPlan:
    """Returns the models of a run.

    Args:
      find: The architecture asked for.
      width: The width asked for.
      config: Density.

    Raises:
      InputError: When no model of it is small enough.
    """
    del config
    return plan_one_model(self, find(width))

  def check_public(self, samples: int) -> None:
    """Makes sure that the server has the samples that the method needs.

    Args:
      samples: Public samples of the server.

    Raises:
      InputError: When it has too few.
    """
    del samples

  def candidate_masks(self, start: Pretrained, config: PruningConfig) -> Array:
    """Returns the masks to choose from, bool [candidates, prunable weights].

    Args:
      start: What the server knows.
      config: Density, pool and seed.
    """
    del config
    return np.ones([1, start.definition.spec.size], dtype=bool)

  def expected_counts(
    self, spec: spec_lib.PrunableSpec, config: PruningConfig
  ) -> tuple[int, ...]:
    """Returns how many weights each layer keeps, where no run has told it.

    Args:
      spec: Prunable layers.
      config: Density and how it is spread over layers.
    """
    if not self.is_sparse:
      return spec.sizes
    kind = _EXPECTED_COUNTS.get(config.layer_densities, config.layer_densities)
    generator = np.random.default_rng(config.seed)
    return densities.LAYER_DENSITIES[kind](spec, config.target_density, generator)

  def candidate_counts(
    self, spec: spec_lib.PrunableSpec, config: PruningConfig
  ) -> Sequence[tuple[int, ...]]:
    """Returns how many weights each layer of each candidate keeps, before any is drawn.

    Args:
      spec: Prunable layers.
      config: Density and how it is spread over layers.
    """
    return [self.expected_counts(spec, config)]

  def starting_counts(
    self, spec: spec_lib.PrunableSpec, kept: Sequence[int]
  ) -> tuple[int, ...]:
    """Returns how many weights each layer has before the first round.

    Args:
      spec: Prunable layers.
      kept: Those it ends with; as many, unless events shrink the model.
    """
    del spec
    return tuple(kept)

  def plan_events(
    self,
    spec: spec_lib.PrunableSpec,
    active_counts: Sequence[int],
    config: PruningConfig,
  ) -> tuple[schedules.AdjustmentEvent, ...]:
    """Returns every mask adjustment of the run, before the first round.

    Args:
      spec: Prunable layers and blocks.
      active_counts: Unpruned weights per layer before the first round.
      config: Rounds and order of the adjustments.
    """
    del spec, active_counts, config
    return ()

  def client_penalty(
    self, spec: spec_lib.PrunableSpec, events: Sequence[schedules.AdjustmentEvent]
  ) -> Optional[PenaltyRule]:
    """Returns what clients add to their loss, None for nothing.

    Args:
      spec: Prunable layers and blocks.
      events: Every adjustment of the run, in order.
    """
    del spec, events
    return None

  def learning_rate_factor(
    self,
    round_index: int,
    events: Sequence[schedules.AdjustmentEvent],
    scheduled: float,
  ) -> float:
    """Returns what the clients' learning rate is multiplied by in a round.

    Args:
      round_index: The round.
      events: Every adjustment of the run, in order.
      scheduled: What the schedule leaves of the first round's rate, above 0.
    """
    del round_index, events, scheduled
    return 1.0

  def plain_weights(
    self,
    spec: spec_lib.PrunableSpec,
    weights: tfmot_masking.ModelWeights,
    mask: Array,
  ) -> tfmot_masking.ModelWeights:
    """Returns the weights with which the plain model computes what clients train.

    Args:
      spec: Prunable layers.
      weights: As the rounds keep them, NumPy arrays.
      mask: bool [prunable weights].
    """
    del spec, mask
    return weights

  def adjustment(self, plan: AdjustmentPlan) -> Adjustment:
    """Returns how a block is adjusted.

    Raises:
      ValueError: For strategies that never adjust.
    """
    raise ValueError(
      f"strategy {self.name!r} never adjusts masks, asked for {plan.block}"
    )

  def initial_memory(self, mask: Array) -> tuple[Array, ...]:
    """Returns what adjustments remember, before the first of them.

    It stays at the server. Its shapes and types are those of all rounds.

    Args:
      mask: bool [prunable weights], the mask that the rounds start from.
    """
    del mask
    return ()

  def begin(
    self, start: Pretrained, mask: Array
  ) -> tuple[tfmot_masking.ModelWeights, tuple[Array, ...]]:
    """Returns the weights that the rounds start from, and the first memory.

    Args:
      start: What the server knows; its model is the one that was pre-trained.
      mask: bool [prunable weights of the model that is trained], the chosen one.

    Returns:
      NumPy arrays: vectors of the model that is trained, zero where pruned; and what
      adjustments remember, see `initial_memory`.
    """
    prunable = np.where(mask, start.weights.prunable, np.float32(0))
    return start.weights._replace(prunable=prunable), self.initial_memory(mask)

  def kept_weights(self, mask: Array, memory: Sequence[Array]) -> Array:
    """Returns which weights of the pre-trained model the trained one consists of.

    Args:
      mask: bool [prunable weights of the model that is trained].
      memory: What adjustments remember.

    Returns:
      bool [prunable weights of the model that was pre-trained].
    """
    del memory
    return mask

  def round_cost(
    self,
    profile: model_profile.ModelProfile,
    workload: device_cost.Workload,
    active: Sequence[int],
    blocks: Sequence[Sequence[int]],
  ) -> device_cost.RoundCost:
    """Returns what a round costs a device.

    Args:
      profile: The model.
      workload: What the device trains on.
      active: Active weights per prunable layer.
      blocks: Layer indices of each block.
    """
    del active, blocks
    return cost.dense_cost(profile, workload)


def learning_rate(
  strategy: Strategy,
  round_index: int,
  events: Sequence[schedules.AdjustmentEvent],
  scheduled: Callable[[int], float],
) -> float:
  """Returns the clients' learning rate in a round.

  Args:
    strategy: The method, which may change what is scheduled.
    round_index: The round.
    events: Every adjustment of the run, in order.
    scheduled: From a round to its rate.
  """
  rate = scheduled(round_index)
  left = rate / scheduled(0)
  return rate * strategy.learning_rate_factor(round_index, events, left)
