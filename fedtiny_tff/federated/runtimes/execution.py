"""In which TFF context computations run: the user's, whatever kind it is, or ours."""

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Optional

import tensorflow_federated as tff

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import runtime

# Modules of the contexts in which computations are put together.
_COMPOSING = "federated_computation_context", "tensorflow_computation_context"

_ours: Optional[runtime.LocalRuntime] = None


def set_local_execution_context(
  max_concurrent_clients: int = 2,
) -> runtime.LocalRuntime:
  """Makes a worker of our own TFF's default context, until the interpreter ends.

  Beside `tff.backends.native.set_sync_local_cpp_execution_context`, its process ends
  with ours, nobody else reaches it where the kernel admits a network namespace, and it
  keeps its memory. Calling it again starts a new worker and ends the former one.

  Args:
    max_concurrent_clients: Client computations that run at the same time.

  Returns:
    The runtime, of which `close` ends the worker before.
  """
  global _ours  # noqa: PLW0603 - there is one default context, too.
  if _ours is None:
    atexit.register(_close)
  _close()
  started = runtime.LocalRuntime(max_concurrent_clients, is_default=True)
  started.__enter__()
  _ours = started
  return started


def _close() -> None:
  if _ours is not None:
    _ours.close()


def require_execution(name: str) -> None:
  """Makes sure that computations run when they are called, and return values.

  Args:
    name: What is called.

  Raises:
    InputError: When they are being composed, or return references.
  """
  current = tff.framework.get_context_stack().current
  composes = type(current).__module__.endswith(_COMPOSING)
  if composes or isinstance(current, tff.program.FederatedContext):
    raise InputError(
      f"{name} chooses each round's computation in Python, by the state, and cannot be "
      f"part of another computation or program (TFF's context is "
      f"{type(current).__name__}); call it in a loop of your own"
    )


class _Synchronous(tff.framework.SyncContext):
  """Waits for what an asynchronous context computes, also within a running loop."""

  def __init__(
    self, context: tff.framework.AsyncContext, loop: asyncio.AbstractEventLoop
  ):
    self._context = context
    self._loop = loop

  def invoke(self, comp: tff.Computation, arg: Any) -> Any:
    """Runs a computation in the loop's thread."""
    coroutine = self._context.invoke(comp, arg)
    return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


@contextlib.contextmanager
def synchronous() -> Iterator[None]:
  """Lets computations return values, where the user's context returns awaitables."""
  stack = tff.framework.get_context_stack()
  if not isinstance(stack.current, tff.framework.AsyncContext):
    yield
    return
  loop = asyncio.new_event_loop()
  thread = threading.Thread(target=loop.run_forever, daemon=True)
  thread.start()
  try:
    with stack.install(_Synchronous(stack.current, loop)):
      yield
  finally:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
