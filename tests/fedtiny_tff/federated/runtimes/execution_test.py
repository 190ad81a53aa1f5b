"""Our context is TFF's default while it is set; TFF's own contexts work as well."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_federated as tff

import fedtiny_tff
from fedtiny_tff.federated.runtimes import execution

ROOT = pathlib.Path(__file__).resolve().parents[4]


@tff.tensorflow.computation(tff.TensorType(np.int32))
def _double(number):
  return 2 * number


_DEFAULT = """
import numpy as np
import psutil
import tensorflow_federated as tff
import fedtiny_tff

@tff.tensorflow.computation(tff.TensorType(np.int32))
def double(number):
  return 2 * number

former = tff.framework.get_context_stack().current
first = fedtiny_tff.set_local_execution_context()
assert tff.framework.get_context_stack().current is first.context
[pid] = first.worker_pids
assert double(21) == 42
second = fedtiny_tff.set_local_execution_context()
assert not psutil.pid_exists(pid)
assert tff.framework.get_context_stack().current is second.context
assert double(4) == 8
second.close()
second.close()
assert second.worker_pids == ()
assert tff.framework.get_context_stack().current is former
"""


@pytest.mark.slow
def test_the_default_context_is_ours_until_it_is_closed():
  # In a process of its own: other tests have a context above the default one.
  subprocess.run([sys.executable, "-c", _DEFAULT], cwd=ROOT, check=True)


def test_a_context_that_was_set_later_stays(local_runtime):
  former = tff.framework.get_context_stack().current
  ours = fedtiny_tff.set_local_execution_context()
  other = local_runtime.context
  with tff.framework.get_context_stack().install(other):
    ours.close()
    assert tff.framework.get_context_stack().current is other
  tff.framework.set_default_context(former)


def test_a_synchronous_context_is_left_as_it_is(local_runtime):
  with (
    tff.framework.get_context_stack().install(local_runtime.context),
    execution.synchronous(),
  ):
    assert tff.framework.get_context_stack().current is local_runtime.context


_CELL = """
import asyncio
import numpy as np
import psutil
import tensorflow as tf
import tensorflow_federated as tff
import fedtiny_tff

def model_fn():
  return tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(2)])

tff.backends.native.{setter}()
x = np.eye(3, dtype=np.float32)
data = [tf.data.Dataset.from_tensor_slices((x, np.array([0, 1, 1])))] * 2
plan = fedtiny_tff.FedTinyPlan(target_density=0.5, rounds=1, pool_size=2)

async def cell():
  candidate = fedtiny_tff.select_candidate(model_fn, plan, data)
  process = fedtiny_tff.build_fedtiny(model_fn, plan, candidate=candidate)
  state, metrics = process.next(process.initialize(), data)
  assert metrics["aggregator"]["accepted"] == 2
  assert process.evaluate(state, data)["num_examples"] == 6
  print("done")

try:
  asyncio.run(cell())
finally:
  # TFF's own worker outlives the interpreter.
  for child in psutil.Process().children(recursive=True):
    child.kill()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  "setter",
  [
    "set_sync_local_cpp_execution_context",
    "set_async_local_cpp_execution_context",
  ],
)
def test_tffs_own_contexts_within_a_running_loop(setter):
  done = subprocess.run(
    [sys.executable, "-c", _CELL.format(setter=setter)],
    cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == "done"
