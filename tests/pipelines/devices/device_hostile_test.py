"""Whatever a task or a message says, a device refuses it in a line and goes on."""

import dataclasses
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from fedtiny_tff.devices import device_tasks
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from tests.fedtiny_tff.support import quick
from tests.pipelines.devices import device_server
from tests.pipelines.devices.device_server import CLIENT
from tests.pipelines.devices.device_work_test import work_on

# Building the model takes longer than they do; `device_work_test` has the usual cases.
pytestmark = pytest.mark.slow

_VALUES = st.one_of(
  st.none(), st.booleans(), st.integers(-2, 9), st.just(10**400), st.floats(),
  st.sampled_from(["", "train", "hello", "finished", "measure", "score"]),
  st.lists(st.integers(-1, 4), max_size=3),
  st.lists(
    st.fixed_dictionaries(
      {"number": st.sampled_from([0, 4, -1, 10**400, "4"]), "sha256": st.just("00")}
    ),
    max_size=2,
  ),
)  # fmt: skip
_NAMES = st.sampled_from(
  ["version", "plan", "work", "clients", "messages", "block", "x"]
)


def survives(folder, spoil):
  """Runs a device that meets something spoilt, and then a proper round."""
  server = device_server.Server(folder)

  def script():
    server.offer()
    spoil(server)
    yield
    server.offer()
    server.ask(device_tasks.TRAIN, 4)
    yield from server.until("update", 4)
    server.ask(device_tasks.FINISHED)

  server.script = script()
  work_on(server)
  assert server.answer("update", 4) is not None


@quick
@hypothesis.given(changes=st.dictionaries(_NAMES, _VALUES, max_size=4))
def test_any_task(tmp_path_factory, changes):
  def spoil(server):
    task = DeviceTask(server.plan.digest, "train", (CLIENT,), (TaskMessage(4, "00"),))
    document = json.loads(task.as_json()) | changes
    # A proper end, whoever wrote it, is one.
    hypothesis.assume(document["work"] != device_tasks.FINISHED)
    server.put(device_tasks.TASK_PATH, json.dumps(document).encode())

  survives(tmp_path_factory.mktemp("task"), spoil)


@quick
@hypothesis.given(data=st.data())
def test_any_plan(tmp_path_factory, data):
  def spoil(server):
    text = bytearray(server.plan.as_json().encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place : place + data.draw(st.integers(0, 9))] = data.draw(
      st.binary(max_size=9)
    )
    server.put(device_tasks.PLAN_PATH, bytes(text))
    server.ask(device_tasks.TRAIN, 4)

  survives(tmp_path_factory.mktemp("plan"), spoil)


@quick
@hypothesis.given(data=st.data())
def test_any_message_that_a_task_names(tmp_path_factory, data):
  def spoil(server):
    content = bytearray(device_server.message(server.plan, "train", 4))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    digest = device_tasks.message_digest(bytes(content))
    task = DeviceTask(server.plan.digest, "train", (CLIENT,), (TaskMessage(4, digest),))
    server.put(task.sent_path(task.messages[0]), bytes(content))
    server.publish(task)

  survives(tmp_path_factory.mktemp("message"), spoil)


@pytest.mark.parametrize("content", [b"TFL3" * 99, b"", bytes(9)])
def test_a_model_that_is_none_but_is_named(tmp_path, content):
  made = device_server.bundle()
  model = dataclasses.replace(
    made.plan.model, sha256=device_tasks.message_digest(content)
  )
  plan = dataclasses.replace(made.plan, model=model)

  def spoil(server):
    server.put(device_tasks.PLAN_PATH, plan.as_json().encode())
    server.put(device_tasks.MODEL_PATH, content)
    task = DeviceTask(plan.digest, "hello", (CLIENT,))
    server.publish(task)

  survives(tmp_path, spoil)
