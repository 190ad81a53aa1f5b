"""TFF's connection to a worker, which says when the worker is gone.

TFF's own contexts call a worker that is gone again and again, for ever. Here the call
fails, and whoever made it decides.
"""

import errno
import os
from collections.abc import Callable
from typing import Any, Optional

import grpc
import tensorflow_federated as tff

from fedtiny_tff.errors import InputError

_GONE = (
  grpc.StatusCode.UNAVAILABLE,
  grpc.StatusCode.CANCELLED,
  grpc.StatusCode.DEADLINE_EXCEEDED,
  # What a worker says that was started anew: it knows nothing of what went before.
  grpc.StatusCode.FAILED_PRECONDITION,
)
# What a worker says of a file that it cannot read.
_UNREADABLE = (errno.ENOENT, errno.EACCES)
_DISPOSALS = ("Dispose", "DisposeExecutor")
_RUNNING = "Failed to run computation: "


class WorkerLost(Exception):
  """A worker does not answer any more, or has forgotten what it was told."""


class _Disposed:
  """The outcome of a call that nobody needs."""

  def result(self) -> None:
    """Returns nothing, as the call would."""


class _Explaining(grpc.UnaryUnaryClientInterceptor):
  """Raises what a failed call means."""

  def intercept_unary_unary(
    self,
    continuation: Callable[[grpc.ClientCallDetails, Any], Any],
    client_call_details: grpc.ClientCallDetails,
    request: Any,
  ) -> Any:
    """Makes a call, and looks at how it went."""
    call = continuation(client_call_details, request)
    error = call.exception()
    if error is None:
      return call
    # A worker that is gone has disposed of everything; and TFF disposes when Python
    # clears values away, where nobody could catch an error.
    if client_call_details.method.rpartition("/")[2] in _DISPOSALS:
      return _Disposed()
    if explained := _explained(error):
      raise explained from error
    return call


def _explained(error: Exception) -> Optional[Exception]:
  """Returns what a failure means, or None for a defect."""
  if not isinstance(error, grpc.RpcError):
    # What gRPC raises for calls on a channel that was closed.
    return WorkerLost("its connection was closed")
  assert isinstance(error, grpc.Call)
  details = str(error.details())
  if error.code() in _GONE:
    return WorkerLost(details)
  if any(os.strerror(each) in details for each in _UNREADABLE):
    what = details.splitlines()[0].removeprefix(_RUNNING)
    return InputError(
      f"{what}; a run's data folder must be at this path on every worker"
    )
  return None


class _Unwatched:
  """A channel nobody subscribes to.

  TFF's stub does, and never ends it: gRPC's thread for it fails, in print, when the
  channel is closed.
  """

  def __init__(self, channel: grpc.Channel):
    self._channel = channel

  def subscribe(self, *_: object, **__: object) -> None:
    """Does nothing."""

  def __getattr__(self, name: str) -> Any:
    return getattr(self._channel, name)


def executor_factory(channel: grpc.Channel) -> tff.framework.ExecutorFactory:
  """Returns what makes executors in a worker, one for each number of clients.

  What they do raises `WorkerLost` when the worker is gone, and InputError where it
  lacks a file.
  """
  explaining = grpc.intercept_channel(channel, _Explaining())
  stub = tff.framework.RemoteExecutorGrpcStub(_Unwatched(explaining))

  def make(cardinalities: dict[Any, int]) -> tff.framework.RemoteExecutor:
    cardinalities.setdefault(tff.CLIENTS, 0)
    executor = tff.framework.RemoteExecutor(stub)
    executor.set_cardinalities(cardinalities)
    return executor

  return tff.framework.ResourceManagingExecutorFactory(make)
