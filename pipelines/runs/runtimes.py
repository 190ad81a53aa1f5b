"""Where TFF computations run: in a worker beside us, or in those of `--workers`."""

from collections.abc import Sequence

import grpc

from fedtiny_tff.federated.runtimes import remote_runtime, runtime, worker_channel
from pipelines.apps.progress import Progress
from pipelines.settings import config as config_lib


def choose(
  config: config_lib.RunConfig,
  interceptors: Sequence[grpc.UnaryUnaryClientInterceptor] = (),
) -> runtime.LocalRuntime | remote_runtime.RemoteRuntime:
  """Returns the runtime that a run's flags ask for; it starts when it is entered.

  Entering raises `InputError` when a worker does not answer.

  Args:
    config: The run's flags.
    interceptors: What observes calls to a worker beside us.
  """
  if config.workers:
    return remote_runtime.RemoteRuntime(config.workers)
  return runtime.LocalRuntime(interceptors=interceptors)


def check(config: config_lib.RunConfig, progress: Progress) -> None:
  """Makes sure that `--workers` are there, before anything is written or computed.

  Raises:
    InputError: When one does not answer.
  """
  with progress.waiting(describe_start(config)):
    worker_channel.require_answers(config.workers, remote_runtime.RETURN_SECONDS)


def describe_start(config: config_lib.RunConfig) -> str:
  """Says what is waited for when it starts."""
  if config.workers:
    return f"waiting for TFF's workers at {', '.join(config.workers)}"
  return "starting TFF's worker"
