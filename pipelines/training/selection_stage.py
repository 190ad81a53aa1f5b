"""From an untrained model to the state before the first round."""

import dataclasses
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import states
from fedtiny_tff.federated.adaptive_selection import choice, selection
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.strategies import base
from pipelines.datasets import data_folder
from pipelines.datasets.data_folder import RunData
from pipelines.devices.device_federation import DeviceFederation
from pipelines.runs import participation
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan

COLUMNS = ("candidate", "density", "loss", "accuracy", "chosen")
# Small, because a few samples per class must give more than one step an epoch.
_PRETRAIN_BATCH = 16


@dataclasses.dataclass(frozen=True)
class StartingPoint:
  """What the rounds start from.

  Attributes:
    state: Masked weights, chosen mask, batch-norm statistics.
    candidates: One mapping per candidate, the columns of `selection.csv`; loss and
      accuracy are empty where nothing was scored.
  """

  state: states.ServerState
  candidates: list[dict[str, Any]]


def pretrain(
  config: config_lib.RunConfig,
  data: RunData,
  model_definition: definition.ModelDefinition,
) -> ModelWeights:
  """Trains the dense model on the server's public samples.

  Without any, it keeps its initial weights.

  Returns:
    NumPy arrays.
  """
  weights = tfmot_masking.initial_weights(model_definition, config.seed)
  if config.pretrain_epochs and data.public.num_records:
    seed = seeds.generator(config.seed, "pretrain").integers(0, 2**31 - 1, 2)
    records = data.public.read(0, data.public.num_records)
    examples = batches.shuffled(
      records, config.pretrain_epochs, tf.constant(seed, tf.int32)
    )
    small = dataclasses.replace(
      config.training, batch_size=_PRETRAIN_BATCH, max_local_steps=0
    )
    trainer = training.LocalTrainer(model_definition, small, data.public.decode)
    mask = tf.ones([model_definition.spec.size], tf.bool)
    rate = tf.constant(config.client_learning_rate, tf.float32)
    weights, _ = trainer.train(weights, mask, examples, rate)
  return ModelWeights(*(vector.numpy() for vector in weights))


def _score(
  config: config_lib.RunConfig,
  data: RunData,
  model_definition: definition.ModelDefinition,
  pool: selection.CandidatePool,
  strategy: base.Strategy,
  devices: Optional[DeviceFederation],
) -> selection.SelectionResult:
  clients = participation.chosen(config, data, "selection")
  adaptive = config.selection == "adaptive"
  if devices is not None:
    return devices.select(pool, clients, adaptive)
  select = selection.build_selection(
    model_definition,
    data.clients,
    candidates=len(pool.active_values),
    active_count=pool.active_values.shape[1],
    batch_size=config.batch_size,
    adaptive=adaptive,
    aggregation=participation.aggregated(
      config,
      len(data.references),
      privacy_plan.largest_examples(data.references),
      strategy,
    ),
  )
  return select(pool, clients)


def pretrained_model(
  data: RunData, models: base.ModelPlan, weights: ModelWeights
) -> base.Pretrained:
  """Returns what a strategy draws its candidates from.

  Args:
    data: The run's data.
    models: Its models and strategy.
    weights: Of the pre-trained model, NumPy arrays.
  """
  return base.Pretrained(models.pretrained, weights, data_folder.read_all(data.public))


def choose(
  config: config_lib.RunConfig,
  data: RunData,
  models: base.ModelPlan,
  weights: ModelWeights,
  devices: Optional[DeviceFederation] = None,
) -> StartingPoint:
  """Draws the candidates and installs the one of least loss.

  With `--selection=none`, or a strategy that has nothing to select, the first
  candidate is taken as it is. Call inside a running TFF runtime.

  Args:
    config: The run's flags.
    data: Its data.
    models: Its models and strategy.
    weights: Of the pre-trained model, NumPy arrays.
    devices: Who scores the candidates, if it is not simulated clients.
  """
  model_definition, strategy = models.pretrained, models.strategy
  known = pretrained_model(data, models, weights)
  masks = strategy.candidate_masks(known, config.pruning)
  rows = [
    {
      "candidate": number,
      "density": int(np.count_nonzero(mask)) / models.full.spec.size,
      "loss": "",
      "accuracy": "",
      "chosen": 0,
    }
    for number, mask in enumerate(masks)
  ]
  chosen = 0
  if strategy.selects and config.selection != "none":
    pool = selection.make_pool(weights, masks)
    result = _score(config, data, model_definition, pool, strategy, devices)
    if not result.reports:
      raise InputError(
        "selection: no client's scores of the candidates count; look at the data with "
        "python -m pipelines.data, or take --selection=none"
      )
    found = choice.choose(result, weights)
    chosen, weights = found.chosen, found.weights
    for row, loss, hit in zip(rows, found.losses, found.accuracies, strict=True):
      row["loss"] = round(float(loss), 6)
      # Private scores say which candidate is better, not how good it is.
      if model_definition.task.has_classes and not privacy_plan.is_private(config):
        row["accuracy"] = round(float(hit), 6)
  rows[chosen]["chosen"] = 1
  mask = np.asarray(masks[chosen])
  first, memory = strategy.begin(known._replace(weights=weights), mask)
  return StartingPoint(states.ServerState(first, mask, np.int32(0), memory), rows)
