"""Tasks are written and read, and nothing else is taken for one."""

import json

import pytest

from fedtiny_tff.devices import device_tasks
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from fedtiny_tff.errors import InputError

TASK = DeviceTask("abc", device_tasks.TRAIN, (0, 12), (TaskMessage(7, "ff"),), 2)


def test_a_task_is_read_as_it_was_written():
  assert device_tasks.read_task(TASK.as_json(), "task.json") == TASK


def test_paths():
  assert TASK.sent_path(TASK.messages[0]) == "server/round-000007.safetensors"
  assert TASK.answer_path(12, 7) == "devices/000012/update-000007.safetensors"


@pytest.mark.parametrize(
  ("change", "text"),
  [
    ({"version": 2}, "^task.json: is a task of version 2, expected 1; run server"),
    ({"work": "dance"}, "work is 'dance'"),
    ({"clients": [-1]}, "-1 is no number"),
    ({"clients": [True]}, "True is no number"),
    ({"messages": [{"number": 1}]}, "'sha256'"),
    ({"messages": 3}, "TypeError"),
    ({"plan": 3}, "3 is no text"),
    ({"block": "0"}, "'0' is no number"),
  ],
)
def test_what_is_no_task_is_refused_in_one_line(change, text):
  document = {**json.loads(TASK.as_json()), **change}
  with pytest.raises(InputError, match=text) as caught:
    device_tasks.read_task(json.dumps(document), "task.json")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '"x"'])
def test_other_texts_are_refused(text):
  with pytest.raises(InputError, match=r"task.json: is no task"):
    device_tasks.read_task(text, "task.json")
