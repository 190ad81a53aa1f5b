"""What a run tells about the model it exports."""

import pathlib
from collections.abc import Mapping
from typing import Any

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.strategies import registry as strategies
from fedtiny_tff.version import VERSION
from pipelines.datasets import data_folder
from pipelines.runs.quantisation_decision import Quantisation
from pipelines.settings import config as config_lib
from pipelines.settings import data_config
from tflite_export.provenance import Provenance


def provenance_of_run(
  config: config_lib.RunConfig,
  data: data_folder.RunData,
  calibration: str,
  quantised: Quantisation,
) -> Provenance:
  """Describes a finished run for the model card and the files' metadata.

  Args:
    config: The run's flags.
    data: Its data.
    calibration: Where the activation ranges come from, a sentence.
    quantised: What integer files are made from.
  """
  described = f"{calibration} {quantised.facts['reason']}"
  return provenance(config, data.info, data.summary(), described)


def provenance(
  config: config_lib.RunConfig,
  info: DatasetInfo,
  facts: Mapping[str, Any],
  calibration: str,
) -> Provenance:
  """Describes a run of which these facts are known.

  Args:
    config: The run's flags.
    info: Of its dataset.
    facts: As `RunData.summary`: clients, examples by kind, and the partitioner.
    calibration: Where the activation ranges come from, and what was made of them.
  """
  federation = (
    f"{config.rounds} rounds of federated averaging in TFF's simulation: "
    f"{config.clients_per_round or facts['clients']} of {facts['clients']} clients a "
    f"round, "
    f"{config.local_epochs} local epochs of batch size {config.batch_size}, "
    f"{config.client_optimizer} at {config.client_learning_rate:g}; seed {config.seed}."
  )
  examples = (
    f"{config.dataset}: {facts['training_examples']:,} training examples on "
    f"{facts['clients']:,} clients ({_partition(config, facts['partitioner'])}), {facts['public_examples']:,} "
    "on the server, held-out parts on the clients for selection."
  )
  return Provenance(
    name=_model_name(config.model),
    version=VERSION,
    licence=config.model_licence,
    method=f"{_pruning(config)}.",
    training={"Data": examples, "Federation": federation},
    calibration=calibration,
    evaluation=(
      f"the test split of {config.dataset}, {facts['test_examples']:,} examples that "
      "nothing else has seen"
    ),
    preprocessing=info.preprocessing,
    augmentations=tuple(config.augmentations),
    feature_type=info.feature_type,
    columns=info.columns,
  )


def _model_name(model: str) -> str:
  """Returns a name for files and classes: own models are named by where they are."""
  if model.endswith(".keras"):
    return pathlib.Path(model).stem
  return model.rpartition(":")[2]


def _partition(config: config_lib.RunConfig, partitioner: str) -> str:
  if partitioner == "dirichlet" and config.dataset != data_config.PREPARED:
    return f"Dirichlet({config.dirichlet_alpha:g}) by class"
  return {"natural": "by owner", "file": "as saved"}.get(partitioner, partitioner)


def _pruning(config: config_lib.RunConfig) -> str:
  if config.strategy not in strategies.STRATEGIES:
    # Not imported: who exports a run that was handed over need not have its method, nor
    # trust it.
    return (
      f"{config.strategy}, a method of the run's own, at a target density of "
      f"{100 * config.target_density:g} %"
    )
  strategy = strategies.get_strategy(config.strategy)
  if strategy.is_smaller:
    return (
      f"{strategy.citation}, its size at most that of the full model at "
      f"{100 * config.target_density:g} % density"
    )
  if not strategy.is_sparse:
    return f"None: {strategy.citation}"
  return (
    f"{strategy.citation} to {100 * config.target_density:g} % density, "
    f"selection {config.selection}, masks adjusted every "
    f"{config.adjust_every_rounds} rounds until round {config.adjust_until_round}"
  )
