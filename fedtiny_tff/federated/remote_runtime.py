"""TFF's runtime over several workers, on this machine or on others.

    server's work -> a worker of our own, beside us
    clients' work -> parts of equal size, one for each worker

TFF's mergeable execution context does the same, but blocks while a worker computes, so
that the workers wait for each other (measured: four were no faster than one), calls a
lost worker for ever, and adds up in the order in which the workers end. Here a part
that is lost goes to another worker, and parts are added in their own order: which
worker computed what changes no bit of the result, the number of workers only the order
of the sums.
"""

import collections
import concurrent.futures
import contextlib
import functools
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow_federated as tff

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import runtime, spreading, worker_channel
from fedtiny_tff.federated.remote_worker import RemoteWorker
from fedtiny_tff.federated.worker_stub import WorkerLost

# A lost worker is silent for as long before its clients are given to others.
_ANSWER_SECONDS = 20.0
# How long a run waits for all workers at its start, and for one of them later.
_RETURN_SECONDS = 60.0
# How often idle workers are looked for, and signals are noticed.
_POLL_SECONDS = 0.2
_KEPT_PLANS = 64

_Task: TypeAlias = concurrent.futures.Future[Any]


class RemoteRuntime(contextlib.AbstractContextManager):
  """Runs TFF computations, clients' work on several workers.

  Use as a context manager; inside it, calling a TFF computation runs it there.
  """

  def __init__(
    self,
    addresses: Sequence[str],
    *,
    answer_seconds: float = _ANSWER_SECONDS,
    return_seconds: float = _RETURN_SECONDS,
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
      stack.callback(spread.close)
      context = _SpreadingContext(self._local.context, spread)
      stack.enter_context(tff.framework.get_context_stack().install(context))
      self._cleanup = stack.pop_all()
    return self

  def _wait(self) -> None:
    deadline = time.monotonic() + self._return_seconds
    while silent := [each for each in self._addresses if each not in self.answering]:
      if time.monotonic() > deadline:
        raise _no_answer(silent, self._return_seconds)
      time.sleep(_POLL_SECONDS)

  def __exit__(self, *exception: object) -> None:
    """Hangs up and gives TFF its former context back."""
    self._cleanup.close()


def _no_answer(addresses: Sequence[str], seconds: float) -> InputError:
  return InputError(
    f"no answer in {seconds:g} s from worker {', '.join(addresses)}: start it with "
    "`python -m pipelines.worker`, look at the network between, or leave it out"
  )


class _Spread:
  """Has parts computed by whichever workers answer, each worker one at a time."""

  def __init__(self, workers: Sequence[RemoteWorker], return_seconds: float):
    self._workers = workers
    self._return_seconds = return_seconds
    self._threads = concurrent.futures.ThreadPoolExecutor(len(workers))
    # The last part that each was given. After an error, parts are still computed that
    # nobody waits for.
    self._tasks: dict[RemoteWorker, _Task] = {}

  @property
  def size(self) -> int:
    return len(self._workers)

  def close(self) -> None:
    self._threads.shutdown(wait=False, cancel_futures=True)

  def run(self, computation: tff.Computation, arguments: Sequence[Any]) -> list[Any]:
    """Returns a compiled computation's result for each argument, in their order.

    A part whose worker is lost is computed by another one; of each part, one result
    is taken.

    Raises:
      InputError: When no worker answers any more.
    """
    results: dict[int, Any] = {}
    waiting = collections.deque(range(len(arguments)))
    lost = collections.Counter[int]()
    running: dict[_Task, tuple[int, RemoteWorker]] = {}
    while len(results) < len(arguments):
      for worker in self._workers:
        if waiting and self._is_free(worker):
          part = waiting.popleft()
          task = self._threads.submit(worker.invoke, computation, arguments[part])
          self._tasks[worker] = task
          running[task] = part, worker
      if not running:
        self._wait_for_one()
        continue
      done, _ = concurrent.futures.wait(
        running, _POLL_SECONDS, concurrent.futures.FIRST_COMPLETED
      )
      for task in done:
        part, worker = running.pop(task)
        try:
          results[part] = task.result()
        except WorkerLost as error:
          lost[part] += 1
          self._check_losses(lost[part], worker, error)
          waiting.appendleft(part)
    return [results[part] for part in range(len(arguments))]

  def _is_free(self, worker: RemoteWorker) -> bool:
    task = self._tasks.get(worker)
    return worker.answers and (task is None or task.done())

  def _check_losses(self, losses: int, last: RemoteWorker, error: WorkerLost) -> None:
    """Gives up on clients that every worker was lost with: they may be the cause."""
    if losses > len(self._workers):
      raise InputError(
        f"the same clients lost {losses} workers, the last at {last.address} ({error}): "
        "look for want of memory there"
      ) from error

  def _wait_for_one(self) -> None:
    deadline = time.monotonic() + self._return_seconds
    while not any(self._is_free(worker) for worker in self._workers):
      if any(worker.answers for worker in self._workers):
        deadline = time.monotonic() + self._return_seconds
      elif time.monotonic() > deadline:
        addresses = [worker.address for worker in self._workers]
        raise _no_answer(addresses, self._return_seconds)
      time.sleep(_POLL_SECONDS)


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
    parts = spreading.split(arg, argument_type, self._spread.size)
    merged, *others = self._spread.run(plan.up_to_merge, parts)
    pair = tff.structure.Struct.unnamed
    for other in others:
      merged = self._local.invoke(plan.merge, pair(merged, other))
    return self._local.invoke(plan.after_merge, pair(arg, merged))
