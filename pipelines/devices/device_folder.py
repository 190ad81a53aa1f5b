"""The folder through which a server and devices talk, as the server sees it.

See `fedtiny_tff.devices.device_tasks` for what lies where. What devices write there is not
trusted: an answer is read only if it is a plain file of a possible length.
"""

import contextlib
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Optional

from fedtiny_tff.devices import device_tasks
from fedtiny_tff.devices.device_tasks import DeviceTask
from fedtiny_tff.errors import InputError
from pipelines.apps import files

_FLAG = "device_exchange"


class DeviceFolder:
  """What a server writes for devices, and reads of them."""

  def __init__(self, path: str):
    """Names the folder; nothing is made."""
    self._path = pathlib.Path(path)
    self._plan = self._path / device_tasks.PLAN_PATH

  def __str__(self) -> str:
    """Returns the path."""
    return str(self._path)

  def check_new(self) -> None:
    """Makes sure, before a run begins, that no other's plan is there.

    Raises:
      InputError: When one is.
    """
    if self._plan.exists():
      raise self._anothers("the plan")

  def begin(self, plan: str, model: bytes) -> None:
    """Writes what devices get once, unless it is there.

    Args:
      plan: Text of the plan.
      model: The `.tflite` file.

    Raises:
      InputError: When the folder cannot be written, or is another run's.
    """
    files.make_folder(self._path, _FLAG)
    files.remove_leftovers(self._path)
    if self._plan.exists():
      if self._plan.read_text(errors="replace") != plan:
        raise self._anothers("the plan")
    # Devices do not answer again where they find an answer, whoever's it was.
    elif (self._path / device_tasks.ANSWERS_PATH).exists():
      raise self._anothers("answers")
    # The plan comes last: whoever finds it finds the model too.
    files.write_bytes(self._path / device_tasks.MODEL_PATH, model)
    files.write_text(self._plan, plan)

  def _anothers(self, what: str) -> InputError:
    return InputError(
      f"--{_FLAG}={self._path}: holds {what} of another run; name an empty folder"
    )

  def publish(self, task: DeviceTask, contents: Mapping[int, bytes]) -> None:
    """Writes the messages of a task, then the task.

    Args:
      task: What is asked for.
      contents: Its messages by number.
    """
    for message in task.messages:
      files.write_bytes(self._path / task.sent_path(message), contents[message.number])
    files.write_text(self._path / device_tasks.TASK_PATH, task.as_json())

  def read(self, path: str, most_bytes: int) -> Optional[bytes]:
    """Reads a device's answer.

    Args:
      path: Below the folder.
      most_bytes: What is longer is read no further than shows that it is.

    Returns:
      None where there is none yet.
    """
    try:
      # A pipe in its place would never end, a link might lead anywhere.
      flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
      descriptor = os.open(self._path / path, flags)
    except OSError:
      return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
      os.close(descriptor)
      return None
    with open(descriptor, "rb") as file:
      return file.read(most_bytes + 1)

  def remove(self, path: str) -> None:
    """Removes an answer that is of no use, so that its device makes another."""
    with contextlib.suppress(OSError):
      (self._path / path).unlink()
