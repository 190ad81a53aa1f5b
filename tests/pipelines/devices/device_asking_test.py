"""The server takes the answers that fit, refuses others, and does not wait for ever."""

import io
import threading

import numpy as np
import pytest
import rich.console

from fedtiny_tff.devices import device_messages, device_tasks
from fedtiny_tff.devices.device_messages import Envelope, TensorLayout
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from fedtiny_tff.errors import InputError
from pipelines.apps.progress import Progress
from pipelines.devices.device_asking import DeviceAsking, Question
from pipelines.devices.device_folder import DeviceFolder

PLAN = "the plan's digest"
LAYOUTS = {"sum": TensorLayout("float32", (2,))}
SENT = {7: {"weights": np.ones(3, np.float32)}}


class World:
  """A folder, the server's asking, and devices that write answers."""

  def __init__(self, path):
    self.path = path
    self.said = io.StringIO()
    self.folder = DeviceFolder(str(path))
    self.folder.begin("plan", b"model")
    self.progress = Progress(rich.console.Console(file=self.said, soft_wrap=True))

  def ask(
    self,
    clients=(0, 1),
    timeout_seconds=0.3,
    sent=SENT,
    work=device_tasks.TRAIN,
    **more,
  ):
    asking = DeviceAsking(self.folder, PLAN, timeout_seconds, self.progress)
    return asking.ask(Question(work, clients, sent, LAYOUTS, **more))

  def digest(self, number=7, kind="round"):
    sent = device_messages.write(Envelope(kind, PLAN, number), SENT[7])
    return device_tasks.message_digest(sent)

  def answer(self, client, value=1.0, number=7, **changes):
    """Writes what a device answers; changes are of its envelope."""
    envelope = {
      "kind": "update", "plan": PLAN, "round_index": number, "client": client,
      "answers": self.digest(number), **changes,
    }  # fmt: skip
    tensors = {"sum": np.full(2, value, np.float32)}
    return self.write(
      client, device_messages.write(Envelope(**envelope), tensors), number
    )

  def write(self, client, content, number=7):
    path = self.path / f"devices/{client:06d}/update-{number:06d}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(name="world")
def fixture_world(tmp_path):
  return World(tmp_path / "exchange")


def test_everybodys_answers_are_taken(world):
  world.answer(0, 2.0)
  world.answer(1, 3.0)
  found = world.ask(timeout_seconds=60)
  assert {c: answer[7]["sum"].tolist() for c, answer in found.items()} == {
    0: [2.0, 2.0], 1: [3.0, 3.0],
  }  # fmt: skip
  assert not world.said.getvalue()


def test_devices_are_told_what_is_asked(world):
  world.ask(block=4)
  text = (world.path / "task.json").read_text()
  task = device_tasks.read_task(text, "task")
  wanted = TaskMessage(7, world.digest())
  assert task == DeviceTask(PLAN, device_tasks.TRAIN, (0, 1), (wanted,), 4)
  content = (world.path / task.sent_path(wanted)).read_bytes()
  layouts = {"weights": TensorLayout("float32", (3,))}
  sent = device_messages.read(content, Envelope("round", PLAN, 7), layouts)
  np.testing.assert_array_equal(sent["weights"], SENT[7]["weights"])


def test_without_an_answer_it_goes_on(world):
  world.answer(1)
  assert list(world.ask()) == [1]
  assert "going on without client 0 after" in world.said.getvalue()


def test_answers_that_come_late_enough_are_taken(world):
  timer = threading.Timer(0.3, lambda: [world.answer(0), world.answer(1)])
  timer.start()
  assert list(world.ask(timeout_seconds=60)) == [0, 1]


def test_all_messages_must_be_answered(world):
  sent = {7: SENT[7], 8: SENT[7]}
  world.answer(0, number=7)
  world.answer(0, number=8)
  world.answer(1, number=8)
  found = world.ask(sent=sent)
  assert {client: sorted(answers) for client, answers in found.items()} == {0: [7, 8]}


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    ({"plan": "another"}, "its plan is 'another'"),
    ({"round_index": 6}, "its round is '6'"),
    ({"client": 1}, "its client is '1'"),
    ({"kind": "score"}, "its kind is 'score'"),
    ({"answers": "ff"}, "its answers is 'ff'"),
    ({"answers": ""}, "its answers is 'missing'"),
  ],
)
def test_what_answers_something_else_is_refused(world, changes, text):
  client = changes.get("client", 0)
  others = {name: value for name, value in changes.items() if name != "client"}
  path = world.write(0, world.answer(client, **others).read_bytes())
  assert world.ask(clients=(0,)) == {}
  assert text in world.said.getvalue()
  assert not path.exists()


@pytest.mark.parametrize("damage", ["cut", "altered", "longer", "empty", "pickle"])
def test_damaged_answers_are_refused(world, damage):
  content = world.answer(0).read_bytes()
  damaged = {
    "cut": content[:-3],
    "altered": content[:-1] + bytes([content[-1] ^ 1]),
    "longer": content + b"\0" * 200_000,
    "empty": b"",
    "pickle": b"\x80\x04K\x01.",
  }[damage]
  world.write(0, damaged)
  assert world.ask(clients=(0,)) == {}
  assert (
    world.said.getvalue().count("refused, client 0: update message of client 0") == 1
  )


def test_names_of_strangers_do_nothing_to_a_terminal(world):
  tensors = {"\x1b[2J\n" + "a-" * 20_000: np.zeros(1, np.float32)}
  envelope = Envelope("update", PLAN, 7, client=0, answers=world.digest())
  world.write(0, device_messages.write(envelope, tensors))
  assert world.ask(clients=(0,)) == {}
  refused = world.said.getvalue().splitlines()[0]
  assert "holds �[2J a-a-" in refused
  assert refused.isprintable()
  assert len(refused) < 600


def test_a_device_that_is_refused_may_answer_again(world):
  world.write(0, b"nothing")
  timer = threading.Timer(0.3, lambda: world.answer(0))
  timer.start()
  assert list(world.ask(clients=(0,), timeout_seconds=60)) == [0]


def test_one_that_never_fits_is_not_waited_for(world):
  ends = threading.Event()

  def insist():
    while not ends.wait(0.02):
      world.write(0, b"nothing")

  thread = threading.Thread(target=insist)
  thread.start()
  try:
    assert world.ask(clients=(0,), timeout_seconds=600) == {}
  finally:
    ends.set()
    thread.join()
  assert world.said.getvalue().count("refused") == 3


def test_a_question_may_refuse_what_is_well_formed(world):
  def check(tensors):
    if tensors["sum"][0] > 2.0:
      raise InputError("too much; send less")

  world.answer(0, 1.0)
  world.answer(1, 3.0)
  assert list(world.ask(check=check)) == [0]
  assert "refused, client 1: too much; send less" in world.said.getvalue()


def test_the_end_is_told(world):
  DeviceAsking(world.folder, PLAN, 1.0, world.progress).finish()
  text = (world.path / "task.json").read_text()
  assert device_tasks.read_task(text, "task") == DeviceTask(PLAN, device_tasks.FINISHED)


def test_many_missing_ones_are_counted(world):
  world.ask(clients=range(30))
  assert "clients 0, 1, 2, 3, 4, 5, 6, 7 and 22 more" in world.said.getvalue()
