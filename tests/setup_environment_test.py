"""What an environment needs, and the command it gets; nothing is installed."""

import subprocess
import sys

import pytest

from tests.interpreters import GOOD
from tools import setup_environment


@pytest.fixture(name="locks")
def fixture_locks(tmp_path):
  paths = [tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt"]
  for path in paths:
    path.write_text("six==1.17.0\n")
  return paths


def test_a_finished_environment_is_left_alone(locks, tmp_path):
  wanted = setup_environment.wanted_stamp(locks, GOOD, tmp_path)
  assert setup_environment.plan(dict(wanted), wanted, GOOD) == "ready"


def test_a_changed_lock_installs_again(locks, tmp_path):
  stamp = setup_environment.wanted_stamp(locks, GOOD, tmp_path)
  locks[1].write_text("six==1.16.0\n")
  wanted = setup_environment.wanted_stamp(locks, GOOD, tmp_path)
  assert setup_environment.plan(stamp, wanted, GOOD) == "install"


def test_moving_a_line_between_locks_changes_the_stamp(locks, tmp_path):
  before = setup_environment.wanted_stamp(locks, GOOD, tmp_path)
  locks[0].write_text("")
  locks[1].write_text("six==1.17.0\n" * 2)
  assert setup_environment.wanted_stamp(locks, GOOD, tmp_path)["lock"] != before["lock"]


def test_an_unfinished_environment_is_finished(locks, tmp_path):
  wanted = setup_environment.wanted_stamp(locks, GOOD, tmp_path)
  assert setup_environment.plan(None, wanted, GOOD) == "install"


@pytest.mark.parametrize(
  "inside",
  [None, GOOD._replace(version=(3, 11, 7)), GOOD._replace(base_prefix="/opt")],
)
def test_another_or_broken_interpreter_rebuilds(locks, tmp_path, inside):
  wanted = setup_environment.wanted_stamp(locks, GOOD, tmp_path)
  assert setup_environment.plan(dict(wanted), wanted, inside) == "rebuild"


def test_a_moved_environment_is_rebuilt(locks, tmp_path):
  stamp = setup_environment.wanted_stamp(locks, GOOD, tmp_path / "old")
  wanted = setup_environment.wanted_stamp(locks, GOOD, tmp_path / "new")
  assert setup_environment.plan(stamp, wanted, GOOD) == "rebuild"


@pytest.mark.parametrize(
  "content", [None, "", "{", "[]", pytest.param("[" * 100_000, id="deep")]
)
def test_an_unreadable_stamp_counts_as_none(tmp_path, content):
  path = tmp_path / "stamp.json"
  if content is not None:
    path.write_text(content)
  assert setup_environment.read_stamp(path) is None


def test_the_launcher_starts_the_checkout_from_anywhere(tmp_path):
  root = tmp_path / "a check'out"
  (root / "pipelines").mkdir(parents=True)
  (root / "pipelines" / "__init__.py").touch()
  (root / "pipelines" / "__main__.py").write_text("import sys; print(sys.argv[1:])")
  venv = root / ".venv"
  subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
  assert setup_environment.write_launcher(root, venv)
  launcher = venv / "bin" / "fedtiny"
  changed = launcher.stat().st_ctime_ns
  assert not setup_environment.write_launcher(root, venv)
  # Who may only read it may do so.
  assert launcher.stat().st_ctime_ns == changed
  launcher.chmod(0o600)
  assert not setup_environment.write_launcher(root, venv)
  # What lies where it is started must not be taken for ours.
  elsewhere = tmp_path / "elsewhere"
  (elsewhere / "pipelines").mkdir(parents=True)
  ended = subprocess.run(
    [str(launcher), "run", "a b"],
    cwd=elsewhere, capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert ended.stdout == "['run', 'a b']\n"
