"""What is drawn while somebody watches, line by line."""

import io

import pytest
import rich.console

from pipelines.apps import screen


def _lines(item, width=80, **options):
  stream = io.StringIO()
  console = rich.console.Console(file=stream, width=width, height=24, **options)
  console.print(item)
  return stream.getvalue().splitlines()


@pytest.mark.parametrize(
  ("seconds", "shown"),
  [
    (0.04, "0.0 s"), (9.96, "10.0 s"), (12.4, "12 s"), (59.4, "59 s"), (59.6, "1:00"),
    (187.0, "3:07"), (3723.0, "1:02:03"),
  ],
)  # fmt: skip
def test_times(seconds, shown):
  assert screen.duration(seconds) == shown


def test_a_long_activity_is_cut_and_its_time_is_not():
  (line,) = _lines(screen.Activity("word " * 20, is_unicode=True), width=40)
  assert len(line) <= 40
  assert "…" in line
  assert line.endswith(" s")


def test_without_unicode_there_is_ascii_only():
  (line,) = _lines(screen.Activity("loading", is_unicode=False))
  assert line.isascii()


def test_a_bar_says_what_is_left_and_keeps_figures_whole():
  bar = screen.Bar("round", total=9, done=3)
  assert "after the first" in _lines(bar)[0]
  bar.advance("loss 0.123, held-out accuracy 0.981, density 0.1")
  wide, narrow = _lines(bar, 80), _lines(bar, 40)
  assert wide[0].startswith("  round 4/9")
  assert " left" in wide[0]
  assert wide[1:] == ["    loss 0.123, held-out accuracy 0.981, density 0.1"]
  assert narrow[2:] == ["    loss 0.123, held-out accuracy 0.981", "    density 0.1"]
  assert max(map(len, narrow)) <= 40


def test_of_much_that_is_to_come_some_is_named():
  texts = [f"stage {number}" for number in range(12)]
  lines = _lines(screen.Pending(lambda: texts, is_unicode=True))
  assert lines[:2] == ["· stage 0", "· stage 1"]
  assert lines[-1] == "· 4 more"
  assert len(lines) == 9


def test_a_stage_takes_those_before_it_from_what_is_to_come():
  shown = screen.Screen(rich.console.Console(file=io.StringIO()))
  shown.expect({"a": "first", "b": "second", "c": "third"})
  shown.begin("unknown")
  shown.begin("b")
  text = "\n".join(_lines(shown._drawn()))
  assert "third" in text
  assert "first" not in text and "second" not in text


def test_what_is_shown_is_wiped_also_after_an_error():
  stream = io.StringIO()
  console = rich.console.Console(file=stream, force_terminal=True, width=40)
  shown = screen.Screen(console)
  with pytest.raises(KeyError), shown.showing(screen.Activity("loading", True)):
    raise KeyError
  text = stream.getvalue()
  assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") > -1
  assert shown._live is None
