"""How long files take on the machine at hand, in LiteRT.

A phone's `benchmark_model` answers for the phone. This answers for this machine: it
tells whether a file got slower, not whether zeros make it faster, since XNNPACK runs
sparse kernels on ARM only.
"""

import dataclasses
import platform
import time
from collections.abc import Callable, Mapping

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.runtimes import litert

_WARM_UP_RUNS = 5
_ARM = ("aarch64", "arm64")


@dataclasses.dataclass(frozen=True)
class Latency:
  """How long one inference of a file takes: `latency` of its row in `report.json`.

  Attributes:
    threads: Threads of the interpreter.
    runs: Measured inferences.
    median_seconds: Half of them were faster.
    p90_seconds: Nine in ten were faster.
  """

  threads: int
  runs: int
  median_seconds: float
  p90_seconds: float


def runs_sparse_here() -> bool:
  """Returns whether XNNPACK has sparse kernels for this machine's processor."""
  return platform.machine().lower() in _ARM


def measure(
  models: Mapping[str, bytes],
  example: Array,
  *,
  threads: int,
  runs: int,
  clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
  """Measures files in turn: one inference of each, then again.

  What disturbs the machine for a while disturbs all of them alike.

  Args:
    models: Files with one input and one output, by name.
    example: float [...], one input; quantised where a file asks for it.
    threads: Threads of each interpreter.
    runs: Inferences of each file that count; a few more come before.
    clock: Seconds since some moment.

  Returns:
    Figures by name.

  Raises:
    VerificationError: A file does not load.
    InputError: Fewer than one thread or run.
  """
  if threads < 1 or runs < 1:
    raise InputError(
      f"a benchmark needs at least 1 thread and 1 run, got {threads} and {runs}"
    )
  invoke = {
    name: litert.prepared(content, example, threads) for name, content in models.items()
  }
  seconds = np.zeros([len(invoke), runs])
  for number in range(-_WARM_UP_RUNS, runs):
    for place, run in enumerate(invoke.values()):
      start = clock()
      run()
      if number >= 0:
        seconds[place, number] = clock() - start
  return {
    name: Latency(
      threads=threads,
      runs=runs,
      median_seconds=float(np.median(of_file)),
      p90_seconds=float(np.percentile(of_file, 90)),
    )
    for name, of_file in zip(invoke, seconds, strict=True)
  }
