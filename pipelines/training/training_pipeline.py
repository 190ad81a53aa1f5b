"""data -> pre-train -> candidates -> selection -> rounds -> final model."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import states
from fedtiny_tff.federated.final_model import finalize
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry as models
from fedtiny_tff.strategies import base
from pipelines.apps import files
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, data_stage
from pipelines.devices.device_federation import DeviceFederation
from pipelines.runs import (
  metrics_log,
  model_files,
  phase_log,
  runtimes,
  state_arrays,
  state_store,
)
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import privacy_plan
from pipelines.training import (
  client_profile,
  device_stage,
  round_profile,
  rounds_stage,
  selection_stage,
)
from pipelines.training.experiments import Experiment, never_moves


@dataclasses.dataclass(frozen=True)
class TrainingOutcome:
  """What training hands on.

  Attributes:
    data: The run's data.
    models: Its models and the pruning method.
    candidates: Rows of `selection.csv`.
    sparse: The pruning run.
    dense: The dense run, or None when it was not asked for.
  """

  data: data_folder.RunData
  models: base.ModelPlan
  candidates: list[dict[str, Any]]
  sparse: rounds_stage.PhaseResult
  dense: Optional[rounds_stage.PhaseResult]


class _Training:
  """The stages of one run, over what they share."""

  def __init__(
    self,
    experiment: Experiment,
    run: RunDirectory,
    progress: Progress,
    folder: pathlib.Path,
  ):
    self._config = experiment.config
    self._run = run
    self._progress = progress
    with progress.stage("data", f"data: {self._config.dataset}"):
      self.data = data_stage.write_data(experiment.data, folder)
      # Runs may share the folder, and one of them may have begun with other data.
      for place in (folder, run.data):
        data_stage.keep(self.data, place)
    self.models = experiment.models

  def _states(self, name: str) -> state_store.StateStore:
    return state_store.StateStore(self._run.state / name)

  def pretrained(self) -> ModelWeights:
    """Returns the pre-trained weights, stored once."""
    return self._pretrained(self.models.pretrained, "")

  def dense_start(self, pretrained: ModelWeights) -> states.ServerState:
    """Returns what dense FedAvg starts from.

    Args:
      pretrained: Of the model that was pre-trained, which may be a smaller one.
    """
    full = self.models.full
    if self.models.pretrained is not full:
      pretrained = self._pretrained(full, "_dense")
    return states.ServerState(pretrained, np.ones(full.spec.size, bool), np.int32(0))

  def _pretrained(
    self, model_definition: definition.ModelDefinition, suffix: str
  ) -> ModelWeights:
    states = self._states(f"pretrained{suffix}")
    stored = states.load_latest()
    if stored is not None:
      return self._checked(state_arrays.to_state(stored[1], 0).weights)
    public = self.data.public.num_records
    described = f"pre-training on {public} public samples"
    if not public:
      described = "no samples on the server: the model starts from its initial weights"
    with self._progress.stage(f"pretrain{suffix}", described):
      weights = selection_stage.pretrain(self._config, self.data, model_definition)
    full = np.ones(model_definition.spec.size, bool)
    states.save(0, state_arrays.of_weights(weights, full), {})
    return weights

  def _checked(self, weights: ModelWeights) -> ModelWeights:
    """Returns stored weights if they fit the model, which a user may have changed."""
    stored = tuple(int(np.size(vector)) for vector in weights)
    if models.is_own(self._config.model) and stored != tuple(
      tfmot_masking.vector_sizes(self.models.pretrained)
    ):
      raise InputError(
        f"--model={self._config.model}: is another model than the one this run began "
        "with; bring that back, or name a new --output_dir"
      )
    return weights

  def devices(self, weights: ModelWeights) -> Optional[DeviceFederation]:
    """Returns the devices that compute in place of simulated clients, if any do.

    From then on the data's clients are what devices say of themselves.

    Args:
      weights: Of the pre-trained model.
    """
    if not self._config.device_exchange:
      return None
    with self._progress.stage(
      "devices", "devices: making their file, then their hello"
    ):
      devices, references = device_stage.open_federation(
        self._config, self.data, self.models, weights, self._states("devices"),
        self._progress,
      )  # fmt: skip
    self.data = dataclasses.replace(self.data, references=references)
    return devices

  def starting_point(
    self, weights: ModelWeights, devices: Optional[DeviceFederation]
  ) -> selection_stage.StartingPoint:
    """Returns the chosen candidate, stored once."""
    states = self._states("selection")
    stored = states.load_latest()
    if stored is None:
      with self._progress.stage("selection", f"selection ({self._config.selection})"):
        start = selection_stage.choose(
          self._config, self.data, self.models, weights, devices
        )
      arrays = state_arrays.of_state(start.state)
      states.save(0, arrays, {"candidates": start.candidates})
    else:
      state = state_arrays.to_state(stored[1], 0)
      start = selection_stage.StartingPoint(state, stored[2]["candidates"])
    table = metrics_log.to_csv(selection_stage.COLUMNS, start.candidates)
    files.write_text(self._run.selection, table)
    return start

  def rounds(
    self,
    name: str,
    planned: base.ModelPlan,
    initial: states.ServerState,
    candidates: Sequence[dict[str, Any]] = (),
    most_rounds: Optional[int] = None,
    profile: round_profile.RoundProfile = round_profile.NOTHING,
    devices: Optional[DeviceFederation] = None,
  ) -> rounds_stage.PhaseResult:
    """Runs one phase.

    Args:
      name: "sparse" or "dense".
      planned: Models and method.
      initial: State before the first round.
      candidates: Rows of `selection.csv` that led to it.
      most_rounds: As in `Phase.run`.
      profile: As there.
      devices: Who computes, if it is not simulated clients.
    """
    phase = rounds_stage.Phase(
      name,
      self._config,
      self.data,
      planned,
      self._states(name),
      phase_log.open_log(
        name, self._config, self._run.path, self.data, candidates, self._progress
      ),
      self._progress,
      devices,
    )
    count = most_rounds or self._config.rounds
    described = f"{count} rounds, {planned.strategy.name}"
    with self._progress.stage(f"{name}_rounds", described):
      return phase.run(initial, most_rounds, profile)

  def write_profile(
    self, profile: round_profile.RoundProfile, state: states.ServerState
  ) -> None:
    """Writes what was profiled, if anything was, and what a client's training takes."""
    profile.stop()
    document = profile.document()
    if not document["rounds"]:
      return
    folder = self._run.profile
    generator = seeds.generator(self._config.seed, "profile")
    client = int(generator.integers(len(self.data.references)))
    document["client"] = client_profile.profile(
      self._config, self.data, self.models.trained, state,
      self.data.reference(client), folder / "client",
    )  # fmt: skip
    round_profile.write(folder, document)


def train(
  experiment: Experiment,
  run: RunDirectory,
  progress: Progress,
  folder: Optional[pathlib.Path] = None,
) -> TrainingOutcome:
  """Runs or continues training; the final model is in `model/` afterwards.

  Args:
    experiment: What to train.
    run: Its claimed directory.
    progress: Where progress is shown.
    folder: Where its records are or are to be written, if runs share them; None
      for the run's own folder.
  """
  stages = _Training(experiment, run, progress, folder or run.data)
  for line in privacy_plan.warnings(
    experiment.config,
    privacy_plan.plan(
      experiment.config, len(stages.data.references), experiment.strategy
    ),
    experiment.definition.spec.size,
  ):
    progress.warn(line)
  if never_moves(experiment):
    progress.warn(
      f"masks stay as they begin: of {experiment.config.rounds} rounds none adjusts them; "
      f"lower --adjust_every_rounds={experiment.config.adjust_every_rounds}, or raise "
      "--rounds and --adjust_until_round"
    )
  pretrained = stages.pretrained()
  with contextlib.ExitStack() as stack:
    with progress.stage("runtime", runtimes.describe_start(experiment.config)):
      profile = round_profile.RoundProfile(experiment.config.profile, run.profile)
      stack.enter_context(runtimes.choose(experiment.config, profile.interceptors))
    devices = stages.devices(pretrained)
    start = stages.starting_point(pretrained, devices)
    sparse = stages.rounds(
      "sparse", stages.models, start.state, start.candidates, profile=profile,
      devices=devices,
    )  # fmt: skip
    if devices is not None:
      devices.finish()
    stages.write_profile(profile, sparse.state)
    dense = None
    if experiment.config.dense_baseline and experiment.strategy.prunes:
      initial = stages.dense_start(pretrained)
      fedavg = base.plan_one_model(base.Strategy(), stages.models.full)
      dense = stages.rounds("dense", fedavg, initial, most_rounds=len(sparse.rows))
  with progress.stage("finalize", "applying the final masks"):
    trained = stages.models.trained
    final = finalize(trained, sparse.state)
    masks = trained.spec.masks_by_layer(np.asarray(sparse.state.mask))
    model_files.save(run.model, final, masks, trained.task)
  return TrainingOutcome(stages.data, stages.models, start.candidates, sparse, dense)
