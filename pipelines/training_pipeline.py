"""data -> pre-train -> candidates -> selection -> rounds -> final model."""

import contextlib
import dataclasses
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tfmot_masking
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import runtime, states
from fedtiny_tff.models import definition
from fedtiny_tff.models import registry as models
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as strategies
from fedtiny_tff.tfmot_masking import ModelWeights
from pipelines import config as config_lib
from pipelines import (
  data_stage,
  density_budget,
  files,
  metrics_log,
  model_files,
  planned_model,
  quantisation_stage,
  rounds_stage,
  selection_stage,
  state_store,
)
from pipelines.progress import Progress
from pipelines.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class TrainingOutcome:
  """What training hands on.

  Attributes:
    data: The run's data.
    definition: The model.
    strategy: The pruning method.
    candidates: Rows of `selection.csv`.
    sparse: The pruning run.
    dense: The dense run, or None when it was not asked for.
  """

  data: data_stage.RunData
  definition: definition.ModelDefinition
  strategy: base.Strategy
  candidates: list[dict[str, Any]]
  sparse: rounds_stage.PhaseResult
  dense: Optional[rounds_stage.PhaseResult]


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything a run is made of, before anything is written or computed.

  Attributes:
    config: The run's flags.
    data: Dataset and partition.
    definition: The model, with the blocks of `--granularity`.
    strategy: The pruning method.
  """

  config: config_lib.RunConfig
  data: data_stage.DataPlan
  definition: definition.ModelDefinition
  strategy: base.Strategy


def plan_experiment(
  config: config_lib.RunConfig, *, is_begun: bool = False
) -> Experiment:
  """Resolves a configuration.

  Args:
    config: The run's flags.
    is_begun: Whether it was planned before, in the same way; what takes seconds to
      check is not checked again.

  Raises:
    InputError: When data are missing or do not fit the model or the clients, or the
      model not what it is to be pruned for.
  """
  dataset = data_stage.load_dataset(config)
  info = dataset.info
  if config.augmentations and len(info.shape) != 3:
    raise InputError(
      f"--augmentations={','.join(config.augmentations)}: dataset {info.name} holds no "
      f"images (examples of shape {info.shape}); leave the flag out"
    )
  found = planned_model.find_model(config, info.shape, info.num_classes)
  strategy = strategies.get_strategy(config.strategy)
  experiment = Experiment(
    config, data_stage.plan_data(config, dataset, found.task), found, strategy
  )
  if config.targets:
    planned_model.check_exportable(config, found)
  quantisation_stage.check_public(config, len(experiment.data.federation.public))
  if not is_begun:
    planned_model.check_purpose(config, found, strategy.is_sparse)
  return experiment


def within_budget(experiment: Experiment, progress: Progress) -> Experiment:
  """Returns an experiment of the largest density that its budgets of memory allow.

  Raises:
    BudgetError: When there is none.
  """
  config = density_budget.plan(
    experiment.config,
    experiment.definition,
    experiment.data.dataset.info.class_names,
    experiment.strategy.is_sparse,
    progress,
  )
  return dataclasses.replace(experiment, config=config)


class _Training:
  """The stages of one run, over what they share."""

  def __init__(self, experiment: Experiment, run: RunDirectory, progress: Progress):
    self._config = experiment.config
    self._run = run
    self._progress = progress
    with progress.stage("data", f"data: {self._config.dataset}"):
      self.data = data_stage.write_data(experiment.data, run.data)
    self.definition = experiment.definition
    self.strategy = experiment.strategy

  def _states(self, name: str) -> state_store.StateStore:
    return state_store.StateStore(self._run.state / name)

  def pretrained(self) -> ModelWeights:
    """Returns the pre-trained weights, stored once."""
    states = self._states("pretrained")
    stored = states.load_latest()
    if stored is not None:
      return self._checked(rounds_stage.from_arrays(stored[1], 0).weights)
    public = self.data.public.num_records
    described = f"pre-training on {public} public samples"
    if not public:
      described = "no samples on the server: the model starts from its initial weights"
    with self._progress.stage("pretrain", described):
      weights = selection_stage.pretrain(self._config, self.data, self.definition)
    full = np.ones(self.definition.spec.size, bool)
    states.save(0, rounds_stage.to_arrays(weights, full), {})
    return weights

  def _checked(self, weights: ModelWeights) -> ModelWeights:
    """Returns stored weights if they fit the model, which a user may have changed."""
    stored = tuple(int(np.size(vector)) for vector in weights)
    if models.is_own(self._config.model) and stored != tuple(
      tfmot_masking.vector_sizes(self.definition)
    ):
      raise InputError(
        f"--model={self._config.model}: is another model than the one this run began "
        "with; bring that back, or name a new --output_dir"
      )
    return weights

  def starting_point(self, weights: ModelWeights) -> selection_stage.StartingPoint:
    """Returns the chosen candidate, stored once."""
    states = self._states("selection")
    stored = states.load_latest()
    if stored is None:
      with self._progress.stage("selection", f"selection ({self._config.selection})"):
        start = selection_stage.choose(
          self._config, self.data, self.definition, self.strategy, weights
        )
      arrays = rounds_stage.to_arrays(start.state.weights, start.state.mask)
      states.save(0, arrays, {"candidates": start.candidates})
    else:
      state = rounds_stage.from_arrays(stored[1], 0)
      start = selection_stage.StartingPoint(state, stored[2]["candidates"])
    table = metrics_log.to_csv(selection_stage.COLUMNS, start.candidates)
    files.write_text(self._run.selection, table)
    return start

  def rounds(
    self, name: str, strategy: base.Strategy, initial: states.ServerState
  ) -> rounds_stage.PhaseResult:
    """Runs one phase."""
    if name == "sparse":
      paths = self._run.metrics, self._run.tensorboard
    else:
      paths = self._run.path / f"metrics_{name}.csv", self._run.tensorboard / name
    phase = rounds_stage.Phase(
      name,
      self._config,
      self.data,
      self.definition,
      strategy,
      self._states(name),
      metrics_log.MetricsLog(*paths),
      self._progress,
    )
    count = self._config.rounds
    described = f"{count} rounds, {strategy.name}"
    with self._progress.stage(f"{name}_rounds", described):
      return phase.run(initial)


def train(
  experiment: Experiment, run: RunDirectory, progress: Progress
) -> TrainingOutcome:
  """Runs or continues training; the final model is in `model/` afterwards.

  Args:
    experiment: What to train.
    run: Its claimed directory.
    progress: Where progress is shown.
  """
  stages = _Training(experiment, run, progress)
  pretrained = stages.pretrained()
  with contextlib.ExitStack() as stack:
    with progress.stage("runtime", "starting TFF's worker"):
      stack.enter_context(runtime.LocalRuntime())
    start = stages.starting_point(pretrained)
    sparse = stages.rounds("sparse", stages.strategy, start.state)
    dense = None
    if experiment.config.dense_baseline and stages.strategy.is_sparse:
      full = np.ones(stages.definition.spec.size, bool)
      initial = states.ServerState(pretrained, full, np.int32(0))
      dense = stages.rounds("dense", base.Strategy(), initial)
  with progress.stage("finalize", "applying the final masks"):
    final = finalize(stages.definition, sparse.state)
    masks = stages.definition.spec.masks_by_layer(np.asarray(sparse.state.mask))
    model_files.save(run.model, final, masks, stages.definition.task)
  return TrainingOutcome(
    stages.data, stages.definition, stages.strategy, start.candidates, sparse, dense
  )


def finalize(
  model_definition: definition.ModelDefinition, state: states.ServerState
) -> tf.keras.Model:
  """Turns a server state into a plain Keras model, through tfmot's wrappers.

  Raises:
    RuntimeError: When a pruned weight is not zero afterwards.
  """
  masked = tfmot_masking.MaskedModel(model_definition)
  weights = ModelWeights(*(tf.constant(v) for v in state.weights))
  masked.assign(weights, tf.constant(state.mask))
  model = tfmot_masking.strip(masked)
  for name, mask in model_definition.spec.masks_by_layer(np.asarray(state.mask)).items():
    leaked = np.count_nonzero(model.get_layer(name).kernel.numpy()[~mask])
    if leaked:
      raise RuntimeError(f"layer {name}: {leaked} pruned weights are not zero")
  return model
