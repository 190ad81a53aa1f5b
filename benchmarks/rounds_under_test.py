"""Single rounds outside the pipeline, and how their time is taken."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.federated import states
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.strategies import base

CONFIG = training.TrainingConfig(
  optimizers.OptimizerConfig("sgd", 0.05, 0.9), local_epochs=1, batch_size=64
)


def starting_state(
  model_definition: definition.ModelDefinition, density: float
) -> states.ServerState:
  """Seeded weights under a random mask of the given density."""
  weights = tfmot_masking.initial_weights(model_definition, 0)
  size = model_definition.spec.size
  mask = np.zeros(size, bool)
  chosen = np.random.default_rng(0).permutation(size)[: int(density * size)]
  mask[chosen] = True
  arrays = ModelWeights(*(vector.numpy() for vector in weights))
  masked = arrays._replace(prunable=np.where(mask, arrays.prunable, np.float32(0)))
  return states.ServerState(masked, mask, np.int32(0))


def tff_round(
  model_definition: definition.ModelDefinition,
  config: training.TrainingConfig,
  store: ClientStore,
  clients: Sequence[ClientReference],
  state: states.ServerState,
) -> Callable[[], Any]:
  """Returns a call that runs one ordinary round."""
  builder = rounds.RoundBuilder(
    model_definition,
    store,
    config,
    base.Strategy(),
    (),
    active_count=int(np.count_nonzero(state.mask)),
    seed=0,
  )
  computation = builder.computation(0)
  instruction = builder.instruction(0, config.optimizer.learning_rate)
  return lambda: computation.run(state, clients, instruction)


def fastest_seconds(
  calls: dict[str, Callable[[], Any]], repeats: int
) -> dict[str, float]:
  """Runs the calls in turn, once to warm up and `repeats` times measured."""
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  for repeat in range(repeats + 1):
    for name, call in calls.items():
      start = time.perf_counter()
      call()
      if repeat:
        seconds[name].append(time.perf_counter() - start)
  return {name: min(values) for name, values in seconds.items()}
