"""One question of a server's task to a device, and what belongs to it."""

import dataclasses
from typing import Optional

import safetensors.numpy

from fedtiny_tff.devices import device_tasks
from fedtiny_tff.devices.device_messages import TensorLayout
from fedtiny_tff.devices.device_plan import DevicePlan
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from fedtiny_tff.errors import InputError


@dataclasses.dataclass(frozen=True)
class Question:
  """One thing that a task asks a device for.

  Attributes:
    task: The task.
    message: What the device is to work on; `hello` has none.
  """

  task: DeviceTask
  message: Optional[TaskMessage]

  @property
  def number(self) -> int:
    """Number of the candidate or the round."""
    return self.message.number if self.message else 0

  @property
  def sent_path(self) -> str:
    """Where the server's message lies."""
    return self.task.sent_path(self.message) if self.message else ""

  def answer_path(self, client: int) -> str:
    """Returns where a client's answer lies."""
    return self.task.answer_path(client, self.number)

  def is_in(self, task: DeviceTask, client: int) -> bool:
    """Whether a task asks a client for the same."""
    mine = self.task
    is_same = (task.plan, task.work, task.block) == (mine.plan, mine.work, mine.block)
    return is_same and client in task.clients and self.message in task.messages

  def __str__(self) -> str:
    """Returns what the log calls the question."""
    work = self.task.work
    if self.message is None:
      return work
    is_candidate = work in (device_tasks.MEASURE, device_tasks.SCORE)
    kind = "candidate" if is_candidate else "round"
    return f"{work}, {kind} {self.number}"


def layouts(question: Question, plan: DevicePlan) -> dict[str, TensorLayout]:
  """Returns what the server's message must hold.

  Raises:
    InputError: When the task names a block that the plan has not.
  """
  block = question.task.block
  if block is not None and block >= len(plan.blocks):
    raise InputError(
      f"{device_tasks.TASK_PATH}: names block {block}, the plan has {len(plan.blocks)}; "
      "let the server write it again"
    )
  is_round = question.task.work == device_tasks.TRAIN
  return plan.round_layouts(block) if is_round else plan.model_layouts()


def check_digest(path: str, content: bytes, wanted: str, by: str) -> None:
  """Makes sure that a file is the one that is meant.

  Args:
    path: Where it lay.
    content: The file.
    wanted: SHA-256 that it must have, in hexadecimal.
    by: Who says so.

  Raises:
    InputError: When it is another.
  """
  found = device_tasks.message_digest(content)
  if found != wanted:
    raise InputError(
      f"{path}: its digest is {found[:12]}, {by} names {wanted[:12]}; it was cut short "
      "or altered, or belongs to another run: let the server write it again"
    )


def figures(content: bytes, plan: DevicePlan) -> str:
  """Returns the loss, and the accuracy of a classifier, of an update of ours."""
  update = safetensors.numpy.load(content)
  examples = max(float(update["examples"][0]), 1.0)
  told = f"loss {float(update['loss_sum'][0]) / examples:.4f}"
  if plan.model.task == "classify":
    told += f", accuracy {float(update['correct'][0]) / examples:.4f}"
  return told
