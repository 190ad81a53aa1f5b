"""Compilers that are missing, unfit, at fault or slow; scripts take their place."""

import pathlib

import pytest

from pipelines.firmware import cpp_compiler
from tests.tflite_export.cpp import needs_compiler
from tflite_export.artifacts import VerificationError


@pytest.fixture(name="script")
def fixture_script(tmp_path, monkeypatch):
  """Puts a shell script on the PATH, before everything else."""
  folder = tmp_path / "bin"
  folder.mkdir()
  monkeypatch.setenv("PATH", str(folder), prepend=":")

  def write(name, body, first_line="#!/bin/sh"):
    path = folder / name
    path.write_text(f"{first_line}\n{body}\n")
    path.chmod(0o755)

  return write


class TestProblem:
  @needs_compiler
  def test_a_compiler_that_works(self):
    assert cpp_compiler.problem(("g++", "-std=c++11")) == ""

  def test_one_that_is_not_there(self):
    assert cpp_compiler.problem(("no-such-g++",)) == "no-such-g++ is not installed"

  @needs_compiler
  def test_a_tool_that_is_not_there(self):
    assert cpp_compiler.problem(("g++",), "no-size") == "no-size is not installed"

  @needs_compiler
  def test_one_without_its_library(self, script):
    script("bare-g++", 'g++ -nostdinc++ "$@"')
    assert cpp_compiler.problem(("bare-g++",)) == (
      "bare-g++ cannot be used: probe.cc:1:10: fatal error: cmath: "
      "No such file or directory"
    )

  @needs_compiler
  def test_one_that_does_not_know_an_option(self):
    found = cpp_compiler.problem(("g++", "-mcpu=cortex-m1000"))
    assert found.startswith("g++ cannot be used: ")

  def test_one_that_is_no_program(self, script):
    script("odd-g++", "", first_line="\0")
    assert cpp_compiler.problem(("odd-g++",)) == (
      "odd-g++ cannot be used: Exec format error"
    )

  def test_one_that_hangs(self, script, monkeypatch):
    script("slow-g++", "exec sleep 60")
    monkeypatch.setattr(cpp_compiler, "_TIMEOUT_SECONDS", 0.2)
    assert cpp_compiler.problem(("slow-g++",)) == (
      "slow-g++ cannot be used: slow-g++ did not end within 0.2 s"
    )


class TestRun:
  def test_what_is_printed_comes_back(self, tmp_path):
    assert cpp_compiler.run(("echo", "4"), tmp_path, "it fails") == "4\n"

  @pytest.mark.parametrize(
    ("printed", "reason"),
    [
      (
        "In file included from error.h:1,\na.cc:1:2: error: bad",
        "a.cc:1:2: error: bad",
      ),
      ("a.cc:1:2: warning: odd\na.cc:3:4: error: bad\nb", "a.cc:3:4: error: bad"),
      (
        "ld: a.o: in function `main':\na.cc:(.text+0x4): undefined reference to `g'\n"
        "collect2: error: ld returned 1 exit status",
        "a.cc:(.text+0x4): undefined reference to `g'",
      ),
      ("ld: cannot find -lx\ncollect2: error: ld returned 1", "ld: cannot find -lx"),
      ("something else", "something else"),
      ("", "no reason given"),
    ],
  )
  def test_the_first_reason_is_given(self, tmp_path, script, printed, reason):
    (tmp_path / "printed").write_text(printed)
    script("my-g++", "cat printed >&2; exit 1")
    with pytest.raises(VerificationError) as caught:
      cpp_compiler.run(("my-g++",), tmp_path, "it fails")
    assert str(caught.value) == f"it fails: {reason}"

  def test_reasons_are_in_english(self, tmp_path, script, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    script("my-g++", "echo $LC_ALL")
    assert cpp_compiler.run(("my-g++",), tmp_path, "it fails") == "C\n"

  def test_one_that_hangs(self, tmp_path, script, monkeypatch):
    script("my-g++", "exec sleep 60")
    monkeypatch.setattr(cpp_compiler, "_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(VerificationError, match=r"^it fails: my-g\+\+ did not end"):
      cpp_compiler.run(("my-g++",), tmp_path, "it fails")


def test_sources_lie_side_by_side_and_go_away():
  files = {
    "mcu/a.cc": b"1",
    "mcu/a.h": b"2",
    "mcu/model.tflite": b"3",
    "mcu/R.md": b"4",
  }
  with cpp_compiler.sources_in_folder(files, {"deep/er/b.h": "ö"}) as place:
    found = {
      str(path.relative_to(place)): path.read_bytes()
      for path in pathlib.Path(place).rglob("*")
      if path.is_file()
    }
  assert found == {"a.cc": b"1", "a.h": b"2", "deep/er/b.h": "ö".encode()}
  assert not place.exists()
