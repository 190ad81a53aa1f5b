"""Rounds over three workers on this machine equal those of one, however disturbed."""

import logging

import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import remote_runtime, spreading
from fedtiny_tff.protection.aggregation_config import AGGREGATIONS
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.runtimes import slow_rounds, workers

pytestmark = pytest.mark.slow

NAMES = (*AGGREGATIONS, *slow_rounds.HIDDEN)
COUNT = 3
SILENT_SECONDS = 2.0


@pytest.fixture(name="rounds", scope="module")
def fixture_rounds(tmp_path_factory):
  return slow_rounds.build(tmp_path_factory.mktemp("spread"), NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_aggregation_can_be_taken_apart(rounds, name, caplog):
  for computation in rounds.computations[name]:
    assert spreading.make_plan(computation).merge is not None
  assert caplog.records == []


@pytest.fixture(name="running", scope="module")
def fixture_running():
  with workers.running_workers(COUNT) as running:
    yield running


@pytest.fixture(name="expected", scope="module")
def fixture_expected(rounds, local_runtime):
  return {name: [call() for call in calls] for name, calls in rounds.calls.items()}


@pytest.fixture(name="spread", scope="module")
def fixture_spread(expected, running):
  with remote_runtime.RemoteRuntime(
    running.addresses, answer_seconds=SILENT_SECONDS, return_seconds=60.0
  ) as runtime:
    yield runtime


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("name", NAMES)
def test_rounds_equal_those_of_one_machine_in_every_bit(rounds, expected, name):
  for number, call in enumerate(rounds.calls[name]):
    state, metrics = found = call()
    assert support.to_bytes(found) == support.to_bytes(expected[name][number])
    assert float(metrics.examples) == slow_rounds.CLIENTS * slow_rounds.EXAMPLES
    assert (state.mask != rounds.mask).any() == (number == 1)


@pytest.mark.parametrize("name", ["mean", "median"])
@pytest.mark.parametrize("adjusts", [False, True])
def test_disturbed_rounds_equal_those_as_well(
  rounds, expected, running, spread, name, adjusts, caplog
):
  call = rounds.calls[name][adjusts]
  # Seven clients; two workers are lost with those they have first.
  workers.later(
    slow_rounds.CLIENT_SECONDS / 2,
    lambda: running.kill(0),
    lambda: running.silence(1),
  )
  with caplog.at_level(logging.WARNING):
    disturbed = call()
  # No client is counted twice, and they keep their order.
  undisturbed = expected[name][adjusts]
  assert support.to_bytes(disturbed) == support.to_bytes(undisturbed)
  lost = sorted(record.getMessage().split(": ")[0] for record in caplog.records)
  assert lost == sorted(f"worker {each} is lost" for each in running.addresses[:2])
  assert spread.answering == (running.addresses[2],)
  running.start(0)
  running.wake(1)
  assert workers.until(lambda: len(spread.answering) == COUNT)
  assert support.to_bytes(call()) == support.to_bytes(undisturbed)


@pytest.mark.usefixtures("spread")
def test_a_file_that_a_worker_lacks(rounds):
  moved = rounds.path.rename(rounds.path.with_suffix(".moved"))
  try:
    with pytest.raises(InputError) as raised:
      rounds.calls["mean"][0]()
  finally:
    moved.rename(rounds.path)
  assert "data folder must be at this path on every worker" in str(raised.value)
  assert str(rounds.path) in str(raised.value)
  assert "\n" not in str(raised.value)
