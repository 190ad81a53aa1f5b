"""What a benchmark publishes can be read back, with what was measured where."""

import os
import pathlib
import subprocess

import pytest

from benchmarks import results_file

_ROWS = [
  {"model": "a", "ratio": 0.5, "images": 1200},
  {"model": "b", "ratio": 2.0, "images": 3},
]


def _git(folder: pathlib.Path, *arguments: str) -> str:
  identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
  command = ["git", *identity, *arguments]
  done = subprocess.run(
    command, cwd=folder, check=True, capture_output=True, encoding="utf-8"
  )
  return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
  """A checkout of one commit with the folder of a benchmark's results."""
  _git(tmp_path, "init", "-q")
  (tmp_path / "benchmarks" / "results").mkdir(parents=True)
  (tmp_path / "code.py").write_text("1\n")
  (tmp_path / "benchmarks" / "results" / "speed.json").write_text("{}\n")
  _git(tmp_path, "add", ".")
  _git(tmp_path, "commit", "-q", "-m", "all")
  return tmp_path


def test_rows_are_printed_and_written(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(results_file, "_FOLDER", tmp_path / "results")
  results_file.publish("speed", _ROWS)
  found = results_file.read("speed")
  assert found.rows == _ROWS
  assert found.cores == os.cpu_count()
  assert found.processor
  printed = capsys.readouterr().out
  assert "speed" in printed
  assert "1,200" in printed
  assert "0.500" in printed


def test_the_commit_is_named(checkout):
  assert results_file._commit(checkout) == _git(
    checkout, "rev-parse", "--short=10", "HEAD"
  )


def test_figures_of_other_benchmarks_are_no_change(checkout):
  (checkout / "benchmarks" / "results" / "speed.json").write_text("[]\n")
  assert not str(results_file._commit(checkout)).endswith("+")


@pytest.mark.parametrize("name", ["code.py", "new.py", "benchmarks/new.py"])
def test_a_change_of_the_code_is_told(checkout, name):
  (checkout / name).write_text("2\n")
  assert str(results_file._commit(checkout)).endswith("+")


def test_outside_of_a_checkout_there_is_no_commit(tmp_path):
  assert results_file._commit(tmp_path) is None
