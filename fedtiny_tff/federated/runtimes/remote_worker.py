"""One worker of several: runs what it is given, and is watched while it does.

A worker that is cut off says nothing, and a call to it would wait for ever. So each is
asked at short intervals, over the same connection, whether it still answers. When it
does not, the connection is closed, which fails the calls on it; then it is tried to
connect anew, until the worker is back.
"""

import asyncio
import contextlib
import logging
import threading
from typing import Any, NamedTuple, Optional

import grpc
import tensorflow_federated as tff

from fedtiny_tff.federated.runtimes import worker_channel, worker_stub
from fedtiny_tff.federated.runtimes.worker_stub import WorkerLost

# Calls at a time: the next client is there when one is done.
SLOTS = 2

_PAUSE_SECONDS = 1.0


class _Connection(NamedTuple):
  channel: grpc.Channel
  # One for each slot: they are not made for several threads.
  contexts: tuple[tff.framework.AsyncContext, ...]


def _make_context(channel: grpc.Channel) -> tff.framework.AsyncContext:
  return tff.framework.AsyncExecutionContext(
    executor_fn=worker_stub.executor_factory(channel),
    transform_args=tff.tensorflow.transform_args,
    transform_result=tff.tensorflow.transform_result,
  )


class RemoteWorker:
  """A worker at an address, from `watch` to `close`.

  Attributes:
    address: `host:port`.
  """

  def __init__(self, address: str, answer_seconds: float):
    """Names the worker.

    Args:
      address: `host:port`.
      answer_seconds: A worker that has not answered for so long is lost.
    """
    self.address = address
    self._answer_seconds = answer_seconds
    self._lock = threading.Lock()
    self._slots = tuple(threading.Lock() for _ in range(SLOTS))
    self._connection: Optional[_Connection] = None
    self._was_lost = False
    self._is_closed = False
    # Set when there is something to do for the thread that watches.
    self._news = threading.Event()
    self._thread = threading.Thread(
      target=self._watch, name=f"worker {address}", daemon=True
    )

  @property
  def answers(self) -> bool:
    """Whether the worker answered when it was last asked."""
    return self._connection is not None

  def watch(self) -> None:
    """Begins to connect and to watch."""
    self._thread.start()

  def close(self) -> None:
    """Hangs up; what still runs fails with `WorkerLost`."""
    with self._lock:
      self._is_closed = True
      self._hang_up()
    self._news.set()

  def invoke(self, slot: int, computation: tff.Computation, argument: Any) -> Any:
    """Runs a compiled computation, and waits for its result.

    Args:
      slot: One of `SLOTS`; each makes one call at a time.
      computation: What to run.
      argument: What to run it with.

    Raises:
      WorkerLost: When the worker does not answer.
    """
    connection = self._connection
    if connection is None:
      raise WorkerLost("it does not answer")
    try:
      # What a round that failed left running ends first: one that fails would close
      # the executor of the other.
      with self._slots[slot]:
        return asyncio.run(connection.contexts[slot].invoke(computation, argument))
    except WorkerLost as error:
      self._lose(connection, str(error))
      raise

  def _hang_up(self) -> None:
    connection, self._connection = self._connection, None
    if connection is not None:
      connection.channel.close()

  def _lose(self, connection: _Connection, reason: str) -> None:
    with self._lock:
      # Somebody else may have noticed before us.
      if self._connection is not connection:
        return
      self._hang_up()
      self._was_lost = True
    self._news.set()
    logging.warning("worker %s is lost: %s", self.address, reason)

  def _watch(self) -> None:
    while not self._is_closed:
      connection = self._connection
      if connection is None:
        self._connect()
      elif not worker_channel.answers(connection.channel, self._answer_seconds):
        self._lose(connection, f"no answer in {self._answer_seconds:g} s")
      self._news.wait(_PAUSE_SECONDS)
      self._news.clear()

  def _connect(self) -> None:
    with contextlib.ExitStack() as stack:
      channel = stack.enter_context(worker_channel.open_channel(self.address))
      if not worker_channel.answers(channel, self._answer_seconds, waits=True):
        return
      contexts = tuple(_make_context(channel) for _ in range(SLOTS))
      with self._lock:
        if self._is_closed:
          return
        self._connection = _Connection(channel, contexts)
        stack.pop_all()
    if self._was_lost:
      logging.warning("worker %s is back", self.address)
