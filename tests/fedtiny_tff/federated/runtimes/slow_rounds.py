"""Rounds of slow clients, which can be disturbed while they run."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import slow_clients
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.secure_config import BITWIDTH, SecureSums
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import fedtiny
from tests.fedtiny_tff.federated import support

CLIENTS = 7
EXAMPLES = 6
ACTIVE = (7, 5)
RATE = 0.1
# Those of which the server learns sums only, or private ones.
HIDDEN = {
  "private": Aggregation(privacy=Privacy(1.0, float(CLIENTS), 0)),
  "secure": Aggregation(secure=SecureSums(BITWIDTH, 32, CLIENTS, EXAMPLES)),
}
# Of a client.
CLIENT_SECONDS = 0.2


class Rounds(NamedTuple):
  """What clients compute, by aggregation, and where they are stored.

  Attributes:
    path: The file with all examples.
    calls: An ordinary round and one that adjusts the mask, from the same start.
    computations: The TFF computations of the two.
    mask: That of the start.
  """

  path: pathlib.Path
  calls: dict[str, list[Callable[[], Any]]]
  computations: dict[str, list[Any]]
  mask: np.ndarray


def build(folder: pathlib.Path, aggregations: Sequence[str] = ("mean",)) -> Rounds:
  """Writes a federation and builds its rounds."""
  generator = np.random.default_rng(3)
  parts = [
    [support.random_part(generator, EXAMPLES, (3,), 2) for _ in range(2)]
    for _ in range(CLIENTS)
  ]
  path = folder / "records"
  stored, clients = support.write_store(path, [support.Client(*pair) for pair in parts])
  store = slow_clients.slow_store(stored, CLIENT_SECONDS)
  model = support.perceptron()
  start = support.make_state(
    support.random_weights(model), support.random_mask(model, ACTIVE)
  )
  config = training.TrainingConfig(optimizers.OptimizerConfig("sgd", RATE, 0.9), 1, 4)
  events = (schedules.AdjustmentEvent(1, 0, (3,)),)

  def run(builder, number):
    instruction = builder.instruction(number, RATE)
    return builder.computation(number).run(start, clients, instruction)

  calls: dict[str, list[Callable[[], Any]]] = {}
  computations: dict[str, list[Any]] = {}
  for name in aggregations:
    builder = rounds.RoundBuilder(
      model, store, config, fedtiny.FedTiny(), events, active_count=sum(ACTIVE), seed=2,
      aggregation=HIDDEN.get(name) or Aggregation(name, slots=CLIENTS),
    )  # fmt: skip
    calls[name] = [functools.partial(run, builder, number) for number in (0, 1)]
    computations[name] = [builder.computation(number).next for number in (0, 1)]
  return Rounds(path, calls, computations, np.asarray(start.mask))
