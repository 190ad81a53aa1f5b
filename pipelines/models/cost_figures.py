"""The figures of `pipelines.cost` and of a report's `cost`, from one place."""

import dataclasses
from typing import Any, Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.costs import device_cost
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.training_rounds import traffic
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition, model_profile
from fedtiny_tff.models import registry, table
from fedtiny_tff.sparsity import candidates, schedules, sparse_storage
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as registry_of_strategies
from fedtiny_tff.strategies.pruning_config import PruningConfig
from pipelines.models import planned_model
from pipelines.settings import config as config_lib

_DENSE = base.Strategy()


@dataclasses.dataclass(frozen=True)
class DataShape:
  """What a model is built for.

  Attributes:
    input_shape: Shape of one example.
    num_classes: Number of classes; None where there are none.
  """

  input_shape: tuple[int, ...]
  num_classes: Optional[int]


def find_data(
  model: str, input_shape: Optional[tuple[int, ...]], num_classes: Optional[int]
) -> DataShape:
  """Returns the data that are asked for, or else those a model was made for.

  Args:
    model: Value of `--model`.
    input_shape: Shape of one example; None where nobody asked.
    num_classes: Number of classes; None where nobody asked.

  Raises:
    InputError: When the model is unknown, or is the user's and no shape is given.
  """
  if not registry.is_own(model):
    row = table.usual(model)
    usual = DataShape(row.shape, row.num_classes)
  elif input_shape is None:
    raise InputError(f"--input_shape is missing: {model} is your own model")
  else:
    usual = DataShape(input_shape, None)
  return DataShape(
    usual.input_shape if input_shape is None else input_shape,
    usual.num_classes if num_classes is None else num_classes,
  )


def plan_models(
  config: config_lib.RunConfig, data: DataShape, strategy: base.Strategy
) -> base.ModelPlan:
  """Returns a run's models with the blocks that adjustments go by.

  Raises:
    InputError: When the model does not fit the data, or what it is pruned for.
  """
  models = planned_model.plan_models(
    config, data.input_shape, data.num_classes, strategy
  )
  planned_model.check_purpose(config, models.trained, not strategy.is_smaller)
  return models


@dataclasses.dataclass(frozen=True)
class MaskPlan:
  """What is known of a run's masks without their positions.

  Attributes:
    active_counts: Unpruned weights per layer in the end.
    events: Every mask adjustment.
    pool_size: Candidates that clients score; 0 where nothing is selected.
    pools_statistics: Whether clients measure batch-norm statistics for it first.
    starting_counts: Unpruned weights per layer before the first round; empty where
      they are as many, because no event shrinks the model.
  """

  active_counts: tuple[int, ...]
  events: tuple[schedules.AdjustmentEvent, ...] = ()
  pool_size: int = 0
  pools_statistics: bool = True
  starting_counts: tuple[int, ...] = ()

  @property
  def most_active(self) -> int:
    """Unpruned weights of the model in its heaviest rounds, the first."""
    return sum(self.starting_counts or self.active_counts)


def expected_plan(
  strategy: base.Strategy,
  model_definition: definition.ModelDefinition,
  config: PruningConfig,
  selection: str,
) -> MaskPlan:
  """Plans the masks of a run that is not run.

  Uniform layer densities stand for noisy ones, which they are on average; the sum
  over all layers is the same.

  Args:
    strategy: The method.
    model_definition: The model, with the blocks that adjustments go by.
    config: Density, events and pool.
    selection: Value of `--selection`.

  Raises:
    InputError: When the method cannot do what the configuration asks for.
  """
  spec = model_definition.spec
  active = strategy.expected_counts(spec, config)
  start = strategy.starting_counts(spec, active)
  pool_size = config.pool_size or candidates.default_pool_size(config.target_density)
  selects = strategy.selects and selection != "none"
  return MaskPlan(
    active,
    strategy.plan_events(spec, start, config),
    pool_size if selects else 0,
    selection == "adaptive",
    start,
  )


def mean_workload(
  config: config_lib.RunConfig, training_sizes: Array
) -> device_cost.Workload:
  """Returns what a mean client trains on, of those that train.

  Args:
    config: The run's flags.
    training_sizes: int64 [clients], training examples of each; 0 for a client that has
      none, or is a device that never said how many.
  """
  having = max(np.count_nonzero(training_sizes), 1)
  return device_cost.Workload(
    max(int(training_sizes.sum()) // having, 1),
    config.local_epochs,
    config.batch_size,
    config.max_local_steps,
  )


class CostModel:
  """What a model costs a device, under any method.

  Attributes:
    vector_sizes: Lengths of the model's flat vectors.
  """

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    workload: device_cost.Workload,
    full: Optional[definition.ModelDefinition] = None,
  ):
    """Measures the model.

    Args:
      model_definition: The model, with the blocks that adjustments go by.
      workload: What the device trains on in a round.
      full: What dense FedAvg trains, and densities are shares of; None for the same.
    """
    self._full = self
    if full is not None and full is not model_definition:
      self._full = CostModel(full, workload)
    self._spec = model_definition.spec
    self._workload = workload
    self._profile = model_profile.profile_model(model_definition)
    channels = self._profile.batch_norm_channels
    self.vector_sizes = ModelWeights(
      self._spec.size, self._profile.unpruned_parameters, channels, channels
    )

  def figures(self, strategy: base.Strategy, plan: MaskPlan) -> dict[str, Any]:
    """Returns arithmetic in FLOPs, and memory, messages and storage in bytes.

    Args:
      strategy: The method.
      plan: Masks of the run.
    """
    active = plan.active_counts
    paid = strategy.round_cost(self._profile, self._workload, active, self._spec.blocks)
    rounds = traffic.round_traffic(
      self.vector_sizes, self._spec, plan.most_active, strategy, plan.events
    )
    selection = traffic.selection_traffic(
      self.vector_sizes, plan.pool_size, plan.most_active, plan.pools_statistics
    )
    unpruned = self._profile.unpruned_parameters
    stored_bytes, stored_layers = sparse_storage.model_bytes(
      self._spec, active, unpruned
    )
    return {
      **paid.figures(),
      **dataclasses.asdict(rounds),
      "download_bytes_mask_held": rounds.download_bytes_mask_held,
      "selection_download_bytes": selection.download_bytes,
      "selection_upload_bytes": selection.upload_bytes,
      "stored_bytes": stored_bytes,
      "stored_layers": stored_layers,
    }

  def beside_dense(self, strategy: base.Strategy, plan: MaskPlan) -> dict[str, Any]:
    """Returns a method's figures, and under `dense` those of dense FedAvg."""
    dense = self._full.figures(_DENSE, self._dense_plan)
    return {**self.figures(strategy, plan), "dense": dense}

  def forecast(self, strategy: base.Strategy, plan: MaskPlan) -> dict[str, Any]:
    """Returns the same with the densities, which a run measures on its weights."""
    found = self.beside_dense(strategy, plan)
    dense = {**self._full._densities(self._dense_plan), **found["dense"]}
    return {**self._densities(plan), **found, "dense": dense}

  @property
  def _dense_plan(self) -> MaskPlan:
    return MaskPlan(self._full._spec.sizes)

  def _densities(self, plan: MaskPlan) -> dict[str, float]:
    active, full = sum(plan.active_counts), self._full
    parameters = active + self._profile.unpruned_parameters
    return {
      "density": active / full._spec.size,
      "density_all_parameters": parameters / full._profile.parameters,
    }


def prunefl(
  config: config_lib.RunConfig,
  model_definition: definition.ModelDefinition,
  workload: device_cost.Workload,
) -> Optional[dict[str, Any]]:
  """Returns what PruneFL would cost a device at a run's density.

  Args:
    config: The run's flags.
    model_definition: The full model.
    workload: What the device trains on in a round.

  Returns:
    The members of a report's `cost`; None where PruneFL cannot do what is asked.
  """
  strategy = registry_of_strategies.get_strategy("prunefl")
  # It adjusts all layers together, whatever the run does.
  granularity = schedules.GRANULARITIES[strategy.granularity or config.granularity]
  model_definition = dataclasses.replace(
    model_definition, spec=granularity(model_definition.spec)
  )
  try:
    plan = expected_plan(strategy, model_definition, config.pruning, "none")
    return CostModel(model_definition, workload).figures(strategy, plan)
  except InputError:
    return None
