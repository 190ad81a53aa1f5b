"""Devices in threads: they see the exchange's folder and their own data alone."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator

from fedtiny_tff.devices import device_plan, device_tasks
from pipelines import device_data
from pipelines.datasets.data_folder import RunData
from tflite_export.device_training.device_runtime import DeviceRuntime


class Device:
  """One device, which answers until the run is finished."""

  def __init__(self, folder: pathlib.Path, client: int, data: RunData):
    """Reads the data; nothing of the folder."""
    self._folder = folder
    self._client = client
    self._examples = device_data.reader(data)(client)
    self._runtime: DeviceRuntime
    self._answered: set[str] = set()
    self.ends = threading.Event()

  def work(self) -> None:
    """Polls the folder; ends when the run does, or `ends` is set."""
    while not self.ends.is_set():
      task = self._task()
      if task is None:
        time.sleep(0.02)
      elif task.work == device_tasks.FINISHED:
        return
      elif self._client in task.clients:
        self._answer(task)
      time.sleep(0.02)

  def _task(self):
    path = self._folder / device_tasks.TASK_PATH
    if not path.exists():
      return None
    if not hasattr(self, "_runtime"):
      text = (self._folder / device_tasks.PLAN_PATH).read_text()
      plan = device_plan.read_plan(text, "plan")
      content = (self._folder / device_tasks.MODEL_PATH).read_bytes()
      self._runtime = DeviceRuntime(content, plan, self._client, *self._examples)
    return device_tasks.read_task(path.read_text(), "task")

  def _answer(self, task: device_tasks.DeviceTask) -> None:
    for message in task.messages or (device_tasks.TaskMessage(0, ""),):
      path = self._folder / task.answer_path(self._client, message.number)
      if path.exists():
        continue
      content = self.compute(task, message)
      path.parent.mkdir(parents=True, exist_ok=True)
      fresh = path.with_name(f".{path.name}")
      fresh.write_bytes(content)
      fresh.rename(path)

  def compute(
    self, task: device_tasks.DeviceTask, message: device_tasks.TaskMessage
  ) -> bytes:
    """Returns the answer to a message."""
    if task.work == device_tasks.HELLO:
      return self._runtime.hello()
    sent = (self._folder / task.sent_path(message)).read_bytes()
    if task.work == device_tasks.TRAIN:
      return self._runtime.train(sent, message.number, task.block, lambda *steps: None)
    simple = {
      device_tasks.MEASURE: self._runtime.measure,
      device_tasks.SCORE: self._runtime.score,
      device_tasks.EVALUATE: self._runtime.evaluate,
    }
    return simple[task.work](sent, message.number)


@contextlib.contextmanager
def working(devices: list[Device]) -> Iterator[None]:
  """Lets devices work meanwhile."""
  threads = [threading.Thread(target=device.work, daemon=True) for device in devices]
  for thread in threads:
    thread.start()
  try:
    yield
  finally:
    for device in devices:
      device.ends.set()
    for thread in threads:
      thread.join(30)
