"""Exit codes and messages of every way an app can end; help."""

import os
import signal
import subprocess
import sys

import pytest
from absl import flags

from fedtiny_tff.errors import InputError
from pipelines import app, run_flags
from pipelines.errors import ExitCode, Terminated
from tests.pipelines import support
from tflite_export.artifacts import VerificationError

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
    "INTERRUPTED": 130,
    "TERMINATED": 143,
  }


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (4, 4)])
def test_what_main_returns_is_the_exit_code(returned, code, capsys):
  assert support.call("toy", lambda: returned) == code
  assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
  ("error", "code", "line"),
  [
    (InputError("--x must be 1"), 2, "toy: --x must be 1"),
    (InputError("first\n  second"), 2, "toy: first second"),
    (OSError(28, "No space left", "/a/b"), 2, "toy: /a/b: No space left"),
    (VerificationError("mcu: 3 of 9"), 3, "toy: verification failed: mcu: 3 of 9"),
    (
      KeyboardInterrupt(),
      130,
      "toy: interrupted; the same command goes on after the last finished round",
    ),
    (
      Terminated(),
      143,
      "toy: terminated; the same command goes on after the last finished round",
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
  for group, names in run_flags.GROUPS.items():
    section = ended.stdout.split(f"\n{group}:\n")[-1].split("\n\n")[0]
    for flag_name in names:
      boolean = flags.FLAGS[flag_name].boolean
      assert f"  --{'[no]' if boolean else ''}{flag_name} " in section
  assert "--flagfile" in ended.stdout
  imported = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
  assert "pipelines.app" in imported
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
