"""Exit codes and messages of every way an app can end; help."""

import gc
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.apps import app
from pipelines.apps.errors import ExitCode, Terminated
from pipelines.settings import run_dir_flag, run_flags
from tests.pipelines import support
from tflite_export.artifacts import BudgetError, VerificationError

APPS = ("run", "train", "export", "evaluate")


def _raise(error):
  def main():
    raise error

  return main


def test_exit_codes_are_the_documented_ones():
  assert {code.name: int(code) for code in ExitCode} == {
    "DONE": 0,
    "BAD_INPUT": 2,
    "VERIFICATION_FAILED": 3,
    "BUDGET_NOT_MET": 4,
    "STORAGE_FULL": 5,
    "INTERRUPTED": 130,
    "OUTPUT_CLOSED": 141,
    "TERMINATED": 143,
  }


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (4, 4)])
def test_what_main_returns_is_the_exit_code(returned, code, capsys):
  assert support.call("toy", lambda: returned) == code
  assert capsys.readouterr().err == ""


_FULL = (
  "no space is left; free some and run the same command again; finished rounds are kept"
)


@pytest.mark.parametrize(
  ("error", "code", "line"),
  [
    (InputError("--x must be 1"), 2, "toy: --x must be 1"),
    (InputError("first\n  second"), 2, "toy: first second"),
    (OSError(13, "Permission denied", "/a/b"), 2, "toy: /a/b: Permission denied"),
    (OSError(28, "No space left on device", "/a/b"), 5, f"toy: /a/b: {_FULL}"),
    (OSError(122, "Disk quota exceeded"), 5, f"toy: {_FULL}"),
    (
      RuntimeError("Unable to write (errno = 28, No space left on device)"),
      5,
      f"toy: {_FULL}",
    ),
    (sqlite3.OperationalError("database or disk is full"), 5, f"toy: {_FULL}"),
    (VerificationError("mcu: 3 of 9"), 3, "toy: verification failed: mcu: 3 of 9"),
    (BudgetError("mcu: 9 of 8 bytes"), 4, "toy: budget not met: mcu: 9 of 8 bytes"),
    (
      KeyboardInterrupt(),
      130,
      "toy: interrupted; run the same command again; finished rounds are kept",
    ),
    (
      Terminated(),
      143,
      "toy: terminated; run the same command again; finished rounds are kept",
    ),
  ],
)
def test_expected_ends_are_one_line(error, code, line, capsys):
  assert support.call("toy", _raise(error)) == code
  printed = capsys.readouterr()
  assert printed.err == line + "\n"
  assert printed.out == ""


@pytest.mark.parametrize(
  "error", [ValueError("a defect"), OSError("no file named"), AssertionError()]
)
def test_a_defect_keeps_its_traceback(error):
  with pytest.raises(type(error)):
    support.call("toy", _raise(error))


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--no_such_flag=1"], "no_such_flag"),
    (["--rounds=many"], "--rounds"),
    (["--rounds"], "rounds"),
    (["--flagfile=/no/such.flags"], "/no/such.flags"),
    (["extra"], "unexpected argument 'extra'"),
    (["\udcff.tflite"], r"'\udcff.tflite': is not UTF-8 text; write it so"),
    (["--flagfile=\udcff"], r"'--flagfile=\udcff': is not UTF-8 text; write it so"),
  ],
)
def test_a_wrong_command_line_is_one_line(arguments, said, capsys):
  def main():
    raise AssertionError("main was called")

  assert support.call("toy", main, *arguments) == 2
  printed = capsys.readouterr()
  assert printed.err.startswith("toy: ")
  assert printed.err.count("\n") == 1
  assert said in printed.err


def test_a_preset_is_read_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  read = []
  preset = "--flagfile=pipelines/presets/digits.flags"
  assert support.call("toy", lambda: read.append(flags.FLAGS.pool_size), preset) == 0
  assert read == [8]


def test_garbage_is_looked_for_more_seldom_than_by_default():
  before = gc.get_threshold()
  try:
    gc.set_threshold(700, 10, 10)
    seen = []
    assert support.call("toy", lambda: seen.append(gc.get_threshold())) == 0
    assert seen[0][0] > 700
  finally:
    gc.set_threshold(*before)


def test_sigterm_reaches_main():
  def main():
    os.kill(os.getpid(), signal.SIGTERM)
    # A second one must not tear the clean-up apart.
    raise AssertionError("went on")

  assert support.call("toy", main) == 143


def test_a_second_sigterm_does_not_stop_the_clean_up():
  cleaned = []

  def main():
    try:
      os.kill(os.getpid(), signal.SIGTERM)
    finally:
      os.kill(os.getpid(), signal.SIGTERM)
      cleaned.append(True)

  assert support.call("toy", main) == 143
  assert cleaned == [True]


def test_termination_passes_handlers_of_ordinary_errors():
  assert not issubclass(Terminated, Exception)


@pytest.mark.parametrize("code", [0, 2, 3])
def test_leave_ends_the_interpreter_normally(code):
  with pytest.raises(SystemExit) as caught:
    app.leave(code)
  assert caught.value.code == code


@pytest.mark.parametrize("code", [130, 143])
def test_leave_skips_the_shutdown_after_an_interruption(code, monkeypatch):
  ended: list[int] = []
  monkeypatch.setattr(os, "_exit", ended.append)
  with pytest.raises(SystemExit):
    app.leave(code)
  assert ended == [code]


def test_help_wraps_and_names_defaults():
  text = app.help_text("  What.  ", {"First": ["rounds"], "Second": ["dense_baseline"]})
  assert text.startswith("What.\n\nFirst:\n  --rounds")
  assert "(default '300')" in text
  assert "Second:\n  --[no]dense_baseline" in text
  assert max(len(line) for line in text.splitlines()) <= 100


def test_a_flag_in_help_that_does_not_exist_is_a_defect():
  with pytest.raises(KeyError):
    app.help_text("", {"First": ["no_such_flag"]})


def unread(*command):
  """Runs a command whose output nobody reads; returns exit code and stderr."""
  reading, writing = os.pipe()
  os.close(reading)
  ended = subprocess.run(
    [sys.executable, *command],
    cwd=support.ROOT,
    stdout=writing,
    stderr=subprocess.PIPE,
    text=True,
    check=False,
  )
  os.close(writing)
  return ended.returncode, ended.stderr


@pytest.mark.parametrize("name", [*APPS, "cost", "inspect", "doctor"])
def test_output_that_nobody_reads_is_no_defect(name):
  assert unread("-m", f"pipelines.{name}", "--help") == (ExitCode.OUTPUT_CLOSED, "")


_WRITES_MUCH = """
import sys
from pipelines.apps import app
def main():
  if "rich" in sys.argv[0]:
    import rich.console
    return rich.console.Console().print("x")
  print("x" * 100_000)
app.leave(app.run_app(main, "", {}, sys.argv[1:]))
"""


@pytest.mark.parametrize("writer", ["print", "rich"])
def test_output_that_nobody_reads_to_its_end_is_no_defect(writer):
  script = _WRITES_MUCH.replace("sys.argv[0]", repr(writer))
  assert unread("-c", script, "toy") == (ExitCode.OUTPUT_CLOSED, "")


def test_another_broken_pipe_is_a_defect():
  def main():
    raise BrokenPipeError(32, "Broken pipe")

  with pytest.raises(BrokenPipeError):
    support.call("toy", main)


def test_leaving_on_ones_own_account_is_not_an_app_end():
  with pytest.raises(SystemExit):
    support.call("toy", lambda: sys.exit(1))


def test_a_closed_output_is_nothing_to_flush():
  command = f"{sys.executable} -m pipelines.cost --help >&-"
  ended = subprocess.run(
    command, shell=True, cwd=support.ROOT, capture_output=True, check=False
  )
  assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_every_app_is_complete_and_light(name, flag):
  # A wrong flag beside it must not hide the help.
  command = [sys.executable, "-X", "importtime", "-m", f"pipelines.{name}"]
  ended = subprocess.run(
    [*command, "--no_such_flag", flag],
    cwd=support.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert ended.returncode == 0
  assert f"python -m pipelines.{name}" in ended.stdout
  listed = {
    "export": run_dir_flag.changeable_groups(),
    "evaluate": {"Run": ["run_dir", "data_dir"]},
  }
  for group, names in listed.get(name, run_flags.GROUPS).items():
    section = ended.stdout.split(f"\n{group}:\n")[-1].split("\n\n")[0]
    for flag_name in names:
      boolean = flags.FLAGS[flag_name].boolean
      head = f"  --{'[no]' if boolean else ''}{flag_name}"
      assert any(f"{line} ".startswith(f"{head} ") for line in section.splitlines())
  assert "--flagfile" in ended.stdout
  imported = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
  assert "pipelines.apps.app" in imported
  roots = {module.split(".")[0] for module in imported}
  assert not roots & {"tensorflow", "tensorflow_federated", "keras", "jax", "sklearn"}


@pytest.mark.parametrize(
  ("name", "flag"),
  [("export", "--run_dir"), ("evaluate", "--run_dir"), ("evaluate", "--format")],
)
def test_help_names_the_apps_own_flags(name, flag):
  ended = subprocess.run(
    [sys.executable, "-m", f"pipelines.{name}", "--help"],
    cwd=support.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert f"  {flag} " in ended.stdout
