"""TFF's runtime over several workers, on this machine or on others.

    server's work -> a worker of our own, beside us
    clients' work -> client by client, to whichever worker is free

TFF's mergeable execution context takes computations apart in the same way, but blocks
while a worker computes, so that the workers wait for each other (measured: four were no
faster than one), calls a lost worker for ever, and adds up in the order in which the
workers end. Here a client whose worker is lost goes to another one, and clients are
added in their own order, as one worker adds them: which worker computed what, and how
many there are, changes no bit of the result.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import tensorflow_federated as tff

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import (
  remote_worker,
  runtime,
  spreading,
  worker_channel,
)
from fedtiny_tff.federated.runtimes.remote_worker import RemoteWorker
from fedtiny_tff.federated.runtimes.shared_work import POLL_SECONDS, Work
from fedtiny_tff.federated.runtimes.worker_stub import WorkerLost

# A lost worker is silent for as long before its clients are given to others.
_ANSWER_SECONDS = 20.0
# How long a run waits for all workers at its start, and for one of them later.
RETURN_SECONDS = 60.0
_KEPT_PLANS = 64


class RemoteRuntime(contextlib.AbstractContextManager["RemoteRuntime"]):
  """Runs TFF computations, clients' work on several workers.

  Use as a context manager; inside it, calling a TFF computation runs it there.
  """

  def __init__(
    self,
    addresses: Sequence[str],
    *,
    answer_seconds: float = _ANSWER_SECONDS,
    return_seconds: float = RETURN_SECONDS,
  ):
    """Names the workers; they must have been started.

    Args:
      addresses: `host:port` of each.
      answer_seconds: A worker that has not answered for so long is lost.
      return_seconds: How long to wait for all workers at the start, and later for one
        when none answers.

    Raises:
      InputError: When an address is none, or there is none.
    """
    self._addresses = worker_channel.parse_addresses(addresses)
    if not self._addresses:
      raise InputError("no worker is named; write host:port for each")
    self._answer_seconds = answer_seconds
    self._return_seconds = return_seconds
    self._workers: tuple[RemoteWorker, ...] = ()
    self._local = runtime.LocalRuntime()
    self._cleanup = contextlib.ExitStack()

  @property
  def answering(self) -> tuple[str, ...]:
    """Addresses of the workers that answered when they were last asked."""
    return tuple(worker.address for worker in self._workers if worker.answers)

  @property
  def worker_pids(self) -> tuple[int, ...]:
    """Process ids of the workers on this machine that we started."""
    return self._local.worker_pids

  def __enter__(self) -> "RemoteRuntime":
    """Connects with the workers and installs TFF's context.

    Raises:
      InputError: When a worker does not answer: its address may be wrong.
    """
    with contextlib.ExitStack() as stack:
      stack.enter_context(self._local)
      self._workers = tuple(
        RemoteWorker(address, self._answer_seconds) for address in self._addresses
      )
      for worker in self._workers:
        stack.callback(worker.close)
        worker.watch()
      self._wait()
      spread = _Spread(self._workers, self._return_seconds)
      context = _SpreadingContext(self._local.context, spread)
      stack.enter_context(tff.framework.get_context_stack().install(context))
      self._cleanup = stack.pop_all()
    return self

  def _wait(self) -> None:
    deadline = time.monotonic() + self._return_seconds
    while silent := [each for each in self._addresses if each not in self.answering]:
      if time.monotonic() > deadline:
        raise worker_channel.no_answer(silent, self._return_seconds)
      time.sleep(POLL_SECONDS)

  def __exit__(self, *exception: object) -> None:
    """Hangs up and gives TFF its former context back."""
    self._cleanup.close()


class _Spread:
  """Has clients computed by whichever workers are free."""

  def __init__(self, workers: Sequence[RemoteWorker], return_seconds: float):
    self._workers = workers
    self._return_seconds = return_seconds

  def run(
    self, computation: tff.Computation, arguments: Sequence[Any]
  ) -> Generator[Any, None, None]:
    """Yields a compiled computation's result for each argument, in their order.

    What a worker is lost with is computed by another one; one result is taken of each
    argument.

    Raises:
      InputError: When no worker answers any more.
    """
    work = Work(self._workers, len(arguments))

    def compute(worker: RemoteWorker, slot: int) -> None:
      while (part := work.take(worker)) is not None:
        try:
          result = worker.invoke(slot, computation, arguments[part])
        except WorkerLost as error:
          work.give_back(part, worker, error)
        except Exception as error:
          work.fail(error)
        else:
          work.put(part, worker, result)

    for slot in range(remote_worker.SLOTS):
      for worker in self._workers:
        threading.Thread(target=compute, args=(worker, slot), daemon=True).start()
    try:
      for part in range(len(arguments)):
        yield self._result(work, part)
    finally:
      work.stop()

  def _result(self, work: Work, part: int) -> Any:
    deadline = time.monotonic() + self._return_seconds
    while not work.wait_for(part):
      if any(worker.answers for worker in self._workers):
        deadline = time.monotonic() + self._return_seconds
      elif time.monotonic() > deadline:
        addresses = [worker.address for worker in self._workers]
        raise worker_channel.no_answer(addresses, self._return_seconds)
    return work.pop(part)


class _SpreadingContext(tff.framework.SyncContext):
  """Runs clients' work on the workers, and everything else beside us."""

  def __init__(self, local: tff.framework.SyncContext, spread: _Spread):
    self._local = local
    self._spread = spread
    self._plan = functools.lru_cache(_KEPT_PLANS)(spreading.make_plan)

  def invoke(self, comp: tff.Computation, arg: Any) -> Any:
    """Runs a computation."""
    argument_type = comp.type_signature.parameter
    if spreading.count_clients(arg, argument_type) is None:
      return self._local.invoke(comp, arg)
    plan = self._plan(comp)
    if plan.merge is None:
      (result,) = self._spread.run(plan.up_to_merge, [arg])
      return result
    pair = tff.structure.Struct.unnamed
    parts = spreading.split(arg, argument_type)
    with contextlib.closing(self._spread.run(plan.up_to_merge, parts)) as results:
      merged = next(results)
      for result in results:
        merged = self._local.invoke(plan.merge, pair(merged, result))
    return self._local.invoke(plan.after_merge, pair(arg, merged))
