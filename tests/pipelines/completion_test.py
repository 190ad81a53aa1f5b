"""Completion in real shells; bash is everywhere, zsh and fish where they are installed."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

from tests.pipelines import support


@pytest.fixture(name="script", scope="module")
def fixture_script(tmp_path_factory):
  """Returns where a shell's script is."""
  folder = tmp_path_factory.mktemp("completion")
  made = {}

  def script(shell):
    if shell not in made:
      made[shell] = folder / f"fedtiny.{shell}"
      text = subprocess.run(
        [sys.executable, "-m", "pipelines", "completion", shell],
        cwd=support.ROOT, capture_output=True, check=True,
      ).stdout  # fmt: skip
      made[shell].write_bytes(text)
    return made[shell]

  return script


_CASES = [
  ("fedtiny ru", {"run"}),
  ("fedtiny run --strat", {"--strategy="}),
  ("fedtiny run --strategy=fedt", {"fedtiny"}),
  ("fedtiny run --strategy fedt", {"fedtiny"}),
  ("fedtiny run --targets=android,m", {"android,mcu"}),
  ("fedtiny run --nodense", {"--nodense_baseline"}),
  ("fedtiny run --rounds=", set()),
  ("fedtiny completion ", {"bash", "zsh", "fish"}),
  ("fedtiny doctor --verbosity=w", {"warning"}),
  ("fedtiny doctor --strat", set()),
  ("fedtiny inspect pyproj", {"pyproject.toml"}),
  ("fedtiny run --flagfile=pipelines/presets/dig", {"pipelines/presets/digits.flags"}),
  ("fedtiny run --output_dir=tflite_ex", {"tflite_export"}),
  ("fedtiny run --model=pyproj", {"pyproject.toml"}),
]


def test_bash_completes_commands_flags_values_and_files(script):
  lines = [
    f"COMP_LINE={line!r} COMP_POINT={len(line)}; COMPREPLY=(); _fedtiny; "
    'echo "${COMPREPLY[*]}"'
    for line, _ in _CASES
  ]
  text = "\n".join([f"source {script('bash')}", *lines])
  ended = subprocess.run(
    ["bash", "--norc", "-c", text], cwd=support.ROOT, capture_output=True, text=True,
    check=True,
  )  # fmt: skip
  assert ended.stderr == ""
  found = [set(line.split()) for line in ended.stdout.splitlines()]
  assert found == [wanted for _, wanted in _CASES]


def test_fish_completes_commands_flags_values_and_files(script):
  if shutil.which("fish") is None:
    pytest.skip("needs the shell fish (Debian and Ubuntu: apt-get install fish)")
  path = script("fish")

  def complete(line):
    ended = subprocess.run(
      ["fish", "--no-config", "-c", f"source {path}; complete -C {line!r}"],
      cwd=support.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {row.split("\t")[0] for row in ended.stdout.splitlines()}

  assert "run" in complete("fedtiny ru")
  assert "--strategy" in complete("fedtiny run --strat")
  assert "--strategy=fedtiny" in complete("fedtiny run --strategy=fedt")
  assert "--targets=android,mcu" in complete("fedtiny run --targets=android,m")
  assert "pyproject.toml" in complete("fedtiny inspect pyproj")
  assert complete("fedtiny doctor --strat") == set()


def _typed_in_zsh(path, line):
  """Types a line and Tab in an interactive zsh; returns what is then on the line."""
  child, terminal = pty.fork()
  if not child:
    os.environ.update(TERM="dumb", PS1="> ")
    os.execvp("zsh", ["zsh", "-f", "-i"])
  begin = f"autoload -Uz compinit; compinit -u -D; source {path}; PS1='READY>'\n"
  shown = ""
  try:
    for wanted, typed in (("", begin), ("READY>", line + "\t"), (line, "")):
      end = time.monotonic() + 20.0
      rest = shown.rpartition("PS1=")[2] if wanted == "READY>" else ""
      while time.monotonic() < end and wanted not in rest.replace("'READY>'", ""):
        if select.select([terminal], [], [], 0.2)[0]:
          shown += os.read(terminal, 4096).decode(errors="replace")
        rest = shown.rpartition("PS1='READY>'")[2]
      os.write(terminal, typed.encode())
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
      if select.select([terminal], [], [], 0.1)[0]:
        shown += os.read(terminal, 4096).decode(errors="replace")
  finally:
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(terminal)
  return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x08.?", "", shown.rpartition("READY>")[2])


@pytest.mark.parametrize(
  ("line", "completed"),
  [("fedtiny doc", "fedtiny doctor"), ("fedtiny run --strategy=fedt", "=fedtiny")],
)
def test_zsh_completes_commands_and_values(script, line, completed):
  if shutil.which("zsh") is None:
    pytest.skip("needs the shell zsh (Debian and Ubuntu: apt-get install zsh)")
  assert completed in _typed_in_zsh(script("zsh"), line)


def test_an_unknown_shell_is_bad_input():
  ended = subprocess.run(
    [sys.executable, "-m", "pipelines", "completion", "bsh"],
    cwd=support.ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert ended.returncode == 2
  assert ended.stderr == (
    "fedtiny completion: SHELL must be one of bash, zsh, fish, got 'bsh'; did you mean "
    "bash?\n"
  )
