"""Tests of rounds over three workers on this machine: equal, and however disturbed."""

import _thread
import contextlib
import functools
import logging
import pathlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import optimizers, schedules, training
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import remote_runtime, rounds
from fedtiny_tff.strategies import fedtiny
from tests.fedtiny_tff.federated import support, workers

COUNT = 3
CLIENTS = 7
EXAMPLES = 6
ACTIVE = (7, 5)
RATE = 0.1
# Of a client, so that a round can be disturbed while it runs.
CLIENT_SECONDS = 0.2
SILENT_SECONDS = 1.0

NUMBERS = tff.FederatedType(np.int32, tff.CLIENTS)


class Federation(NamedTuple):
  """Where clients are stored, what they compute, and what one machine makes of it.

  Attributes:
    store: All examples.
    rounds: An ordinary round, and one that adjusts the mask, from the same start.
    mask: That of the start.
    expected: What the rounds return in the local runtime.
  """

  store: support.ClientStore
  rounds: tuple[Callable[[], Any], ...]
  mask: np.ndarray
  expected: tuple[Any, ...]


@pytest.fixture(name="federation", scope="module")
def fixture_federation(tmp_path_factory, local_runtime):
  generator = np.random.default_rng(3)
  parts = [
    [support.random_part(generator, EXAMPLES, (3,), 2) for _ in range(2)]
    for _ in range(CLIENTS)
  ]
  path = tmp_path_factory.mktemp("spread") / "records"
  stored, clients = support.write_store(path, [support.Client(*pair) for pair in parts])
  store = workers.slow_store(stored, CLIENT_SECONDS)
  model = support.perceptron()
  start = support.make_state(
    support.random_weights(model), support.random_mask(model, ACTIVE)
  )
  config = training.TrainingConfig(optimizers.OptimizerConfig("sgd", RATE, 0.9), 1, 4)
  builder = rounds.RoundBuilder(
    model, store, config, fedtiny.FedTiny(), (schedules.AdjustmentEvent(1, 0, (3,)),),
    active_count=sum(ACTIVE), seed=2,
  )  # fmt: skip

  def run(number):
    computation = builder.computation(number)
    return computation.run(start, clients, builder.instruction(number, RATE))

  calls = tuple(functools.partial(run, number) for number in (0, 1))
  return Federation(stored, calls, start.mask, tuple(call() for call in calls))


@pytest.fixture(name="running", scope="module")
def fixture_running():
  with workers.running_workers(COUNT) as running:
    yield running


@contextlib.contextmanager
def spread_over(running, seconds=30.0):
  with remote_runtime.RemoteRuntime(
    running.addresses, answer_seconds=SILENT_SECONDS, return_seconds=seconds
  ) as runtime:
    yield runtime


@pytest.fixture(name="spread", scope="module")
def fixture_spread(federation, running):
  """One runtime for all tests that leave all workers running."""
  with spread_over(running) as runtime:
    yield runtime


def check_close(found, expected, start_mask):
  (state, metrics), (wanted, wanted_metrics) = found, expected
  np.testing.assert_array_equal(state.mask, wanted.mask)
  for each, other in zip(state.weights, wanted.weights, strict=True):
    np.testing.assert_allclose(each, other, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(list(metrics), list(wanted_metrics), rtol=1e-5)
  assert float(metrics.examples) == CLIENTS * EXAMPLES
  return (state.mask != start_mask).any()


@pytest.mark.parametrize("adjusts", [False, True])
def test_rounds_equal_those_of_one_machine_however_disturbed(
  federation, running, spread, adjusts, caplog
):
  call = federation.rounds[adjusts]
  undisturbed = call()
  moved = check_close(undisturbed, federation.expected[adjusts], federation.mask)
  assert moved == adjusts
  # Every part has two clients or three; both are lost in the first one's time.
  later(CLIENT_SECONDS / 2, lambda: running.kill(0), lambda: running.silence(1))
  with caplog.at_level(logging.WARNING):
    disturbed = call()
  # Equal in every bit: no client is counted twice, and parts keep their order.
  assert support.to_bytes(disturbed) == support.to_bytes(undisturbed)
  lost = sorted(record.getMessage().split(": ")[0] for record in caplog.records)
  assert lost == sorted(f"worker {each} is lost" for each in running.addresses[:2])
  assert spread.answering == (running.addresses[2],)
  assert used_workers() < running.pids
  running.start(0)
  running.wake(1)
  assert workers.until(lambda: len(spread.answering) == COUNT)
  assert used_workers() == running.pids


@tff.tensorflow.computation(np.int32)
def worker_of(number):
  """Returns a row with the client's place and the process that computed it."""
  stat = tf.io.read_file("/proc/self/stat")
  pid = tf.strings.to_number(tf.strings.split(stat, " ")[0], tf.int32)
  return tf.one_hot(number, COUNT, dtype=tf.int32) * pid


@tff.federated_computation(NUMBERS)
def workers_of(numbers):
  return tff.federated_sum(tff.federated_map(worker_of, numbers))


@tff.tensorflow.computation(np.int32)
def double(number):
  return 2 * number


def used_workers():
  return set(np.asarray(workers_of(list(range(COUNT)))).tolist())


def later(seconds, *actions):
  def act():
    for action in actions:
      action()

  threading.Timer(seconds, act).start()


def test_each_worker_has_a_part_and_the_rest_runs_beside_us(running, spread):
  used = used_workers()
  assert used == running.pids
  (own,) = spread.worker_pids
  assert own not in used
  assert double(21) == 42


def test_clients_that_no_worker_is_left_for():
  total = workers.slow_sum(0.5)
  with workers.running_workers(2) as running, spread_over(running, 1.0) as runtime:
    # All are lost, one comes back.
    later(0.2, *(functools.partial(running.kill, n) for n in range(2)))
    later(0.5, lambda: running.start(1))
    assert total([1, 2]) == 3
    assert runtime.answering == (running.addresses[1],)
    later(0.2, lambda: running.kill(1))
    with pytest.raises(InputError) as raised:
      total([1, 2])
    addresses = ", ".join(running.addresses)
    assert str(raised.value).startswith(f"no answer in 1 s from any worker ({addresses})")
    assert "\n" not in str(raised.value)
    # What needs none of them still runs.
    assert double(2) == 4


def test_clients_that_end_every_worker_end_the_run():
  total = workers.slow_sum(5.0)
  with (
    workers.running_workers(1) as running,
    spread_over(running),
  ):
    later(0.3, lambda: running.kill(0), lambda: running.start(0))
    later(1.8, lambda: running.kill(0), lambda: running.start(0))
    with pytest.raises(InputError, match="the same clients lost 2 workers, the last at"):
      total([1])


class TestStart:
  def test_goes_on_without_those_that_do_not_answer(self, running, caplog):
    (port,) = workers.free_ports(1)
    addresses = [f"127.0.0.1:{port}", *running.addresses]
    with (
      caplog.at_level(logging.WARNING),
      remote_runtime.RemoteRuntime(addresses, return_seconds=0.5) as runtime,
    ):
      assert runtime.answering == tuple(running.addresses)
      assert used_workers() <= running.pids
    assert f"no answer from worker 127.0.0.1:{port}" in caplog.text

  def test_fails_when_none_answers(self):
    stack = tff.framework.get_context_stack()
    before = stack.current
    addresses = [f"127.0.0.1:{port}" for port in workers.free_ports(2)]
    with (
      pytest.raises(InputError, match=rf"no answer .* \({', '.join(addresses)}\)"),
      remote_runtime.RemoteRuntime(addresses, return_seconds=0.3),
    ):
      pytest.fail("entered without a worker")
    assert stack.current is before

  @pytest.mark.parametrize("addresses", [[], ["worker"], ["a:1", "a:1"]])
  def test_bad_addresses(self, addresses):
    with pytest.raises(InputError):
      remote_runtime.RemoteRuntime(addresses)


class TestErrors:
  def test_a_computation_that_fails_is_not_repeated(self, running, spread):
    @tff.tensorflow.computation(np.int32)
    def fail(x):
      with tf.control_dependencies([tf.debugging.assert_less(x, 0)]):
        return tf.identity(x)

    @tff.federated_computation(NUMBERS)
    def failing_sum(numbers):
      return tff.federated_sum(tff.federated_map(fail, numbers))

    with pytest.raises(Exception, match="assert"):
      failing_sum([1, 2])
    assert len(spread.answering) == COUNT
    assert used_workers() == running.pids

  def test_a_file_that_a_worker_lacks(self, federation, spread):
    path = pathlib.Path(federation.store.path)
    moved = path.rename(path.with_suffix(".moved"))
    try:
      with pytest.raises(InputError) as raised:
        federation.rounds[0]()
    finally:
      moved.rename(path)
    assert "data folder must be at this path on every worker" in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)

  def test_an_interruption_does_not_wait_for_the_workers(self):
    total = workers.slow_sum(60.0)
    with workers.running_workers(1) as busy:
      with (
        pytest.raises(KeyboardInterrupt),
        remote_runtime.RemoteRuntime(busy.addresses) as runtime,
      ):
        later(0.5, _thread.interrupt_main)
        total([1])
      (worker,) = runtime._workers
      assert not worker.answers
      assert workers.until(lambda: not worker._thread.is_alive())
