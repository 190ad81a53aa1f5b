"""The device's process on an emulated ARM core computes the round of this machine."""

import contextlib
import subprocess
import tempfile

import numpy as np
import pytest

from fedtiny_tff.devices import device_messages, device_tasks
from fedtiny_tff.devices.device_messages import Envelope
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from pipelines.apps import files
from pipelines.devices import device_examples
from tests.pipelines import device_gateway_test, support
from tests.pipelines.device_client_test import flags
from tests.tflite_export.device_training import device_runtime_test as tiny
from tflite_export.arm64 import arm64_setup
from tflite_export.device_training.device_runtime import DeviceRuntime

_NOT_SET_UP = arm64_setup.problem()
_COUNTS = (3, 4)


@contextlib.contextmanager
def by_folder(folder):
  yield folder


@contextlib.contextmanager
def by_http(folder):
  with device_gateway_test.serving(folder) as port:
    yield f"http://127.0.0.1:{port}"


def offered(folder, block):
  """Writes an exchange that asks for one round; returns the round's message."""
  message = tiny.round_message(*(_COUNTS if block == 1 else ()))
  plan = tiny.bundle().plan
  digest = device_tasks.message_digest(message)
  asked = TaskMessage(tiny.ROUND, digest)
  task = DeviceTask(plan.digest, device_tasks.TRAIN, (tiny.CLIENT,), (asked,), block)
  for path, content in (
    (device_tasks.PLAN_PATH, plan.as_json().encode()),
    (device_tasks.MODEL_PATH, tiny.bundle().content),
    (task.sent_path(asked), message),
    (device_tasks.TASK_PATH, task.as_json().encode()),
  ):
    files.write_bytes(folder / path, content)
  return message


@pytest.mark.arm64
@pytest.mark.skipif(bool(_NOT_SET_UP), reason=_NOT_SET_UP)
@pytest.mark.parametrize(("way", "block"), [(by_folder, 1), (by_http, None)])
def test_a_round_on_an_emulated_core(tmp_path, way, block):
  folder = tmp_path / "exchange"
  message = offered(folder, block)
  examples = device_examples.OwnExamples(tiny.examples(13, 0), tiny.examples(11, 1))
  data = tmp_path / "data"
  device_examples.write(data, examples)
  emulator = arm64_setup.find()
  assert emulator is not None
  with way(folder) as exchange, tempfile.TemporaryDirectory() as scratch:
    process = subprocess.Popen(
      emulator.command("pipelines.device_client", *flags(exchange, data)),
      cwd=support.ROOT, env=emulator.environment(scratch), text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    answer = folder / device_tasks.answer_path(tiny.CLIENT, "update", tiny.ROUND)
    while not answer.exists() and process.poll() is None:
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.05)
    plan = tiny.bundle().plan
    finished = DeviceTask(plan.digest, device_tasks.FINISHED)
    files.write_text(folder / device_tasks.TASK_PATH, finished.as_json())
    printed, told = process.communicate(timeout=600)
  assert process.returncode == 0, told
  assert printed.startswith("Finished: 1 rounds, 1 answers, ")
  runtime = DeviceRuntime(tiny.bundle().content, plan, tiny.CLIENT, *examples)
  here = runtime.train(message, tiny.ROUND, block, lambda *steps: None)
  envelope = Envelope(
    "update", plan.digest, tiny.ROUND, tiny.CLIENT, device_tasks.message_digest(message)
  )
  layouts = plan.update_layouts(block)
  found = device_messages.read(answer.read_bytes(), envelope, layouts)
  for name, wanted in device_messages.read(here, envelope, layouts).items():
    if name in ("correct", "examples", "weight", "statistics.indices"):
      np.testing.assert_array_equal(found[name], wanted)
    else:
      np.testing.assert_allclose(
        found[name], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max()
      )
