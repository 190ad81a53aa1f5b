"""A tiny model for devices, and the server's part of an exchange, for tests."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.devices import device_messages, device_tasks
from fedtiny_tff.devices.device_messages import Envelope
from fedtiny_tff.devices.device_plan import DevicePlan
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.model_structure import definition
from pipelines.devices import device_examples
from pipelines.devices.device_exchange import FolderExchange
from tflite_export.device_training import device_bundle
from tflite_export.device_training.device_runtime import DeviceExamples, DeviceRuntime

SHAPE, CLASSES, CLIENT, SEED = (4, 2), 3, 3, 11
TRAINING, HELD_OUT = 13, 5


def build() -> tf.keras.Model:
  layers = tf.keras.layers
  inputs = layers.Input(SHAPE)
  x = layers.Dense(6, use_bias=False, name="hidden")(
    layers.Flatten(name="flat")(inputs)
  )
  x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
  return tf.keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x), name="tiny")


def make_bundle(epochs: int) -> device_bundle.DeviceBundle:
  """Builds a dense model's bundle; takes seconds."""
  made = definition.define_model("tiny", build, (("hidden", "logits"),))
  config = training.TrainingConfig(
    optimizers.OptimizerConfig("sgd", 0.1, 0.9, 0.0, 0.0), epochs, 4
  )
  return device_bundle.make_bundle(
    device_bundle.DeviceRequest(made, config, made.spec.size, (), 9, SEED)
  )


@functools.cache
def bundle(epochs: int = 2) -> device_bundle.DeviceBundle:
  """Returns one bundle, whose plan may name other epochs."""
  if epochs != 2:
    short = bundle()
    plan = dataclasses.replace(short.plan, local_epochs=epochs)
    return device_bundle.DeviceBundle(short.content, plan)
  return make_bundle(epochs)


def own_examples(training_examples: int = TRAINING) -> device_examples.OwnExamples:
  generator = np.random.default_rng(0)

  def drawn(count: int) -> DeviceExamples:
    inputs = generator.normal(size=(count, *SHAPE)).astype(np.float32)
    return DeviceExamples(
      inputs, generator.integers(0, CLASSES, count).astype(np.int32)
    )

  return device_examples.OwnExamples(drawn(training_examples), drawn(HELD_OUT))


def runtime(made: device_bundle.DeviceBundle, client: int = CLIENT) -> DeviceRuntime:
  return DeviceRuntime(made.content, made.plan, client, *own_examples())


def message(plan: DevicePlan, work: str, number: int, **changes: np.ndarray) -> bytes:
  """Makes what the server sends for some work."""
  sizes = plan.model
  generator = np.random.default_rng(number)
  kind = device_tasks.WORK[work].sent
  model: dict[str, np.ndarray] = {
    "active_values": generator.normal(0, 0.4, sizes.active).astype(np.float32),
    "positions": np.zeros(sizes.position_bytes, np.uint8),
    "dense": np.ones(sizes.dense, np.float32),
    "batch_norm_mean": np.zeros(sizes.batch_norm, np.float32),
    "batch_norm_variance": np.ones(sizes.batch_norm, np.float32),
  }
  if work == device_tasks.TRAIN:
    model["learning_rate"] = np.array([0.1], np.float32)
    model["counts"] = np.zeros(0, np.int32)
  return device_messages.write(Envelope(kind, plan.digest, number), model | changes)


class Server(FolderExchange):
  """A folder, and a server that does its next step whenever a device looks."""

  def __init__(
    self, folder: pathlib.Path, made: Optional[device_bundle.DeviceBundle] = None
  ):
    super().__init__(folder)
    self.folder = folder
    self.bundle = made or bundle()
    self.plan = self.bundle.plan
    self.script: Iterator[None] = iter(())
    self.looks = 0

  def read(self, path: str, most_bytes: int) -> Optional[bytes]:
    if path == device_tasks.TASK_PATH:
      self.looks += 1
      assert self.looks < 200, "nothing goes on"
      next(self.script, None)
    return super().read(path, most_bytes)

  def offer(self) -> None:
    """Writes what devices get once."""
    self.put(device_tasks.MODEL_PATH, self.bundle.content)
    self.put(device_tasks.PLAN_PATH, self.plan.as_json().encode())

  def put(self, path: str, content: bytes) -> None:
    # As `files.write_bytes` does, but for the syncs, which take most of the time.
    self.folder.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
    fresh = self.folder / "fresh"
    fresh.write_bytes(content)
    fresh.replace(self.folder / path)

  def ask(self, work: str, *numbers: int, **changes: Any) -> DeviceTask:
    """Writes messages for some work, and the task that names them."""
    sent = {number: message(self.plan, work, number) for number in numbers}
    task = DeviceTask(
      self.plan.digest, work, (CLIENT,),
      tuple(
        TaskMessage(number, device_tasks.message_digest(content))
        for number, content in sent.items()
      ),
    )  # fmt: skip
    for each in task.messages:
      self.put(task.sent_path(each), sent[each.number])
    self.publish(dataclasses.replace(task, **changes))
    return task

  def publish(self, task: DeviceTask) -> None:
    self.put(device_tasks.TASK_PATH, task.as_json().encode())

  def answer(self, kind: str, number: int) -> Optional[bytes]:
    path = self.folder / device_tasks.answer_path(CLIENT, kind, number)
    return path.read_bytes() if path.exists() else None

  def until(self, kind: str, number: int) -> Iterator[None]:
    """Waits for an answer."""
    while self.answer(kind, number) is None:
      yield
