"""Set-up's decisions, without network or installation."""

import pathlib
import subprocess
import sys

import pytest

from tools import setup

GOOD = setup.Interpreter(
  executable="/usr/bin/python3.11",
  version=(3, 11, 2),
  implementation="CPython",
  platform="Linux x86_64",
  libc=("glibc", "2.36"),
  base_prefix="/usr",
  can_make_venv=True,
)


def _package(site_packages: pathlib.Path, name: str) -> pathlib.Path:
  dist_info = site_packages / f"{name}-1.0.dist-info"
  dist_info.mkdir(parents=True)
  (site_packages / name).mkdir()
  (site_packages / name / "__init__.py").write_text("")
  (dist_info / "INSTALLER").write_text("pip\n")
  (dist_info / "RECORD").write_text(
    f"{name}/__init__.py,sha256=abc,0\n"
    f"{name}/__pycache__/__init__.cpython-311.pyc,,\n"
    f"{name}-1.0.dist-info/RECORD,,\n"
  )
  return dist_info


def test_the_right_interpreter_has_no_problem():
  assert setup.interpreter_problem(GOOD) is None


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"version": (3, 12, 0)}, "CPython 3.12.0"),
    ({"version": (3, 10, 14)}, "`make setup PYTHON="),
    ({"version": (3, 9, 1)}, "3.9 to 3.11"),
    ({"version": (2, 7, 18)}, "2.7.18"),
    ({"implementation": "PyPy"}, "PyPy 3.11.2"),
    ({"platform": "Linux aarch64"}, "Linux aarch64 cannot be used"),
    ({"platform": "Darwin x86_64"}, "Darwin x86_64 cannot be used"),
    ({"libc": ("glibc", "2.28")}, "glibc 2.31 or newer"),
    ({"libc": ("", "")}, "glibc 2.31 or newer"),
    ({"can_make_venv": False}, "apt-get install python3.11-venv"),
  ],
)
def test_a_wrong_interpreter_is_named_in_one_line(change, said):
  problem = setup.interpreter_problem(GOOD._replace(**change)) or ""
  assert said in problem
  assert "\n" not in problem


@pytest.mark.parametrize("glibc", ["2.31", "2.36", "2.100", "3.0"])
def test_glibc_versions_compare_as_numbers(glibc):
  assert setup.interpreter_problem(GOOD._replace(libc=("glibc", glibc))) is None


def test_the_first_usable_interpreter_is_chosen():
  newer = GOOD._replace(version=(3, 13, 0))
  there = {"python3": newer, "python3.11": GOOD}
  assert setup.choose_interpreter(["gone", "python3", "python3.11"], there.get) == GOOD


def test_no_usable_interpreter_tells_about_the_first_that_runs():
  there = {
    "python3.11": GOOD._replace(can_make_venv=False),
    "python3": GOOD._replace(version=(3, 13, 0)),
  }
  with pytest.raises(setup.SetupError, match=r"python3\.11-venv") as caught:
    setup.choose_interpreter(["gone", "python3.11", "python3"], there.get)
  assert caught.value.exit_code == 2


def test_no_interpreter_at_all_tells_what_to_install():
  with pytest.raises(setup.SetupError, match=r"python3\.11 or python3; install"):
    setup.choose_interpreter(["python3.11", "python3"], lambda name: None)


def test_an_interpreter_is_asked_for_its_own_version():
  asked = setup.probe(sys.executable)
  assert asked is not None
  assert tuple(asked.version) == sys.version_info[:3]
  assert asked.base_prefix == sys.base_prefix


@pytest.mark.parametrize("body", ["exit 1", "echo no json", "echo '{\"version\": 3}'"])
def test_what_is_no_interpreter_is_not_taken_for_one(tmp_path, body):
  script = tmp_path / "python3.11"
  script.write_text(f"#!/bin/sh\n{body}\n")
  script.chmod(0o755)
  assert setup.probe(str(script)) is None
  assert setup.probe(str(tmp_path / "missing")) is None


def test_a_wrong_interpreter_ends_with_one_line_and_2(tmp_path, capsys):
  assert setup.main([f"--python={tmp_path / 'missing'}"]) == 2
  captured = capsys.readouterr()
  assert captured.err.count("\n") == 1
  assert "make setup PYTHON=" in captured.err


@pytest.fixture(name="locks")
def fixture_locks(tmp_path):
  paths = [tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt"]
  for path in paths:
    path.write_text("six==1.17.0\n")
  return paths


def test_a_finished_environment_is_left_alone(locks, tmp_path):
  wanted = setup.wanted_stamp(locks, GOOD, tmp_path)
  assert setup.plan(dict(wanted), wanted, GOOD) == "ready"


def test_a_changed_lock_installs_again(locks, tmp_path):
  stamp = setup.wanted_stamp(locks, GOOD, tmp_path)
  locks[1].write_text("six==1.16.0\n")
  assert setup.plan(stamp, setup.wanted_stamp(locks, GOOD, tmp_path), GOOD) == "install"


def test_moving_a_line_between_locks_changes_the_stamp(locks, tmp_path):
  before = setup.wanted_stamp(locks, GOOD, tmp_path)
  locks[0].write_text("")
  locks[1].write_text("six==1.17.0\n" * 2)
  assert setup.wanted_stamp(locks, GOOD, tmp_path)["lock"] != before["lock"]


def test_an_unfinished_environment_is_finished(locks, tmp_path):
  wanted = setup.wanted_stamp(locks, GOOD, tmp_path)
  assert setup.plan(None, wanted, GOOD) == "install"


@pytest.mark.parametrize(
  "inside",
  [None, GOOD._replace(version=(3, 11, 7)), GOOD._replace(base_prefix="/opt")],
)
def test_another_or_broken_interpreter_rebuilds(locks, tmp_path, inside):
  wanted = setup.wanted_stamp(locks, GOOD, tmp_path)
  assert setup.plan(dict(wanted), wanted, inside) == "rebuild"


def test_a_moved_environment_is_rebuilt(locks, tmp_path):
  stamp = setup.wanted_stamp(locks, GOOD, tmp_path / "old")
  wanted = setup.wanted_stamp(locks, GOOD, tmp_path / "new")
  assert setup.plan(stamp, wanted, GOOD) == "rebuild"


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_an_unreadable_stamp_counts_as_none(tmp_path, content):
  path = tmp_path / "stamp.json"
  if content is not None:
    path.write_text(content)
  assert setup.read_stamp(path) is None


def test_a_complete_package_is_kept_even_without_byte_code(tmp_path):
  dist_info = _package(tmp_path, "whole")
  assert setup.remove_damaged(tmp_path) == []
  assert dist_info.is_dir()


@pytest.mark.parametrize("lost", ["INSTALLER", "RECORD", "../broken/__init__.py"])
def test_an_incomplete_package_is_forgotten(tmp_path, lost):
  whole = _package(tmp_path, "whole")
  broken = _package(tmp_path, "broken")
  (broken / lost).unlink()
  (tmp_path / "~roken").mkdir()
  assert setup.remove_damaged(tmp_path) == ["broken"]
  assert not broken.exists()
  assert not (tmp_path / "~roken").exists()
  assert whole.is_dir()


def test_pip_is_never_forgotten(tmp_path):
  pip = _package(tmp_path, "pip")
  (pip / "RECORD").unlink()
  assert setup.remove_damaged(tmp_path) == []


def test_fetched_packages_are_counted():
  log = "Looking in links: x\nCollecting a==1\n  Downloading a\nProcessing ./b.whl\n"
  assert setup.count_fetched(log) == 2
  assert setup.count_fetched("") == 0


def test_errors_are_shown_without_the_noise_around_them():
  log = (
    "Collecting six==1.17.0\nWARNING: Location ignored\n"
    "ERROR: THESE PACKAGES DO NOT MATCH\n    Expected sha256 a\n\n"
    "WARNING: old pip\n[notice] new version\n    Got b\n"
  )
  assert setup.error_lines(log) == [
    "ERROR: THESE PACKAGES DO NOT MATCH",
    "    Expected sha256 a",
    "    Got b",
  ]


def test_output_without_an_error_line_shows_its_end():
  assert setup.error_lines("\n".join(["Killed"] * 100)) == ["Killed"] * 30


def test_the_launcher_starts_the_checkout_from_anywhere(tmp_path):
  root = tmp_path / "a check'out"
  (root / "pipelines").mkdir(parents=True)
  (root / "pipelines" / "__init__.py").touch()
  (root / "pipelines" / "__main__.py").write_text("import sys; print(sys.argv[1:])")
  venv = root / ".venv"
  subprocess.run(
    [sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True
  )
  assert setup.write_launcher(root, venv)
  assert not setup.write_launcher(root, venv)
  # What lies where it is started must not be taken for ours.
  elsewhere = tmp_path / "elsewhere"
  (elsewhere / "pipelines").mkdir(parents=True)
  ended = subprocess.run(
    [str(venv / "bin" / "fedtiny"), "run", "a b"],
    cwd=elsewhere, capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert ended.stdout == "['run', 'a b']\n"
