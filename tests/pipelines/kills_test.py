"""A run that is broken off anywhere and continued ends byte for byte as one that is not."""

import csv
import io
import os
import pathlib
import random
import signal
import time
from typing import NamedTuple

import pytest
import tensorflow as tf

from pipelines import run
from tests.pipelines import equal_runs, support

# How often the slow test kills; a hundred times before a release.
_KILLS = int(os.environ.get("FEDTINY_TEST_KILLS", "40"))
# From the start of Python to the end of a run that nobody disturbs, about.
_LONGEST_SECONDS = 45.0


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory):
  return tmp_path_factory.mktemp("apps")


@pytest.fixture(name="flags", scope="module")
def fixture_flags(work):
  values = {**support.TINY, "dense_baseline": "false"}
  return f"--flagfile={support.write_flagfile(work / 'tiny.flags', values)}"


@pytest.fixture(name="whole", scope="module")
def fixture_whole(work, flags):
  path = work / "whole"
  assert support.call("run", run.main, flags, f"--output_dir={path}") == 0
  return path


class Broken(NamedTuple):
  """A run that was broken off at several places and continued each time.

  Attributes:
    path: Its directory.
    apps: What ran, by how it ended.
    codes: Their exit codes.
    states: Names of the state files after each of them.
    damaged: A state file that was truncated before "terminated".
    rounds: Rounds in `metrics.csv` after "between rounds".
  """

  path: pathlib.Path
  apps: dict[str, support.App]
  codes: dict[str, int]
  states: dict[str, list[str]]
  damaged: pathlib.Path
  rounds: list[str]


@pytest.fixture(name="broken", scope="module")
def fixture_broken(work, flags):
  path = work / "broken"
  arguments = (flags, f"--output_dir={path}")
  folder = path / "state" / "sparse"
  apps, codes, states = {}, {}, {}

  def begin(name, *command):
    apps[name] = support.App(work, *command, *arguments)
    return apps[name]

  def ended(name, code):
    codes[name] = code
    states[name] = sorted(p.name for p in folder.iterdir()) if folder.exists() else []

  pretrained = path / "state" / "pretrained" / "round_000000.state"
  ended(
    "interrupted", begin("interrupted", "train").signal_when(pretrained, signal.SIGINT)
  )
  point = "in a state write"
  ended(point, begin(point, "tests.pipelines.killed_run", point).wait())
  damaged = folder / "round_000001.state"
  damaged.write_bytes(damaged.read_bytes()[:-1000])
  ended(
    "terminated",
    begin("terminated", "run").signal_when(
      folder / "round_000002.state", signal.SIGTERM
    ),
  )
  for point in ("between rounds", "during export"):
    ended(point, begin(point, "tests.pipelines.killed_run", point).wait())
    if point == "between rounds":
      rows = csv.DictReader(io.StringIO((path / "metrics.csv").read_text()))
      rounds = [row["round"] for row in rows]
  ended("last", begin("last", "run").wait())
  return Broken(path, apps, codes, states, damaged, rounds)


def test_exit_codes_tell_how_it_ended(broken):
  killed = -signal.SIGKILL
  assert broken.codes == {
    "interrupted": 130, "in a state write": killed, "terminated": 143,
    "between rounds": killed, "during export": killed, "last": 0,
  }, broken.apps["last"].stderr  # fmt: skip


@pytest.mark.parametrize(
  ("which", "said"),
  [("interrupted", "train: interrupted; "), ("terminated", "run: terminated; ")],
)
def test_an_interruption_is_one_line(broken, which, said):
  app = broken.apps[which]
  *before, last = app.stderr.splitlines()
  assert last.startswith(said)
  assert "run the same command again; finished rounds are kept" in last
  assert not [line for line in before if "Traceback" in line or "rror" in line]
  assert app.stdout == ""


def test_no_worker_outlives_its_run(broken):
  assert [name for name, app in broken.apps.items() if app.survivors()] == []


def test_the_terminated_run_had_a_worker(broken):
  company = broken.apps["terminated"].company
  assert [line for line in company if "worker_binary" in line]


def test_finished_rounds_are_kept(broken):
  unfinished = [n for n in broken.states["in a state write"] if n.endswith(".partial")]
  assert len(unfinished) == 1
  assert unfinished[0].startswith(".round_000002.state.")
  assert broken.states["between rounds"] == ["round_000002.state", "round_000003.state"]
  # The row of the round that was stored comes back from its state.
  assert broken.rounds == ["0", "1"]
  said = {name: app.stderr for name, app in broken.apps.items()}
  assert "pre-training" in said["interrupted"]
  assert "pre-training" not in said["in a state write"]
  assert "selection (" in said["in a state write"]
  assert "selection (" not in said["terminated"]
  assert "sparse: going on after 3 rounds" in said["during export"]
  assert "sparse round 3/4" not in said["during export"]
  assert "sparse round 4/4" in said["during export"]
  assert "sparse round" not in said["last"]


def test_a_damaged_state_is_passed_over_with_a_warning(broken):
  said = broken.apps["terminated"].stderr
  assert f"{broken.damaged} is damaged" in said
  assert "going on after" not in said
  assert "damaged" not in broken.apps["last"].stderr


def test_the_continued_run_equals_the_uninterrupted_one(whole, broken):
  expected, found = equal_runs.results(whole), equal_runs.results(broken.path)
  assert found.keys() == expected.keys()
  assert [name for name in expected if found[name] != expected[name]] == []


def test_leftovers_of_a_kill_are_removed(broken):
  assert not [p for p in broken.path.rglob("*") if p.name.startswith(".")]


def test_tensorboard_holds_every_round_once(broken):
  rounds = []
  for path in (broken.path / "tensorboard").glob("events.*"):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      rounds += [event.step for v in event.summary.value if v.tag == "train_loss"]
  assert sorted(rounds) == [0, 1, 2, 3]


@pytest.mark.slow
def test_kills_at_random_moments(whole, work, flags):
  expected = equal_runs.results(whole)
  generator = random.Random(20)
  kills, runs = 0, 0
  while kills < _KILLS or runs == 0:
    path = work / f"random {runs}"
    while True:
      app = support.App(work, "run", flags, f"--output_dir={path}")
      deadline = time.monotonic() + generator.uniform(0, _LONGEST_SECONDS)
      while app.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
      if app.process.poll() is None and kills < _KILLS:
        app.process.kill()
        app.process.wait()
        kills += 1
        assert app.survivors() == []
        continue
      assert app.wait() == 0, app.stderr
      break
    found = equal_runs.results(path)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    runs += 1
