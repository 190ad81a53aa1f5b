"""Asking devices, and waiting for what they answer."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

import numpy as np

from fedtiny_tff.devices import device_messages, device_tasks
from fedtiny_tff.devices.device_messages import Envelope, TensorLayout
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from fedtiny_tff.errors import InputError
from pipelines.apps import interruption, redaction
from pipelines.apps.progress import Progress
from pipelines.devices.device_folder import DeviceFolder

_POLL_SECONDS = 0.1
# Until somebody is told who is waited for, and again.
_FIRST_WORD_SECONDS, _NEXT_WORD_SECONDS = 10.0, 60.0
# A device whose answers are refused more often is not listened to until the next task.
_MOST_REFUSALS = 3
_SHOWN_CLIENTS = 8

Tensors = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Question:
  """What devices are asked.

  Attributes:
    work: Key of `device_tasks.WORK`.
    clients: Who is asked.
    messages: What the server sends, by number; of `hello`, nothing.
    layouts: What each answer must hold.
    block: The block whose mask is adjusted afterwards, if one is.
    check: Raises `InputError` for an answer that is to be refused.
  """

  work: str
  clients: Sequence[int]
  messages: Mapping[int, Mapping[str, np.ndarray]]
  layouts: Mapping[str, TensorLayout]
  block: Optional[int] = None
  check: Callable[[Tensors], None] = lambda tensors: None


class DeviceAsking:
  """Puts questions to the devices of one plan."""

  def __init__(
    self, folder: DeviceFolder, plan: str, timeout_seconds: float, progress: Progress
  ):
    """Takes what every question needs.

    Args:
      folder: Where messages lie.
      plan: Digest of the plan.
      timeout_seconds: How long answers are waited for.
      progress: Where it is said who is waited for.
    """
    self._folder = folder
    self._plan = plan
    self._timeout_seconds = timeout_seconds
    self._progress = progress

  def ask(self, question: Question) -> dict[int, dict[int, Tensors]]:
    """Publishes a task, and waits until it is answered or the time is over.

    An answer that is not what it must be is refused, with a line, and made again.

    Returns:
      By client, of those that answered all messages: tensors by the message's number.
    """
    task, contents = self._task(question)
    self._folder.publish(task, contents)
    waiting = _Answers(
      self._folder, self._progress, task, question, self._envelopes(task)
    )
    begun = time.monotonic()
    next_word = begun + _FIRST_WORD_SECONDS
    while waiting.look() and (now := time.monotonic()) < begun + self._timeout_seconds:
      interruption.check()
      if now >= next_word:
        self._progress.say(f"{question.work}: waiting for {_named(waiting.missing)}")
        next_word = now + _NEXT_WORD_SECONDS
      time.sleep(_POLL_SECONDS)
    if waiting.missing:
      self._progress.warn(
        f"{question.work}: going on without {_named(waiting.missing)} after "
        f"{time.monotonic() - begun:.0f} s (--device_timeout_seconds)"
      )
    return waiting.whole

  def finish(self) -> None:
    """Tells the devices that nothing more is asked of them."""
    self._folder.publish(DeviceTask(self._plan, device_tasks.FINISHED), {})

  def _task(self, question: Question) -> tuple[DeviceTask, dict[int, bytes]]:
    kind = device_tasks.WORK[question.work].sent
    contents = {
      number: device_messages.write(Envelope(kind, self._plan, number), tensors)
      for number, tensors in question.messages.items()
    }
    listed = tuple(
      TaskMessage(number, device_tasks.message_digest(content))
      for number, content in contents.items()
    )
    clients = tuple(question.clients)
    return DeviceTask(
      self._plan, question.work, clients, listed, question.block
    ), contents

  def _envelopes(self, task: DeviceTask) -> dict[int, Envelope]:
    """Returns what envelopes of answers must say, but for the client, by number."""
    kind = device_tasks.WORK[task.work].answer
    messages = task.messages or (TaskMessage(0, ""),)
    return {
      each.number: Envelope(kind, self._plan, each.number, answers=each.sha256)
      for each in messages
    }


class _Answers:
  """What has arrived of one task's answers."""

  def __init__(
    self,
    folder: DeviceFolder,
    progress: Progress,
    task: DeviceTask,
    question: Question,
    envelopes: Mapping[int, Envelope],
  ):
    self._folder = folder
    self._progress = progress
    self._task = task
    self._layouts = question.layouts
    self._check = question.check
    self._envelopes = envelopes
    self._found: dict[int, dict[int, Tensors]] = {c: {} for c in question.clients}
    self._refusals = dict.fromkeys(question.clients, 0)

  @property
  def missing(self) -> list[int]:
    """Clients that have not answered everything."""
    wanted = len(self._envelopes)
    return [client for client, found in self._found.items() if len(found) < wanted]

  @property
  def whole(self) -> dict[int, dict[int, Tensors]]:
    """Answers of the clients that have."""
    missing = set(self.missing)
    return {client: of for client, of in self._found.items() if client not in missing}

  def look(self) -> bool:
    """Reads what is new; returns whether anything may still come."""
    for client in self.missing:
      if self._refusals[client] < _MOST_REFUSALS:
        self._look_at(client)
    return any(self._refusals[client] < _MOST_REFUSALS for client in self.missing)

  def _look_at(self, client: int) -> None:
    for number, envelope in self._envelopes.items():
      if number in self._found[client]:
        continue
      path = self._task.answer_path(client, number)
      content = self._folder.read(path, device_messages.largest_bytes(self._layouts))
      if content is None:
        continue
      wanted = dataclasses.replace(envelope, client=client)
      try:
        tensors = device_messages.read(content, wanted, self._layouts)
        self._check(tensors)
        self._found[client][number] = tensors
      except InputError as error:
        self._refusals[client] += 1
        self._folder.remove(path)
        self._progress.warn(f"refused, client {client}: {redaction.line(str(error))}")


def _named(clients: Sequence[int]) -> str:
  """Names some clients, and counts the others."""
  shown = ", ".join(map(str, clients[:_SHOWN_CLIENTS]))
  more = len(clients) - _SHOWN_CLIENTS
  return f"client{'s' if len(clients) > 1 else ''} {shown}" + (
    f" and {more} more" if more > 0 else ""
  )
