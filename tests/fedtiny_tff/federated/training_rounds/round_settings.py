"""Federations and the rounds built for them, which tests of rounds share."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.federated import states
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.model_structure.definition import ModelDefinition
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import fedtiny
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff.federated import support

_MODEL_TAIL = (
  "dense=float32[{1}],batch_norm_mean=float32[{2}],batch_norm_variance=float32[{2}]"
)
STATE = (
  "<model=<active_values=float32[{0}],positions=uint8[{3}],"
  f"{_MODEL_TAIL}>,round_index=int32,memory=<>,aggregation=<>>@SERVER"
)
REFERENCES = (
  "{{<client=int64,first_record=int64,training_examples=int64,"
  "development_examples=int64>}}@CLIENTS"
)
ROUND = (
  f"(<state={STATE},clients={REFERENCES},instruction=<round_index=int32,"
  f"learning_rate=float32,counts=int32[{{4}}]>@SERVER> -> <{STATE},"
  "<metrics=<loss_sum=float32,correct=float32,examples=float32>,verdict=<accepted="
  "float32,not_finite=float32,wrong_count=float32,outlandish=float32>>@SERVER>)"
)

# Active weights by layer of the convolutional network, and its learning rate.
CNN_COUNTS = (16, 10, 8, 6)
CNN_RATE = 0.05


@dataclasses.dataclass(frozen=True)
class Setting:
  """A federation and the rounds built for it."""

  definition: ModelDefinition
  clients: Sequence[support.Client]
  store: ClientStore
  references: list[ClientReference]
  config: training.TrainingConfig
  events: tuple[schedules.AdjustmentEvent, ...]
  active_count: int
  builder: rounds.RoundBuilder

  @property
  def examples(self) -> list[int]:
    return [len(client.training.labels) for client in self.clients]

  def run(self, state, round_index, rate=0.1, references=None, ordinary=False):
    """Runs one round, as an ordinary one if so asked."""
    instruction = self.builder.instruction(round_index, rate)
    computation = self.builder.computation(0 if ordinary else round_index)
    if ordinary:
      instruction = instruction._replace(counts=np.zeros([0], np.int32))
    result, metrics = computation.run(
      state, self.references if references is None else references, instruction
    )
    return result, tasks.Metrics(*map(float, metrics[:3]))


def make_setting(
  path: pathlib.Path,
  model_definition: ModelDefinition,
  clients: Sequence[support.Client],
  config: training.TrainingConfig,
  events: Iterable[schedules.AdjustmentEvent],
  active_count: int,
  seed: int = 0,
) -> Setting:
  """Writes a federation to a file and has FedTiny's rounds built for it."""
  events = tuple(events)
  store, references = support.write_store(path, clients)
  builder = rounds.RoundBuilder(
    model_definition, store, config, fedtiny.FedTiny(), events,
    active_count=active_count, seed=seed,
  )  # fmt: skip
  return Setting(
    model_definition, clients, store, references, config, events,
    active_count, builder,
  )  # fmt: skip


def sgd(momentum: float, epochs: int, batch_size: int) -> training.TrainingConfig:
  """Returns a configuration whose learning rate the instruction replaces."""
  optimizer = optimizers.OptimizerConfig("sgd", 0.1, momentum)
  return training.TrainingConfig(optimizer, epochs, batch_size)


def nothing(inputs: int) -> support.Part:
  """Returns no example."""
  return support.make_part(np.zeros([0, inputs]), [])


def cnn(folder: pathlib.Path, seed: int) -> Setting:
  """A convolutional network; batches of 4, two epochs, an event a round."""
  model_definition = support.small_cnn()
  plan = PruningConfig(
    target_density=0.32, rounds=10, adjust_every_rounds=1, adjust_until_round=8
  )
  events = fedtiny.FedTiny().plan_events(model_definition.spec, CNN_COUNTS, plan)
  return make_setting(
    folder / "records", model_definition, support.image_clients((6, 9, 5)),
    sgd(0.9, 2, 4), events, sum(CNN_COUNTS), seed,
  )  # fmt: skip


def cnn_start(setting: Setting) -> states.ServerState:
  """Returns what the convolutional network starts from."""
  return support.make_state(
    support.random_weights(setting.definition),
    support.random_mask(setting.definition, CNN_COUNTS),
  )


@dataclasses.dataclass(frozen=True)
class Step:
  """A round that was run, and the same round without its adjustment."""

  round_index: int
  event: schedules.AdjustmentEvent | None
  before: states.ServerState
  after: states.ServerState
  metrics: tasks.Metrics
  unadjusted: states.ServerState
  unadjusted_metrics: tasks.Metrics


def history(cnn: Setting, start: states.ServerState) -> list[Step]:
  """Ten rounds in a row, each starting where the last one ended."""
  steps, state = [], start
  for r in range(10):
    unadjusted, unadjusted_metrics = cnn.run(state, r, CNN_RATE, ordinary=True)
    after, metrics = cnn.run(state, r, CNN_RATE)
    event = cnn.builder.event(r)
    steps.append(Step(r, event, state, after, metrics, unadjusted, unadjusted_metrics))
    state = after
  return steps
