"""A device answers what it is asked for, and nothing that is not as it must be."""

import dataclasses

import numpy as np
import pytest

from fedtiny_tff.devices import device_messages, device_plan, device_tasks
from fedtiny_tff.devices.device_messages import Envelope
from fedtiny_tff.errors import InputError
from pipelines.apps.plain_progress import PlainProgress
from pipelines.devices import device_work
from pipelines.devices.device_exchange import Final, Unreachable, Unwanted
from pipelines.devices.device_patience import Patience
from tests.pipelines.devices import device_server
from tests.pipelines.devices.device_server import CLIENT, Server

TRAIN, HELLO, FINISHED = device_tasks.TRAIN, device_tasks.HELLO, device_tasks.FINISHED


def work_on(server, examples=None, timeout_seconds=60.0):
  """Runs a device until it is finished, and returns what it did."""
  progress = PlainProgress()
  device = device_work.Device(CLIENT, examples or device_server.own_examples())
  patience = Patience(0.001, timeout_seconds, CLIENT, progress)
  work = device_work.DeviceWork(device, server, patience, progress)
  work.run()
  return work.totals


@pytest.fixture(name="server")
def fixture_server(tmp_path):
  return Server(tmp_path / "exchange")


def trained(number):
  """Returns the one right answer to a round."""
  made = device_server.bundle()
  sent = device_server.message(made.plan, TRAIN, number)
  return device_server.runtime(made).train(sent, number, None, lambda *steps: None)


def refusals(capsys):
  lines = capsys.readouterr().err.splitlines()
  return [line.partition("refused: ")[2] for line in lines if "refused: " in line]


def test_a_run_from_hello_to_its_end(server, capsys):
  def script():
    yield  # There is nothing yet.
    server.ask(HELLO)
    yield  # The plan is missing.
    server.put(device_tasks.PLAN_PATH, server.plan.as_json().encode())
    yield  # The model is missing.
    server.offer()
    yield from server.until("hello", 0)
    server.ask(device_tasks.MEASURE, 0, 1)
    yield from server.until("moments", 1)
    server.ask(device_tasks.SCORE, 0, 1)
    yield from server.until("score", 1)
    server.ask(TRAIN, 4)
    yield from server.until("update", 4)
    server.ask(TRAIN, 5, clients=(CLIENT + 1,))
    yield
    server.ask(device_tasks.EVALUATE, 5)
    yield from server.until("figures", 5)
    server.ask(FINISHED, clients=())

  server.script = script()
  totals = work_on(server)
  assert (totals.rounds, totals.answers) == (1, 7)
  assert server.answer("update", 4) == trained(4)
  assert server.answer("update", 5) is None
  plan = server.plan
  hello = device_messages.read(
    server.answer("hello", 0),
    Envelope("hello", plan.digest, 0, CLIENT),
    device_plan.hello_layouts(),
  )
  assert {name: value.tolist() for name, value in hello.items()} == {
    "training_examples": [13], "held_out_examples": [5],
  }  # fmt: skip
  told = capsys.readouterr().err
  assert "train, round 4: step 8/8" in told
  assert "train, round 4: answered, loss " in told
  assert "warning" not in told


def broken(server, task, content):
  server.put(task.sent_path(task.messages[0]), content)


def other(server, work, number, plan=None, **changes):
  """Makes a task name another message than the work has."""
  content = device_server.message(plan or server.plan, work, number, **changes)
  task = server.ask(TRAIN, 4)
  broken(server, task, content)
  digest = device_tasks.message_digest(content)
  named = device_tasks.TaskMessage(4, digest)
  server.publish(dataclasses.replace(task, messages=(named,)))


@pytest.mark.parametrize(
  ("spoil", "said"),
  [
    (
      lambda s: broken(
        s, s.ask(TRAIN, 4), device_server.message(s.plan, TRAIN, 4)[:-9]
      ),
      "server/round-000004.safetensors: its digest is",
    ),
    (
      lambda s: broken(s, s.ask(TRAIN, 4), bytes(1_000_000)),
      "server/round-000004.safetensors: has more than",
    ),
    (lambda s: other(s, TRAIN, 5), "round message for round 4: its round is '5'"),
    (lambda s: other(s, device_tasks.EVALUATE, 4), "round message for round 4: "),
    (
      lambda s: other(s, TRAIN, 4, dataclasses.replace(s.plan, seed=1)),
      "round message for round 4: its plan is",
    ),
    (lambda s: s.ask(TRAIN, 4, block=1), "task.json: names block 1, the plan has 1"),
    (
      lambda s: s.ask(TRAIN, 4, plan="00" * 32),
      "task.json: belongs to plan 000000000000",
    ),
    (lambda s: s.put(device_tasks.TASK_PATH, b"{\xff"), "task.json: is no task"),
    (
      lambda s: s.put(device_tasks.TASK_PATH, bytes(17 << 20)),
      "task.json: has more than",
    ),
    (
      lambda s: (s.put(device_tasks.PLAN_PATH, b"{}"), s.ask(TRAIN, 4)),
      "client_plan.json: is no plan",
    ),
    (
      lambda s: (s.put(device_tasks.MODEL_PATH, b"TFL3"), s.ask(TRAIN, 4)),
      "model.tflite: its digest is",
    ),
  ],
)
def test_what_is_wrong_is_refused_once_and_then_done_right(server, capsys, spoil, said):
  def script():
    server.offer()
    spoil(server)
    for _ in range(3):
      yield
    assert server.answer("update", 4) is None
    server.offer()
    server.ask(TRAIN, 4)
    yield from server.until("update", 4)
    server.ask(FINISHED)

  server.script = script()
  work_on(server)
  assert server.answer("update", 4) == trained(4)
  lines = refusals(capsys)
  assert len(lines) == 1, lines
  assert lines[0].startswith(said)
  assert ";" in lines[0]


def test_lines_of_strangers_do_nothing_to_a_terminal(server, capsys):
  def script():
    server.offer()
    other(server, TRAIN, 4, **{"\x1b[2J\n": np.zeros(1)})
    yield
    server.ask(FINISHED)

  server.script = script()
  work_on(server)
  (line,) = refusals(capsys)
  assert line.isprintable()
  assert "[2J" in line


def test_one_bad_message_of_a_task_keeps_no_other_back(server, capsys):
  def script():
    server.offer()
    task = server.ask(device_tasks.MEASURE, 0, 1, 2)
    broken(server, dataclasses.replace(task, messages=task.messages[1:]), b"?")
    yield from server.until("moments", 2)
    assert server.answer("moments", 0) is not None
    server.ask(FINISHED)

  server.script = script()
  assert work_on(server).answers == 2
  assert len(refusals(capsys)) == 1


def test_a_deleted_answer_is_made_again_but_not_for_ever(server):
  seen = []

  def script():
    server.offer()
    server.ask(TRAIN, 4)
    for _ in range(12):
      yield
      if (found := server.answer("update", 4)) is not None:
        seen.append(found)
        (server.folder / device_tasks.answer_path(CLIENT, "update", 4)).unlink()
    server.ask(FINISHED)

  server.script = script()
  assert work_on(server).rounds == 3
  assert seen == [trained(4)] * 3


def test_another_run_in_the_same_folder_is_taken_up(server):
  def script():
    server.offer()
    server.ask(HELLO)
    yield from server.until("hello", 0)
    server.plan = dataclasses.replace(server.plan, rounds=2)
    server.ask(TRAIN, 1)
    server.offer()
    yield from server.until("update", 1)
    server.ask(FINISHED)

  server.script = script()
  assert work_on(server).rounds == 1
  digest = Envelope("update", server.plan.digest, 1, CLIENT).plan
  assert digest.encode() in server.answer("update", 1)


def test_a_device_without_examples_says_so_and_trains_nothing(server, capsys):
  def script():
    server.offer()
    server.ask(HELLO)
    yield from server.until("hello", 0)
    server.ask(TRAIN, 4)
    for _ in range(3):
      yield
    server.ask(FINISHED)

  server.script = script()
  assert work_on(server, device_server.own_examples(0)).rounds == 0
  assert server.answer("update", 4) is None
  (line,) = refusals(capsys)
  assert line == "client 3 has no example to train on; leave it out"


def test_a_finished_task_of_another_plan_ends_nothing(server):
  server.offer()
  server.ask(FINISHED, plan="00" * 32)
  with pytest.raises(Final, match=r"has nothing new for 0\.05 s"):
    work_on(server, timeout_seconds=0.05)


def test_data_of_another_model_end_it(server):
  server.offer()
  server.ask(HELLO)
  examples = device_server.own_examples()
  wrong = dataclasses.replace(examples.training, inputs=examples.training.inputs[:, :3])
  with pytest.raises(Final, match=r"--data: training inputs are \[13, 3, 2\]"):
    work_on(server, examples._replace(training=wrong))


@pytest.mark.parametrize("part", ["training", "held_out"])
def test_labels_that_the_model_has_no_output_for_end_it(server, part):
  server.offer()
  server.ask(HELLO)
  examples = device_server.own_examples()
  own = getattr(examples, part)
  labels = own.labels.copy()
  labels[-1] = device_server.CLASSES
  spoilt = examples._replace(**{part: dataclasses.replace(own, labels=labels)})
  with pytest.raises(
    Final, match=r"--data: .* labels go up to 3, the model has the clas"
  ):
    work_on(server, spoilt)


class Lost(Server):
  """Is away for some looks, and for some answers."""

  away = 0
  away_from_answers = 0
  problem: Exception = Unreachable("the cable is out")

  def read(self, path, most_bytes):
    if self.away:
      self.away -= 1
      raise self.problem
    return super().read(path, most_bytes)

  def write(self, path, content):
    if self.away_from_answers:
      self.away_from_answers -= 1
      raise self.problem
    super().write(path, content)


def test_a_server_that_is_away_is_waited_for(tmp_path, capsys):
  server = Lost(tmp_path)
  server.away, server.away_from_answers = 3, 2

  def script():
    server.offer()
    server.ask(TRAIN, 4)
    yield from server.until("update", 4)
    server.ask(FINISHED)

  server.script = script()
  assert work_on(server).rounds == 1
  assert server.answer("update", 4) == trained(4)
  told = capsys.readouterr().err
  assert told.count("is not reached (the cable is out)") == 2
  assert told.count("is reached again") == 2


def test_a_server_that_stays_away_is_not_waited_for_for_ever(tmp_path):
  server = Lost(tmp_path)
  server.away = 10**9
  with pytest.raises(Final, match=r"was not reached \(the cable is out\) for 0.05 s"):
    work_on(server, timeout_seconds=0.05)


@pytest.mark.parametrize(
  ("problem", "said"),
  [
    (Unwanted(), "no longer asked for"),
    (InputError("too long; x"), "refused: too long"),
  ],
)
def test_an_answer_that_nobody_takes_is_let_go(tmp_path, capsys, problem, said):
  server = Lost(tmp_path)
  server.problem = problem

  def script():
    server.offer()
    server.ask(TRAIN, 4)
    yield
    yield
    server.ask(FINISHED)

  server.script = script()
  server.away_from_answers = 2
  assert work_on(server).rounds == 0
  assert server.answer("update", 4) is None
  assert said in capsys.readouterr().err


def test_a_round_that_is_replaced_is_let_go(server, capsys, monkeypatch):
  monkeypatch.setattr(device_work, "_LOOK_SECONDS", 0.0)

  def script():
    server.offer()
    server.ask(TRAIN, 4)
    yield
    yield  # Before its first step.
    server.ask(TRAIN, 5)
    yield from server.until("update", 5)
    server.ask(FINISHED)

  server.script = script()
  assert work_on(server).rounds == 1
  assert server.answer("update", 4) is None
  assert server.answer("update", 5) == trained(5)
  assert "train, round 4: no longer asked for" in capsys.readouterr().err


def test_candidates_that_are_replaced_are_let_go(server, monkeypatch):
  monkeypatch.setattr(device_work, "_LOOK_SECONDS", 0.0)

  def script():
    server.offer()
    server.ask(device_tasks.MEASURE, 0, 1)
    yield
    yield  # Before the first.
    server.ask(device_tasks.SCORE, 0)
    yield from server.until("score", 0)
    server.ask(FINISHED)

  server.script = script()
  assert work_on(server).answers == 2
  assert server.answer("moments", 0) is not None
  assert server.answer("moments", 1) is None
