"""A target of Bazel runs its file's quick tests with what it declares."""

import subprocess
import sys

import pytest

from tools import pytest_main


def test_what_is_given_comes_last_and_wins():
  assert pytest_main.arguments(["a_test.py", "-m", "slow"]) == [
    *("-p", "no:cacheprovider", "-m", "not slow and not arm64"),
    *("a_test.py", "-m", "slow"),
  ]


def test_what_bazel_asks_for_is_passed_on():
  found = pytest_main.arguments([], "masks", "/a/test.xml")
  assert found[-3:] == ["-k", "masks", "--junitxml=/a/test.xml"]


def test_undeclared_modules_are_out_of_reach(tmp_path):
  runfiles, checkout, packages = (tmp_path / name for name in "abc")
  for folder in (runfiles, checkout):
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / "pytest_main.py").touch()
  packages.mkdir()
  path = [str(each) for each in (checkout / "tools", runfiles, packages, checkout)]
  assert pytest_main.declared(path) == [str(runfiles), str(packages)]


@pytest.mark.parametrize(
  ("source", "code"),
  [
    ("def test_a():\n  pass\n", 0),
    ("def test_a():\n  assert False\n", 1),
    ("import pytest\npytest.importorskip('no_such_module')\n", 0),
    ("import pytest\n@pytest.mark.slow\ndef test_a():\n  pass\n", 5),
    ("import no_such_module\n", 2),
  ],
)
def test_a_file_without_a_test_to_run_fails_unless_it_is_skipped(
  tmp_path, source, code
):
  (tmp_path / "pyproject.toml").write_text(
    "[tool.pytest.ini_options]\nmarkers = ['slow: a', 'arm64: b']\n"
  )
  file = tmp_path / "a_test.py"
  file.write_text(source)
  command = [sys.executable, pytest_main.__file__, str(file)]
  assert subprocess.run(command, cwd=tmp_path, check=False).returncode == code
