"""What a gateway lets through: which paths, from whom, how long, and when."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import threading
from collections.abc import Callable, Mapping
from typing import Generic, Optional, TypeVar

from fedtiny_tff.devices import device_messages, device_plan, device_tasks
from fedtiny_tff.devices.device_messages import TensorLayout
from fedtiny_tff.devices.device_plan import DevicePlan
from fedtiny_tff.devices.device_tasks import DeviceTask
from fedtiny_tff.errors import InputError
from pipelines.devices.device_exchange import read_file

_LARGEST_TOKENS_BYTES = 64 << 20
_SHORTEST_SECRET = 16
_FIXED = (device_tasks.PLAN_PATH, device_tasks.MODEL_PATH, device_tasks.TASK_PATH)
_SENT = "|".join(filter(None, (each.sent for each in device_tasks.WORK.values())))
_ANSWERS = "|".join(filter(None, (each.answer for each in device_tasks.WORK.values())))
# Canonical: one name for each number.
_NUMBER = "([0-9]{6}|[1-9][0-9]{6,11})"
_SENT_PATH = re.compile(rf"server/({_SENT})-{_NUMBER}\.safetensors")
_ANSWER_PATH = re.compile(rf"devices/{_NUMBER}/({_ANSWERS})-{_NUMBER}\.safetensors")

Parsed = TypeVar("Parsed")


@dataclasses.dataclass(frozen=True)
class AnswerPlace:
  """Where an answer goes.

  Attributes:
    client: Whose it is.
    kind: An `Exchange.answer`.
    number: Of the message that it answers.
  """

  client: int
  kind: str
  number: int

  @property
  def path(self) -> str:
    """The path, made anew from what was understood."""
    return device_tasks.answer_path(self.client, self.kind, self.number)

  def __str__(self) -> str:
    """Returns what the log calls the message."""
    return f"{self.kind} {self.number} of client {self.client}"


def readable(path: str) -> bool:
  """Whether a path is one of the server's files, which devices may read."""
  return path in _FIXED or _SENT_PATH.fullmatch(path) is not None


def answer_place(path: str) -> Optional[AnswerPlace]:
  """Returns what a path of an answer says, None where it is none."""
  found = _ANSWER_PATH.fullmatch(path)
  return AnswerPlace(int(found[1]), found[2], int(found[3])) if found else None


class Tokens:
  """Which secret is which client's."""

  def __init__(self, secrets: Mapping[int, str]):
    """Takes the secrets by client."""
    # Looked up by digest, so that no time that it takes tells of a secret.
    self._clients = {_digest(secret): client for client, secret in secrets.items()}

  def client(self, header: Optional[str]) -> Optional[int]:
    """Returns who sent an `Authorization` header; None for nobody we know."""
    kind, _, secret = (header or "").partition(" ")
    if kind.lower() != "bearer":
      return None
    return self._clients.get(_digest(secret.strip()))


def _digest(secret: str) -> bytes:
  return hashlib.sha256(secret.encode(errors="replace")).digest()


def read_tokens(name: str) -> Tokens:
  """Reads `--tokens_file`.

  Raises:
    InputError: When it is no such file, in a message that tells nothing of a secret.
  """
  where = f"--tokens_file={name}"
  try:
    content = read_file(pathlib.Path(name), _LARGEST_TOKENS_BYTES)
    document = json.loads(content or b"")
    secrets = {_client(key): _secret(value) for key, value in document.items()}
  except OSError as error:
    raise InputError(
      f"{where}: cannot be read ({error.strerror}); name a JSON file"
    ) from error
  # The errors of JSON quote what they met.
  except (ValueError, AttributeError, RecursionError):
    secrets = {}
  if not secrets or len(set(secrets.values())) < len(secrets):
    raise InputError(
      f"{where}: is no JSON object of each client's number and its own secret of at "
      f'least {_SHORTEST_SECRET} characters; write it as {{"0": "...", "1": "..."}}'
    )
  return Tokens(secrets)


def _client(key: str) -> int:
  if not re.fullmatch("0|[1-9][0-9]{0,11}", key):
    raise ValueError
  return int(key)


def _secret(value: object) -> str:
  if not isinstance(value, str) or len(value) < _SHORTEST_SECRET:
    raise ValueError
  if not value.isascii() or not value.isprintable() or " " in value:
    raise ValueError
  return value


class _Watched(Generic[Parsed]):
  """A file that is parsed again when it was replaced."""

  def __init__(
    self, path: pathlib.Path, most_bytes: int, parse: Callable[[str, str], Parsed]
  ):
    self._path = path
    self._most_bytes = most_bytes
    self._parse = parse
    self._lock = threading.Lock()
    self._state: tuple[int, ...] = ()
    self._held: Optional[Parsed] = None

  def get(self) -> Optional[Parsed]:
    """Returns what the file says; None where it is missing or wrong."""
    with self._lock:
      try:
        found = os.stat(self._path, follow_symlinks=False)
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        if state != self._state:
          content = read_file(self._path, self._most_bytes) or b""
          is_whole = len(content) <= self._most_bytes
          text = content.decode(errors="replace") if is_whole else ""
          self._held = self._parse(text, self._path.name)
          self._state = state
      except (OSError, InputError):
        self._held, self._state = None, ()
      return self._held


class Asked:
  """What the server of a folder asks for now."""

  def __init__(self, folder: pathlib.Path):
    """Takes the folder, in which nothing need be yet."""
    self._task: _Watched[DeviceTask] = _Watched(
      folder / device_tasks.TASK_PATH,
      device_tasks.LARGEST_TASK_BYTES,
      device_tasks.read_task,
    )
    self._plan: _Watched[DevicePlan] = _Watched(
      folder / device_tasks.PLAN_PATH,
      device_tasks.LARGEST_PLAN_BYTES,
      device_plan.read_plan,
    )

  def most_bytes(self, place: AnswerPlace) -> Optional[int]:
    """Returns how long an answer may be; None where nobody asks for it."""
    task, plan = self._task.get(), self._plan.get()
    if task is None or plan is None or place.client not in task.clients:
      return None
    numbers = {each.number for each in task.messages}
    if task.work == device_tasks.HELLO:
      numbers = {0}
    is_asked = device_tasks.WORK[task.work].answer == place.kind
    if not is_asked or place.number not in numbers:
      return None
    layouts = _layouts(task, plan)
    return None if layouts is None else device_messages.largest_bytes(layouts)


def _layouts(task: DeviceTask, plan: DevicePlan) -> Optional[dict[str, TensorLayout]]:
  """Returns what the answers to a task hold."""
  if task.work == device_tasks.HELLO:
    return device_plan.hello_layouts()
  if task.work == device_tasks.MEASURE:
    return plan.moment_layouts()
  if task.work == device_tasks.TRAIN:
    if task.block is not None and task.block >= len(plan.blocks):
      return None
    return plan.update_layouts(task.block)
  return device_plan.metric_layouts()
