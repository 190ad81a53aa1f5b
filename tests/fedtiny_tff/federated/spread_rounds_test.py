"""Rounds over three workers on this machine equal those of one, however disturbed."""

import functools
import logging
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks import slow_clients
from fedtiny_tff import optimizers, schedules, training
from fedtiny_tff.aggregation_config import AGGREGATIONS, Aggregation
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import remote_runtime, rounds, spreading
from fedtiny_tff.strategies import fedtiny
from tests.fedtiny_tff.federated import support, workers

pytestmark = pytest.mark.slow

COUNT = 3
CLIENTS = 7
EXAMPLES = 6
ACTIVE = (7, 5)
RATE = 0.1
# Of a client, so that a round can be disturbed while it runs.
CLIENT_SECONDS = 0.2
SILENT_SECONDS = 1.0


class Federation(NamedTuple):
  """Where clients are stored, and what they compute.

  Attributes:
    store: All examples.
    rounds: By aggregation, an ordinary round and one that adjusts the mask, from the
      same start.
    next: By aggregation, their computations.
    mask: That of the start.
  """

  store: support.ClientStore
  rounds: Mapping[str, tuple[Callable[[], Any], ...]]
  next: Mapping[str, tuple[Any, ...]]
  mask: np.ndarray


@pytest.fixture(name="federation", scope="module")
def fixture_federation(tmp_path_factory):
  generator = np.random.default_rng(3)
  parts = [
    [support.random_part(generator, EXAMPLES, (3,), 2) for _ in range(2)]
    for _ in range(CLIENTS)
  ]
  path = tmp_path_factory.mktemp("spread") / "records"
  stored, clients = support.write_store(path, [support.Client(*pair) for pair in parts])
  store = slow_clients.slow_store(stored, CLIENT_SECONDS)
  model = support.perceptron()
  start = support.make_state(
    support.random_weights(model), support.random_mask(model, ACTIVE)
  )
  config = training.TrainingConfig(optimizers.OptimizerConfig("sgd", RATE, 0.9), 1, 4)

  def build(name):
    return rounds.RoundBuilder(
      model, store, config, fedtiny.FedTiny(),
      (schedules.AdjustmentEvent(1, 0, (3,)),), active_count=sum(ACTIVE), seed=2,
      aggregation=Aggregation(name, slots=CLIENTS),
    )  # fmt: skip

  def run(builder, number):
    computation = builder.computation(number)
    return computation.run(start, clients, builder.instruction(number, RATE))

  builders = {name: build(name) for name in AGGREGATIONS}
  calls = {
    name: tuple(functools.partial(run, builder, number) for number in (0, 1))
    for name, builder in builders.items()
  }
  computations = {
    name: tuple(builder.computation(number).next for number in (0, 1))
    for name, builder in builders.items()
  }
  return Federation(stored, calls, computations, start.mask)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_every_aggregation_can_be_taken_apart(federation, name, caplog):
  for computation in federation.next[name]:
    assert spreading.make_plan(computation).merge is not None
  assert caplog.records == []


@pytest.fixture(name="running", scope="module")
def fixture_running():
  with workers.running_workers(COUNT) as running:
    yield running


@pytest.fixture(name="expected", scope="module")
def fixture_expected(federation, local_runtime):
  return {
    name: [call() for call in calls] for name, calls in federation.rounds.items()
  }


@pytest.fixture(name="spread", scope="module")
def fixture_spread(expected, running):
  with remote_runtime.RemoteRuntime(
    running.addresses, answer_seconds=SILENT_SECONDS, return_seconds=30.0
  ) as runtime:
    yield runtime


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_rounds_equal_those_of_one_machine_in_every_bit(federation, expected, name):
  for number, call in enumerate(federation.rounds[name]):
    state, metrics = found = call()
    assert support.to_bytes(found) == support.to_bytes(expected[name][number])
    assert float(metrics.examples) == CLIENTS * EXAMPLES
    assert (state.mask != federation.mask).any() == (number == 1)


def later(seconds, *actions):
  def act():
    for action in actions:
      action()

  threading.Timer(seconds, act).start()


@pytest.mark.parametrize("name", ["mean", "median"])
@pytest.mark.parametrize("adjusts", [False, True])
def test_disturbed_rounds_equal_those_as_well(
  federation, expected, running, spread, name, adjusts, caplog
):
  call = federation.rounds[name][adjusts]
  undisturbed = expected[name][adjusts]
  # Seven clients; two workers are lost with those they have first.
  later(CLIENT_SECONDS / 2, lambda: running.kill(0), lambda: running.silence(1))
  with caplog.at_level(logging.WARNING):
    disturbed = call()
  # No client is counted twice, and they keep their order.
  assert support.to_bytes(disturbed) == support.to_bytes(undisturbed)
  lost = sorted(record.getMessage().split(": ")[0] for record in caplog.records)
  assert lost == sorted(f"worker {each} is lost" for each in running.addresses[:2])
  assert spread.answering == (running.addresses[2],)
  running.start(0)
  running.wake(1)
  assert workers.until(lambda: len(spread.answering) == COUNT)
  assert support.to_bytes(call()) == support.to_bytes(undisturbed)


@pytest.mark.usefixtures("spread")
def test_a_file_that_a_worker_lacks(federation):
  path = pathlib.Path(federation.store.path)
  moved = path.rename(path.with_suffix(".moved"))
  try:
    with pytest.raises(InputError) as raised:
      federation.rounds["mean"][0]()
  finally:
    moved.rename(path)
  assert "data folder must be at this path on every worker" in str(raised.value)
  assert str(path) in str(raised.value)
  assert "\n" not in str(raised.value)
