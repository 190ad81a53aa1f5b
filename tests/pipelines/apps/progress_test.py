"""Plain lines when nobody watches, a bar on a terminal, seconds by stage."""

import io
import types

import pytest
import rich.console

from pipelines.apps import plain_progress, progress
from tests.pipelines import support


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch):
  clock = support.Clock()
  for module in (progress, plain_progress):
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=clock))
  return clock


def _console(**options):
  return rich.console.Console(
    file=io.StringIO(), highlight=False, soft_wrap=True, width=80, **options
  )


def _text(shown):
  return shown.console.file.getvalue()


def _lines(shown):
  return _text(shown).splitlines()


def test_a_line_tells_the_time_since_the_start(clock):
  shown = progress.Progress(_console())
  clock.now += 12.34
  shown.say("hello")
  assert _lines(shown) == ["[  12.3 s] hello"]


def test_lines_are_neither_wrapped_nor_interpreted(clock):
  shown = progress.Progress(_console())
  text = "[red]x[/red] " + "word " * 40
  shown.say(text)
  assert _lines(shown) == [f"[   0.0 s] {text}"]


def test_stderr_is_the_place_by_default(capsys):
  progress.Progress().say("hello")
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.endswith("hello\n")


def test_a_stage_is_announced_and_timed(clock):
  shown = progress.Progress(_console())
  for spent in (2.0, 3.0):
    with shown.stage("data", "writing data"):
      clock.now += spent
  assert shown.seconds == {"data": 5.0}
  assert [line[-12:] for line in _lines(shown)] == ["writing data"] * 2


def test_waiting_is_shown_on_a_terminal_only():
  plain, live = (progress.Progress(_console(force_terminal=t)) for t in (False, True))
  for shown in (plain, live):
    with shown.waiting("loading"):
      pass
  assert _lines(plain) == []
  assert "loading" in _text(live)


def test_a_stage_that_fails_is_timed(clock):
  shown = progress.Progress(_console())
  with pytest.raises(KeyError), shown.stage("data", "writing data"):
    clock.now += 1.0
    raise KeyError
  assert shown.seconds == {"data": 1.0}


def test_steps_are_plain_lines_with_the_time_left(clock):
  shown = progress.Progress(_console())
  with shown.steps("round", 4, 0) as steps:
    for number in range(4):
      clock.now += 6.0
      steps.advance(f"loss {number}")
  assert _lines(shown) == [
    "[   6.0 s] round 1/4, 18 s left: loss 0",
    "[  12.0 s] round 2/4, 12 s left: loss 1",
    "[  18.0 s] round 3/4, 6 s left: loss 2",
    "[  24.0 s] round 4/4, 0 s left: loss 3",
  ]


def test_quick_steps_do_not_flood(clock):
  shown = progress.Progress(_console())
  with shown.steps("round", 20, 0) as steps:
    for _ in range(20):
      clock.now += 1.0
      steps.advance("")
  counts = [line.split("round ")[1].split("/")[0] for line in _lines(shown)]
  # The first, then one every five seconds, and always the last.
  assert counts == ["1", "6", "11", "16", "20"]


def test_a_continued_count_judges_by_its_own_steps(clock):
  shown = progress.Progress(_console())
  with shown.steps("round", 10, 8) as steps:
    clock.now += 7.0
    steps.advance("")
  assert _lines(shown) == ["[   7.0 s] round 9/10, 7 s left: "]


def test_no_escape_codes_without_a_terminal(clock):
  shown = progress.Progress(_console())
  with shown.stage("a", "stage"), shown.steps("round", 2, 0) as steps:
    steps.advance("x")
    steps.advance("y")
  assert "\x1b" not in _text(shown)
  assert "\r" not in _text(shown)


def test_a_terminal_shows_a_bar():
  shown = progress.Progress(_console(force_terminal=True))
  with shown.steps("round", 2, 0) as steps:
    steps.advance("loss 1.5")
    steps.advance("loss 0.5")
  text = _text(shown)
  assert "\x1b[" in text
  assert "2/2" in text
  assert "loss 0.5" in text
