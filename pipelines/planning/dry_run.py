"""`--dry_run`: everything that is known of a run before it is run.

Data are read and assigned, the model is built, every event and every message follows
from the flags; files are judged by a stand-in (`planned_exports`), and some training
steps are timed for the minutes. Nothing is trained and nothing written.
"""

import math
from typing import Any

import numpy as np

from pipelines.apps.progress import Progress
from pipelines.comparisons import comparison_estimate
from pipelines.devices import device_target
from pipelines.models import cost_figures, density_budget
from pipelines.planning import planned_exports, planned_rounds
from pipelines.runs import participation
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan
from pipelines.training import experiments
from pipelines.training.experiments import Experiment

# Measured on two cores with digits_cnn and resnet8, and told beside the estimate.
_START_SECONDS = 20.0
_BUILD_SECONDS = 7.0
_ROUND_SECONDS = 0.3


def make_plan(
  config: config_lib.RunConfig, progress: Progress, exports: bool
) -> dict[str, Any]:
  """Returns the plan of a run.

  Args:
    config: The run's flags; `--output_dir` may be missing.
    progress: Where it is said what is looked at.
    exports: Whether files are exported.

  Raises:
    InputError: As the run would before it begins.
    BudgetError: Likewise.
  """
  experiment = _experiment(config, progress)
  config = experiment.config
  counted = cost_figures.expected_plan(
    experiment.strategy, experiment.definition, config.pruning, config.selection
  )
  with progress.waiting("timing some training steps"):
    minutes = _minutes(experiment, counted)
  files: list[dict[str, Any]] = []
  if exports:
    files = planned_exports.expected_exports(
      config,
      experiment.definition,
      counted.active_counts,
      experiment.data.info,
      _provenance_facts(experiment),
      progress,
      device_target.planned_request(config, experiment.models, counted),
    )
  cost, traffic = _device(experiment, counted)
  return {
    "data": _data(experiment),
    "model": _model(experiment, counted),
    "rounds": _rounds(experiment),
    "selection": _selection(config, counted, cost),
    "events": [
      planned_rounds.describe_event(event, experiment.models)
      for event in counted.events
    ],
    "traffic": traffic,
    "device": cost,
    "estimate": minutes,
    "exports": files,
  }


def _experiment(config: config_lib.RunConfig, progress: Progress) -> Experiment:
  """Plans as a run does, in the same order, so that errors are the same."""
  folder, is_begun = None, False
  if config.output_dir:
    run = RunDirectory(config.output_dir)
    config = density_budget.adopt(config, run)
    run.check(config)
    folder, is_begun = run.data, run.flags.exists()
  experiment = experiments.plan_experiment(config, folder, progress, is_begun=is_begun)
  if not is_begun:
    experiment = experiments.within_budget(experiment, progress)
  return experiment


def _test_examples(experiment: Experiment) -> int:
  data = experiment.data
  if data.unwritten is not None:
    return len(data.unwritten.found.test)
  assert data.written is not None
  return data.written.test.num_records


def _data(experiment: Experiment) -> dict[str, Any]:
  data = experiment.data
  sizes = data.training_sizes
  return {
    "dataset": experiment.config.dataset,
    "task": experiment.definition.task.name,
    "input_shape": list(data.info.shape),
    "classes": list(data.info.class_names),
    "clients": len(sizes),
    "training_examples": int(sizes.sum()),
    "smallest_client": int(sizes.min()),
    "median_client": int(np.median(sizes)),
    "largest_client": int(sizes.max()),
    "public_examples": data.public_examples,
    "test_examples": _test_examples(experiment),
  }


def _provenance_facts(experiment: Experiment) -> dict[str, Any]:
  data = experiment.data
  written = data.written.made.get("partitioner", "") if data.written else ""
  partitioner = data.unwritten.partitioner if data.unwritten else written
  return {**_data(experiment), "partitioner": partitioner}


def _model(experiment: Experiment, counted: cost_figures.MaskPlan) -> dict[str, Any]:
  config, spec = experiment.config, experiment.definition.spec
  return {
    "model": config.model,
    "width": config.width,
    "strategy": experiment.strategy.name,
    "target_density": config.target_density,
    "density": sum(counted.active_counts) / experiment.models.full.spec.size,
    "prunable_weights": experiment.models.full.spec.size,
    "layers": [
      {"name": layer.name, "weights": layer.size, "kept": kept}
      for layer, kept in zip(spec.layers, counted.active_counts, strict=True)
    ],
    "layers_are_means": config.layer_densities.startswith("noisy")
    and experiment.strategy.is_sparse,
  }


def _rounds(experiment: Experiment) -> dict[str, Any]:
  config = experiment.config
  sizes = experiment.data.training_sizes
  found: dict[str, Any] = {
    "rounds": config.rounds,
    "clients_per_round": config.clients_per_round or len(sizes),
    "local_epochs": config.local_epochs,
    "batch_size": config.batch_size,
    "dense_baseline": config.dense_baseline and experiment.strategy.prunes,
    "early_stopping": config.early_stopping,
  }
  private = privacy_plan.plan(config, len(sizes), experiment.strategy)
  return {**found, "privacy": private and private.summary()}


def _selection(
  config: config_lib.RunConfig, counted: cost_figures.MaskPlan, cost: dict[str, Any]
) -> dict[str, Any]:
  """Returns what selection is; a pool of nothing is none."""
  return {
    "how": config.selection if counted.pool_size else "none",
    "candidates": counted.pool_size,
    "download_bytes": cost["selection_download_bytes"],
    "upload_bytes": cost["selection_upload_bytes"],
  }


def _device(
  experiment: Experiment, counted: cost_figures.MaskPlan
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns what a mean client pays beside dense FedAvg, and what it exchanges."""
  config, sizes = experiment.config, experiment.data.training_sizes
  workload = cost_figures.mean_workload(config, sizes)
  model = cost_figures.CostModel(
    experiment.definition, workload, experiment.models.full
  )
  cost = model.forecast(experiment.strategy, counted)
  planned = planned_rounds.plan_traffic(
    model.vector_sizes,
    experiment.models,
    counted,
    config.rounds,
    participation.aggregated(
      config, len(sizes), max(int(sizes.max()), 1), experiment.strategy
    ),
    not participation.misses_rounds(config, len(sizes)),
  )
  dense = cost["dense"]
  traffic = {
    "rounds": [
      {"from_round": number, "download_bytes": down, "upload_bytes": up}
      for number, down, up in planned.rounds
    ],
    "download_bytes": planned.download_bytes,
    "upload_bytes": planned.upload_bytes,
    "dense_download_bytes": config.rounds * dense["download_bytes"],
    "dense_upload_bytes": config.rounds * dense["upload_bytes"],
  }
  return cost, traffic


def _minutes(experiment: Experiment, counted: cost_figures.MaskPlan) -> dict[str, Any]:
  """Returns how long it will take here, and how that was found."""
  config = experiment.config
  rate = comparison_estimate.images_per_second(experiment)
  in_a_round = comparison_estimate.images_per_round(experiment)
  phases = 2 if config.dense_baseline and experiment.strategy.prunes else 1
  builds = 1 + len({event.block for event in counted.events}) + phases
  pretraining = experiment.data.public_examples * config.pretrain_epochs
  images = phases * config.rounds * in_a_round + pretraining
  fixed = (
    _START_SECONDS + _BUILD_SECONDS * builds + _ROUND_SECONDS * phases * config.rounds
  )
  seconds = fixed + images / rate
  return {
    "minutes": round(seconds / 60.0, 1),
    "examples_trained": math.ceil(images),
    "examples_per_second": round(rate, 1),
    "seconds_besides_training": round(fixed, 1),
    "how": (
      f"{rate:,.0f} examples a second, timed in some training steps just now, for "
      f"{images:,.0f} examples; and {fixed:.0f} s for the start, {builds} kinds of "
      "round to build, and TFF's own work, as measured elsewhere. Verifying exports and "
      "quantisation-aware rounds are not counted"
    ),
  }
