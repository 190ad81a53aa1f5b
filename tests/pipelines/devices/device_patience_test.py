"""Pauses grow while something is wrong, and patience has an end."""

import time
import types

import pytest

from fedtiny_tff.devices.device_tasks import FINISHED, TRAIN
from fedtiny_tff.errors import InputError
from pipelines.apps.plain_progress import PlainProgress
from pipelines.devices import device_patience
from pipelines.devices.device_exchange import Final
from tests.pipelines.devices import device_work_test
from tflite_export.device_training.device_runtime import DeviceRuntime


class Clock:
  def __init__(self):
    self.now = 100.0
    self.slept = []

  def monotonic(self):
    return self.now

  def sleep(self, seconds):
    self.slept.append(seconds)
    self.now += seconds


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch):
  clock = Clock()
  stands_for = types.SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
  monkeypatch.setattr(device_patience, "time", stands_for)
  return clock


def patience(client=0, timeout_seconds=1000.0):
  return device_patience.Patience(2.0, timeout_seconds, client, PlainProgress())


def test_when_all_is_well_every_pause_is_the_same(clock):
  waiting = patience()
  for _ in range(3):
    waiting.rest()
  assert clock.slept == [2.0, 2.0, 2.0]


def test_pauses_double_up_to_a_minute_and_start_anew(clock):
  waiting = patience()
  for _ in range(8):
    waiting.back_off("away")
  longest = [2, 4, 8, 16, 32, 60, 60, 60]
  for found, most in zip(clock.slept, longest, strict=True):
    assert most / 2 <= found <= most
  waiting.rest()
  waiting.back_off()
  assert clock.slept[8] == 2.0
  assert clock.slept[9] <= 2.0


def test_devices_that_failed_together_come_back_apart(clock):
  for client in (0, 1, 0):
    patience(client).back_off("away")
  assert clock.slept[0] == clock.slept[2] != clock.slept[1]


@pytest.mark.parametrize(
  ("problem", "said"),
  [
    ("", "has nothing new for 5 s"),
    ("no route", r"was not reached \(no route\) for 5 s"),
    ("\x1b[2J\nOK", r"was not reached \(�\[2J OK\) for 5 s"),
  ],
)
def test_its_end_says_what_was_waited_for(clock, problem, said):
  waiting = patience(timeout_seconds=5.0)
  with pytest.raises(Final, match=said):
    for _ in range(9):
      waiting.back_off(problem)
  assert clock.now == 105.0


def test_news_give_new_patience(clock):
  waiting = patience(timeout_seconds=5.0)
  for _ in range(9):
    waiting.rest()
    waiting.news()
  with pytest.raises(Final):
    for _ in range(4):
      waiting.rest()


@pytest.mark.parametrize("problem", [None, InputError("not to be computed; x")])
def test_time_that_was_computed_in_was_not_waited(tmp_path, monkeypatch, problem):
  """A network that fails for a moment after it ends nothing."""
  server = device_work_test.Lost(tmp_path)
  server.away_from_answers = 1
  compute = DeviceRuntime.train

  def for_long(*arguments):
    clock = types.SimpleNamespace(
      monotonic=lambda: time.monotonic() + 7200.0, sleep=time.sleep
    )
    monkeypatch.setattr(device_patience, "time", clock)
    if problem:
      raise problem
    return compute(*arguments)

  def script():
    server.offer()
    server.ask(TRAIN, 4)
    yield
    server.ask(FINISHED)

  monkeypatch.setattr(DeviceRuntime, "train", for_long)
  server.script = script()
  assert device_work_test.work_on(server, timeout_seconds=3600.0).rounds == (
    0 if problem else 1
  )
