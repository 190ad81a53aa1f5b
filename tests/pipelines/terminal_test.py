"""What a real terminal shows: at once, at any width, and what is left after Ctrl-C."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios

import pytest

from tests.pipelines import support

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_TOY = """
import sys, time
from pipelines.apps import app
from pipelines.apps.progress import Progress
def main():
  progress = Progress()
  progress.expect({"a": "stage a", "b": "stage b", "c": "stage c"})
  with progress.waiting("loading much"):
    time.sleep(0.3)
  with progress.stage("a", "stage a"):
    progress.warn("a warning")
  with progress.stage("b", "stage b"), progress.steps("round", 9, 3) as steps:
    for _ in range(2):
      steps.advance("loss 0.123, held-out accuracy 0.981, density 0.1")
    time.sleep(SECONDS)
app.leave(app.run_app(main, "", {}, ["toy"]))
"""


class Terminal:
  """A process in a terminal of some width."""

  def __init__(self, columns, *command, **environment):
    self.process, self._terminal = pty.fork()
    if not self.process:
      size = struct.pack("HHHH", 24, columns, 0, 0)
      fcntl.ioctl(pty.STDIN_FILENO, termios.TIOCSWINSZ, size)
      os.chdir(support.ROOT)
      signal.signal(signal.SIGINT, signal.default_int_handler)
      # Given as a whole: a library of the tests tells C code a width of its own.
      kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
      given = {**kept, "TERM": "xterm", "LANG": "C.UTF-8", **environment}
      os.execve(sys.executable, [sys.executable, *command], given)
    self.shown = ""

  def read_until(self, wanted):
    """Reads until something is shown, or the process ends."""
    while wanted not in self.shown:
      ready, _, _ = select.select([self._terminal], [], [], 60.0)
      try:
        data = os.read(self._terminal, 65536) if ready else b""
      except OSError:
        data = b""
      if not data:
        return False
      self.shown += data.decode(errors="replace")
    return True

  def end(self, signum=None):
    """Waits for the end, after a signal if there is one; returns the exit code."""
    if signum is not None:
      os.kill(self.process, signum)
    self.read_until("\0nothing shows this")
    _, status = os.waitpid(self.process, 0)
    os.close(self._terminal)
    return os.waitstatus_to_exitcode(status)

  @property
  def lines(self):
    """What stays on the screen, without colours."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self.shown):
      if part == "\n":
        row += 1
        rows += [""] * (row + 1 - len(rows))
      elif part == "\r":
        column = 0
      elif not part.startswith("\x1b"):
        end = column + len(part)
        rows[row] = rows[row][:column].ljust(column) + part + rows[row][end:]
        column = end
      elif part.endswith("A"):
        row -= int(part[2:-1] or 1)
      elif part.endswith("K"):
        rows[row] = ""
    return [line.rstrip() for line in rows if line.strip()]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_stages_and_figures_at_any_width(columns):
  terminal = Terminal(columns, "-c", _TOY.replace("SECONDS", "0.3"))
  assert terminal.end() == 0
  text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.shown)
  for part in ("loading much", "· stage c", "round 5/9", " left", "density 0.1"):
    assert part in text
  assert max(map(len, re.split(r"[\r\n]+", text))) <= columns
  stays = "\n".join(terminal.lines)
  assert "✓ stage a" in stays
  assert "✓ stage b" in stays
  assert "warning: a warning" in stays
  # Nothing that moved is left.
  assert "· stage c" not in stays
  assert "round 5/9" not in stays


@pytest.mark.parametrize(
  ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_interruption_leaves_a_clean_screen(signum, code):
  terminal = Terminal(80, "-c", _TOY.replace("SECONDS", "60"))
  assert terminal.read_until("round 5/9")
  assert terminal.end(signum) == code
  assert terminal.shown.rfind(_SHOW) > terminal.shown.rfind(_HIDE) > -1
  assert terminal.lines[-1].startswith("toy: ")
  assert any("✗ stage b" in line for line in terminal.lines)
  assert not any("round 5/9" in line for line in terminal.lines)


def test_no_colours_where_they_are_not_wanted():
  colours = re.compile(r"\x1b\[[0-9;]*m")
  plain = Terminal(80, "-c", _TOY.replace("SECONDS", "0.1"), NO_COLOR="1")
  assert plain.end() == 0
  codes = {code for code in colours.findall(plain.shown)}
  # Bold and dim are no colours.
  assert not any(re.search(r"\b3\d|\b4\d|\b9\d", code) for code in codes)
  coloured = Terminal(80, "-c", _TOY.replace("SECONDS", "0.1"))
  assert coloured.end() == 0
  assert any(re.search(r"\b3\d", code) for code in colours.findall(coloured.shown))


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines():
  terminal = Terminal(80, "-c", _TOY.replace("SECONDS", "0.1"), TERM="dumb")
  assert terminal.end() == 0
  assert "\x1b[?25l" not in terminal.shown
  assert "s] stage b" in terminal.shown


def test_a_run_says_what_it_is_doing_before_tensorflow_is_there():
  flags = "--flagfile=pipelines/presets/digits.flags"
  command = ("-X", "importtime", "-m", "pipelines", "run", flags, "--output_dir=unused")
  terminal = Terminal(200, *command)
  assert terminal.read_until("loading TensorFlow")
  # Python names what it has imported, each as it ends, on the same terminal.
  before, _ = terminal.shown.split("loading TensorFlow", 1)
  imported = re.findall(r"\| +([\w.]+)", before)
  assert "pipelines.apps.progress" in imported
  assert [name for name in imported if name.startswith("tensorflow")] == []
  assert terminal.end(signal.SIGINT) == 130
  assert terminal.shown.rfind(_SHOW) > terminal.shown.rfind(_HIDE)
