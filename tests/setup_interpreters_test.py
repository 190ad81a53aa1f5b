"""Which Python set-up takes, and what it says about the others."""

import sys

import pytest

from tests.interpreters import GOOD
from tools import setup_interpreters
from tools.setup_messages import SetupError


def test_the_right_interpreter_has_no_problem():
  assert setup_interpreters.interpreter_problem(GOOD) is None


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
  problem = setup_interpreters.interpreter_problem(GOOD._replace(**change)) or ""
  assert said in problem
  assert "\n" not in problem


@pytest.mark.parametrize("glibc", ["2.31", "2.36", "2.100", "3.0"])
def test_glibc_versions_compare_as_numbers(glibc):
  interpreter = GOOD._replace(libc=("glibc", glibc))
  assert setup_interpreters.interpreter_problem(interpreter) is None


def test_the_first_usable_interpreter_is_chosen():
  newer = GOOD._replace(version=(3, 13, 0))
  there = {"python3": newer, "python3.11": GOOD}
  names = ["gone", "python3", "python3.11"]
  assert setup_interpreters.choose_interpreter(names, there.get) == GOOD


def test_no_usable_interpreter_tells_about_the_first_that_runs():
  there = {
    "python3.11": GOOD._replace(can_make_venv=False),
    "python3": GOOD._replace(version=(3, 13, 0)),
  }
  with pytest.raises(SetupError, match=r"python3\.11-venv") as caught:
    setup_interpreters.choose_interpreter(["gone", "python3.11", "python3"], there.get)
  assert caught.value.exit_code == 2


def test_no_interpreter_at_all_tells_what_to_install():
  with pytest.raises(SetupError, match=r"python3\.11 or python3; install"):
    setup_interpreters.choose_interpreter(["python3.11", "python3"], lambda name: None)


def test_an_interpreter_is_asked_for_its_own_version():
  asked = setup_interpreters.probe(sys.executable)
  assert asked is not None
  assert tuple(asked.version) == sys.version_info[:3]
  assert asked.base_prefix == sys.base_prefix


@pytest.mark.parametrize("body", ["exit 1", "echo no json", "echo '{\"version\": 3}'"])
def test_what_is_no_interpreter_is_not_taken_for_one(tmp_path, body):
  script = tmp_path / "python3.11"
  script.write_text(f"#!/bin/sh\n{body}\n")
  script.chmod(0o755)
  assert setup_interpreters.probe(str(script)) is None
  assert setup_interpreters.probe(str(tmp_path / "missing")) is None
