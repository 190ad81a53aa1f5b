"""TFF's local runtime, with a worker process that cannot outlive us.

Nobody else can reach the worker where the kernel admits a network namespace for it.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import grpc
import tensorflow_federated as tff

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.private_sums import secure_sums
from fedtiny_tff.federated.runtimes import worker_channel, worker_process, worker_stub


class LocalRuntime(contextlib.AbstractContextManager["LocalRuntime"]):
  """Runs TFF computations in one local worker process.

  Use as a context manager; inside it, calling a TFF computation runs it there.

  Attributes:
    context: TFF's, while it runs.
  """

  context: tff.framework.SyncContext

  def __init__(
    self,
    max_concurrent_clients: int = 2,
    interceptors: Sequence[grpc.UnaryUnaryClientInterceptor] = (),
    *,
    is_isolated: bool = True,
    is_default: bool = False,
  ):
    """Prepares the runtime; the worker starts on entry.

    Args:
      max_concurrent_clients: Client computations that run at the same time.
      interceptors: What observes calls to the worker.
      is_isolated: Whether nobody but this user may reach the worker. Where the kernel
        does not admit that, a warning is logged.
      is_default: Whether it becomes TFF's default context instead of the innermost
        one, so that contexts that are set or installed later count.
    """
    self._max_concurrent_clients = max_concurrent_clients
    self._interceptors = tuple(interceptors)
    self._is_isolated = is_isolated
    self._is_default = is_default
    self._worker: Optional[worker_process.WorkerProcess] = None
    self._cleanup = contextlib.ExitStack()

  @property
  def worker_pids(self) -> tuple[int, ...]:
    """Process ids of the running workers."""
    return (self._worker.pid,) if self._worker else ()

  def __enter__(self) -> "LocalRuntime":
    """Starts the worker and installs it as TFF's context.

    Raises:
      RuntimeError: When the worker does not come up.
    """
    with contextlib.ExitStack() as stack:
      self._worker = self._start(stack)
      stack.callback(self._forget)
      channel = stack.enter_context(worker_channel.open_channel(self._worker.target))
      if self._interceptors:
        channel = grpc.intercept_channel(channel, *self._interceptors)
      self.context = _LocalContext(channel)
      stack.enter_context(self._installed())
      self._cleanup = stack.pop_all()
    return self

  @contextlib.contextmanager
  def _installed(self) -> Iterator[None]:
    """Makes the context TFF's."""
    stack = tff.framework.get_context_stack()
    if not self._is_default:
      with stack.install(self.context):
        yield
      return
    former = stack.current
    tff.framework.set_default_context(self.context)
    yield
    # Another one that was set meanwhile stays.
    if stack.current is self.context:
      tff.framework.set_default_context(former)

  def close(self) -> None:
    """Ends the worker and gives TFF its former context back."""
    self._cleanup.close()

  def _start(self, stack: contextlib.ExitStack) -> worker_process.WorkerProcess:
    clients = self._max_concurrent_clients
    if self._is_isolated:
      try:
        return stack.enter_context(worker_process.WorkerProcess(clients))
      except worker_process.IsolationRefused as refused:
        logging.warning("%s", open_worker_warning(str(refused)))
    return stack.enter_context(worker_process.WorkerProcess(clients, is_isolated=False))

  def _forget(self) -> None:
    self._worker = None

  def __exit__(self, *exception: object) -> None:
    """Ends the worker; see `close`."""
    self.close()


def open_worker_warning(reason: str) -> str:
  """Says that a local worker is open to the network, and how to mend it."""
  ports = worker_process.OPEN_PORTS
  return (
    "TFF's worker has no authentication and other machines may reach it: no network "
    f"namespace is admitted here ({reason}); admit user namespaces, or refuse the ports: "
    f"iptables -I INPUT ! -i lo -p tcp --dport {ports[0]}:{ports[-1]} -j DROP "
    "(and ip6tables)"
  )


def _compiled(computation: tff.Computation) -> Any:
  return tff.backends.native.desugar_and_transform_to_native(
    secure_sums.in_the_open(computation)
  )


class _LocalContext(tff.framework.SyncContext):
  """Runs computations in a local worker; says so when it is gone."""

  def __init__(self, channel: grpc.Channel):
    self._context = tff.framework.SyncExecutionContext(
      executor_fn=worker_stub.executor_factory(channel),
      compiler_fn=_compiled,
      transform_args=tff.tensorflow.transform_args,
      transform_result=tff.tensorflow.transform_result,
    )

  def invoke(self, comp: tff.Computation, arg: Any) -> Any:
    """Runs a computation.

    Raises:
      InputError: When the worker has ended.
    """
    try:
      return self._context.invoke(comp, arg)
    except worker_stub.WorkerLost as error:
      raise InputError(
        f"TFF's worker on this machine ended ({error}), perhaps for want of memory; "
        "free some and run the same command again"
      ) from error
