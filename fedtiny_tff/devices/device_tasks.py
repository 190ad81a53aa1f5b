"""What a server asks of devices, and where its messages and their answers lie.

A folder, or whatever serves it, stands between them:

    client_plan.json, model.tflite        what a device gets once
    task.json                             what is asked for now
    server/KIND-NUMBER.safetensors        what the server sends to all
    devices/CLIENT/KIND-NUMBER.safetensors  what a device answers

The server replaces `task.json` when everything that it names is there. A device answers
each message by itself, and does again what has no answer yet: the same message has the
same answer. Neither TensorFlow nor TFF is needed.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Optional

from fedtiny_tff.errors import InputError

TASK_VERSION = 1
PLAN_PATH = "client_plan.json"
MODEL_PATH = "model.tflite"
TASK_PATH = "task.json"
ANSWERS_PATH = "devices"
# No task is longer, however many clients it names, and no plan, whatever its blocks.
LARGEST_TASK_BYTES = 16 << 20
LARGEST_PLAN_BYTES = 4 << 20

HELLO = "hello"
MEASURE = "measure"
SCORE = "score"
TRAIN = "train"
EVALUATE = "evaluate"
FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class Exchange:
  """Which messages a kind of work consists of.

  Attributes:
    sent: Kind of the server's; empty where it sends none.
    answer: Kind of a device's; empty where it sends none.
  """

  sent: str
  answer: str


WORK: Mapping[str, Exchange] = {
  HELLO: Exchange("", "hello"),
  MEASURE: Exchange("candidate", "moments"),
  SCORE: Exchange("scoring", "score"),
  TRAIN: Exchange("round", "update"),
  EVALUATE: Exchange("evaluation", "figures"),
  FINISHED: Exchange("", ""),
}


@dataclasses.dataclass(frozen=True)
class TaskMessage:
  """One of the server's messages that a task names.

  Attributes:
    number: Of the candidate, or of the round.
    sha256: Digest of the message, in hexadecimal; answers name it.
  """

  number: int
  sha256: str


@dataclasses.dataclass(frozen=True)
class DeviceTask:
  """What is asked for now.

  Attributes:
    plan: Digest of the plan that it belongs to.
    work: Key of `WORK`.
    clients: Who is asked.
    messages: What they work on.
    block: The block whose mask is adjusted after the round, if one is.
  """

  plan: str
  work: str
  clients: tuple[int, ...] = ()
  messages: tuple[TaskMessage, ...] = ()
  block: Optional[int] = None

  def as_json(self) -> str:
    """Returns the task as text, the same for the same task."""
    document = {"version": TASK_VERSION, **dataclasses.asdict(self)}
    return json.dumps(document, sort_keys=True) + "\n"

  def sent_path(self, message: TaskMessage) -> str:
    """Returns where a message of the server lies."""
    return f"server/{_file(WORK[self.work].sent, message.number)}"

  def answer_path(self, client: int, number: int) -> str:
    """Returns where a device's answer lies."""
    return answer_path(client, WORK[self.work].answer, number)


def answer_path(client: int, kind: str, number: int) -> str:
  """Returns where an answer of a device lies.

  Args:
    client: Who it is.
    kind: An `Exchange.answer`.
    number: Of the message that it answers; 0 for `hello`.
  """
  return f"{ANSWERS_PATH}/{client:06d}/{_file(kind, number)}"


def _file(kind: str, number: int) -> str:
  return f"{kind}-{number:06d}.safetensors"


def message_digest(content: bytes) -> str:
  """Returns the digest by which a task and an answer name a message."""
  return hashlib.sha256(content).hexdigest()


def read_task(text: str, where: str) -> DeviceTask:
  """Reads a task.

  Args:
    text: The file's.
    where: Its name, for errors.

  Raises:
    InputError: When it is no task of this version.
  """
  try:
    document = json.loads(text)
    version = document.pop("version")
    if version != TASK_VERSION:
      raise InputError(
        f"{where}: is a task of version {version!r}, expected {TASK_VERSION}; run server "
        "and devices with the same release"
      )
    return _task(document)
  except InputError:
    raise
  except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
    raise InputError(
      f"{where}: is no task for devices ({type(error).__name__}: {error}); let the server "
      "write it again"
    ) from error


def _task(document: dict[str, Any]) -> DeviceTask:
  """Makes a task of what JSON knows no classes for.

  Raises:
    ValueError: When a value is none that a task can have.
  """
  task = DeviceTask(
    plan=plain_text(document.pop("plan")),
    work=plain_text(document.pop("work")),
    clients=tuple(map(whole_number, document.pop("clients"))),
    messages=tuple(
      TaskMessage(whole_number(each["number"]), plain_text(each["sha256"]))
      for each in document.pop("messages")
    ),
    block=None if document["block"] is None else whole_number(document["block"]),
  )
  if task.work not in WORK:
    raise ValueError(f"work is {task.work!r}")
  return task


def plain_text(value: Any) -> str:
  """Returns a value of a JSON document that must be a text.

  Raises:
    ValueError: When it is none.
  """
  if not isinstance(value, str):
    raise ValueError(f"{value!r} is no text")
  return value


def whole_number(value: Any) -> int:
  """Returns a value of a JSON document that must be a number of things.

  Raises:
    ValueError: When it is none.
  """
  if not isinstance(value, int) or isinstance(value, bool) or value < 0:
    raise ValueError(f"{value!r} is no number of things")
  return value
