"""Tests of the runtime over two workers on this machine: who computes, and who is lost."""

import _thread
import contextlib
import functools
import logging
import signal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks import slow_clients
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import remote_runtime
from tests.fedtiny_tff.federated.runtimes import workers

COUNT = 2
NUMBERS = tff.FederatedType(np.int32, tff.CLIENTS)


@contextlib.contextmanager
def spread_over(running, seconds=30.0):
  with remote_runtime.RemoteRuntime(
    running.addresses, answer_seconds=1.0, return_seconds=seconds
  ) as runtime:
    yield runtime


@pytest.fixture(name="running", scope="module")
def fixture_running():
  with workers.running_workers(COUNT) as running:
    yield running


@pytest.fixture(name="spread", scope="module")
def fixture_spread(running):
  """One runtime for all tests that leave all workers running."""
  with spread_over(running) as runtime:
    yield runtime


@tff.tensorflow.computation(np.int32)
def double(number):
  return 2 * number


@tff.tensorflow.computation(np.int32)
def worker_of(number):
  """Returns a row with the client's place and the process that computed it."""
  number = slow_clients.slept(number, 0.1)
  stat = tf.io.read_file("/proc/self/stat")
  pid = tf.strings.to_number(tf.strings.split(stat, " ")[0], tf.int32)
  return tf.one_hot(number, COUNT, dtype=tf.int32) * pid


@tff.federated_computation(NUMBERS)
def workers_of(numbers):
  return tff.federated_sum(tff.federated_map(worker_of, numbers))


def used_workers():
  return set(np.asarray(workers_of(list(range(COUNT)))).tolist())


def slow_sum(seconds):
  """Builds the sum of the clients' numbers, each of which takes its time."""

  @tff.tensorflow.computation(np.int32)
  def wait(number):
    return slow_clients.slept(number, seconds)

  @tff.federated_computation(NUMBERS)
  def total(numbers):
    return tff.federated_sum(tff.federated_map(wait, numbers))

  return total


def test_each_worker_has_a_part_and_the_rest_runs_beside_us(running, spread):
  used = used_workers()
  assert used == running.pids
  (own,) = spread.worker_pids
  assert own not in used
  assert double(21) == 42


def test_a_worker_lost_meanwhile_is_replaced_and_used_again_when_it_is_back(
  running, spread, caplog
):
  total = slow_sum(0.4)
  workers.later(0.2, lambda: running.kill(1))
  with caplog.at_level(logging.WARNING):
    # No client is left out, none counted twice.
    assert total([1, 2, 4]) == 7
  assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
    f"worker {running.addresses[1]} is lost"
  ]
  assert spread.answering == (running.addresses[0],)
  assert used_workers() < running.pids | {0}
  running.start(1)
  assert workers.until(lambda: len(spread.answering) == COUNT)
  assert used_workers() == running.pids


def test_a_computation_that_fails_is_not_repeated(running, spread):
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
  # The other worker may still compute what nobody waits for any more.
  assert workers.until(lambda: used_workers() == running.pids)


def test_names_those_that_do_not_answer_at_the_start(running):
  stack = tff.framework.get_context_stack()
  before = stack.current
  (port,) = workers.free_ports(1)
  addresses = [running.addresses[0], f"127.0.0.1:{port}"]
  with (
    pytest.raises(InputError) as raised,
    remote_runtime.RemoteRuntime(addresses, return_seconds=0.3),
  ):
    pytest.fail("entered without a worker")
  expected = f"no answer in 0.3 s from worker 127.0.0.1:{port}: start it with"
  assert str(raised.value).startswith(expected)
  assert len(str(raised.value).splitlines()) == 1
  assert stack.current is before


@pytest.mark.parametrize("addresses", [[], ["worker"], ["a:1", "a:1"]])
def test_bad_addresses(addresses):
  with pytest.raises(InputError):
    remote_runtime.RemoteRuntime(addresses)


@pytest.mark.slow
def test_clients_that_no_worker_is_left_for():
  total = slow_sum(0.5)
  with workers.running_workers(2) as running, spread_over(running, 2.0) as runtime:
    # All are lost, one comes back.
    workers.later(0.2, *(functools.partial(running.kill, n) for n in range(2)))
    workers.later(0.5, lambda: running.start(1))
    assert total([1, 2]) == 3
    assert runtime.answering == (running.addresses[1],)
    workers.later(0.2, lambda: running.kill(1))
    with pytest.raises(InputError) as raised:
      total([1, 2])
    addresses = ", ".join(running.addresses)
    assert str(raised.value).startswith(f"no answer in 2 s from worker {addresses}: ")
    assert "\n" not in str(raised.value)
    # What needs none of them still runs.
    assert double(2) == 4


@pytest.mark.slow
def test_clients_that_end_every_worker_end_the_run():
  total = slow_sum(5.0)
  with (
    workers.running_workers(1) as running,
    spread_over(running),
  ):
    workers.later(0.3, lambda: running.kill(0), lambda: running.start(0))
    workers.later(2.3, lambda: running.kill(0), lambda: running.start(0))
    with pytest.raises(InputError, match="the same client lost 2 workers, the last at"):
      total([1])


@pytest.fixture(name="heeds_interruptions")
def fixture_heeds_interruptions():
  # A shell that runs the tests in the background ignores Ctrl-C for all of us.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_interruptions")
def test_an_interruption_does_not_wait_for_the_workers():
  total = slow_sum(60.0)
  with workers.running_workers(1) as busy:
    with (
      pytest.raises(KeyboardInterrupt),
      remote_runtime.RemoteRuntime(busy.addresses) as runtime,
    ):
      workers.later(0.5, _thread.interrupt_main)
      total([1])
    (worker,) = runtime._workers
    assert not worker.answers
    assert workers.until(lambda: not worker._thread.is_alive())
