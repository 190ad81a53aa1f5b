"""What a run is to be made of, resolved and checked before anything is computed."""

import dataclasses
import pathlib
from typing import Optional

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as strategies
from pipelines.apps.progress import Progress
from pipelines.datasets import data_plan
from pipelines.devices import device_target
from pipelines.devices.device_folder import DeviceFolder
from pipelines.models import cost_figures, density_budget, planned_model
from pipelines.runs import participation
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan
from pipelines.training import quantisation_stage
from tflite_export.artifacts import BudgetError
from tflite_export.targets import INTEGER_TARGETS


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything a run is made of, before anything is written or computed.

  Attributes:
    config: The run's flags.
    data: Dataset and partition.
    models: The models, with the blocks of `--granularity`, and the pruning method.
  """

  config: config_lib.RunConfig
  data: data_plan.DataPlan
  models: base.ModelPlan

  @property
  def definition(self) -> definition.ModelDefinition:
    """The model that devices train."""
    return self.models.trained

  @property
  def strategy(self) -> base.Strategy:
    """The pruning method."""
    return self.models.strategy


def plan_experiment(
  config: config_lib.RunConfig,
  folder: Optional[pathlib.Path] = None,
  progress: Optional[Progress] = None,
  *,
  is_begun: bool = False,
) -> Experiment:
  """Resolves a configuration.

  Args:
    config: The run's flags.
    folder: Where its data may have been written before.
    progress: Where long reading is shown.
    is_begun: Whether it was planned before, in the same way; what takes seconds to
      check is not checked again.

  Raises:
    InputError: When data are missing or do not fit the model or the clients, or the
      model not what it is to be pruned for.
  """
  opened = data_plan.open_dataset(config, folder)
  info = opened.info
  if config.augmentations and len(info.shape) != 3:
    raise InputError(
      f"--augmentations={','.join(config.augmentations)}: dataset {info.name} holds no "
      f"images (examples of shape {info.shape}); leave the flag out"
    )
  planned = planned_model.plan_models(
    config, info.shape, info.num_classes, strategies.get_strategy(config.strategy)
  )
  found, strategy = planned.trained, planned.strategy
  experiment = Experiment(
    config, data_plan.plan_data(config, opened, found.task, progress), planned
  )
  data_plan.check_test(experiment.data)
  participation.check(config, experiment.data.training_sizes, strategy)
  privacy_plan.check_method(config, strategy, found)
  # Refuses what the method cannot do with these data and rounds, before any is run.
  strategy.check_public(experiment.data.public_examples)
  counted = cost_figures.expected_plan(
    strategy, found, config.pruning, config.selection
  )
  if config.targets:
    planned_model.check_exportable(config, found)
  if not INTEGER_TARGETS.isdisjoint(config.targets):
    privacy_plan.check_calibration(config, experiment.data.public_examples)
  device_target.check(config, planned, counted, is_begun)
  quantisation_stage.check_public(config, experiment.data.public_examples)
  if config.device_exchange and not is_begun:
    DeviceFolder(config.device_exchange).check_new()
  if not is_begun:
    planned_model.check_purpose(config, found, strategy.is_sparse)
  return experiment


def never_moves(experiment: Experiment) -> bool:
  """Whether a run is too short for a method that would move masks in a longer one."""
  strategy, spec = experiment.strategy, experiment.definition.spec
  pruning = experiment.config.pruning
  start = strategy.starting_counts(spec, strategy.expected_counts(spec, pruning))
  if strategy.plan_events(spec, start, pruning) or not pruning.adjust_until_round:
    return False
  enough = pruning.adjust_every_rounds + 2
  longer = dataclasses.replace(pruning, rounds=enough, adjust_until_round=enough)
  return bool(strategy.plan_events(spec, start, longer))


def within_budget(experiment: Experiment, progress: Progress) -> Experiment:
  """Returns an experiment of the largest density that its budgets of memory allow.

  Raises:
    BudgetError: When there is none.
  """
  try:
    config = density_budget.plan(
      experiment.config,
      experiment.definition,
      experiment.data.info,
      experiment.strategy.is_sparse,
      progress,
    )
  except BudgetError as error:
    if not experiment.strategy.is_smaller:
      raise
    # Not searched for, as another density means other models.
    density = experiment.config.target_density
    raise BudgetError(
      f"the dense model of --strategy={experiment.strategy.name} at "
      f"--target_density={density:g}, which may be lowered: {error}"
    ) from error
  return dataclasses.replace(experiment, config=config)
