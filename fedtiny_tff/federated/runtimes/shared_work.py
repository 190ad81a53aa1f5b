"""Parts of a computation, dealt to the threads that have workers do them."""

import collections
import threading
from collections.abc import Sequence
from typing import Any, Optional

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes.remote_worker import RemoteWorker
from fedtiny_tff.federated.runtimes.worker_stub import WorkerLost

# How often workers are looked for, and signals are noticed.
POLL_SECONDS = 0.2


class Work:
  """What is waiting, running and done; shared by the threads that do it."""

  def __init__(self, workers: Sequence[RemoteWorker], parts: int):
    """Takes who works, and how many parts there are."""
    self._workers = workers
    self._news = threading.Condition()
    self._waiting = collections.deque(range(parts))
    self._running = collections.Counter[RemoteWorker]()
    self._losses = collections.Counter[int]()
    self._results: dict[int, Any] = {}
    self._error: Optional[Exception] = None
    self._left = parts

  def take(self, worker: RemoteWorker) -> Optional[int]:
    """Waits for a part that a worker may do; None when nothing is left."""
    with self._news:
      while self._left and not (self._waiting and self._is_next(worker)):
        # Workers come and go without notice here.
        self._news.wait(POLL_SECONDS)
      if not self._left:
        return None
      self._running[worker] += 1
      return self._waiting.popleft()

  def _is_next(self, worker: RemoteWorker) -> bool:
    """Whether no other worker that answers has less to do."""
    here = [self._running[each] for each in self._workers if each.answers]
    return worker.answers and self._running[worker] == min(here, default=0)

  def put(self, part: int, worker: RemoteWorker, result: Any) -> None:
    """Takes a result."""
    with self._news:
      self._running[worker] -= 1
      self._results[part] = result
      self._left = max(self._left - 1, 0)
      self._news.notify_all()

  def give_back(self, part: int, worker: RemoteWorker, error: WorkerLost) -> None:
    """Has a part done by somebody else; after many losses, it may be the cause."""
    with self._news:
      self._running[worker] -= 1
      self._losses[part] += 1
      self._waiting.appendleft(part)
      self._news.notify_all()
    if (losses := self._losses[part]) > len(self._workers):
      failure = InputError(
        f"the same client lost {losses} workers, the last at {worker.address} ({error}): "
        "look for want of memory there"
      )
      failure.__cause__ = error
      self.fail(failure)

  def fail(self, error: Exception) -> None:
    """Ends all of it."""
    with self._news:
      self._error = self._error or error
      self._left = 0
      self._news.notify_all()

  def stop(self) -> None:
    """Lets the threads end; what still runs is of no use."""
    with self._news:
      self._left = 0
      self._news.notify_all()

  def wait_for(self, part: int) -> bool:
    """Waits a moment for a result; returns whether it is there.

    Raises:
      Exception: What a part failed with.
    """
    with self._news:
      if part not in self._results and self._error is None:
        self._news.wait(POLL_SECONDS)
      if self._error is not None:
        raise self._error
      return part in self._results

  def pop(self, part: int) -> Any:
    """Hands a result out, once."""
    with self._news:
      return self._results.pop(part)
