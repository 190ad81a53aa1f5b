"""Signals that come out of libraries as something else, or not at all."""

import os
import signal
import sys

import pytest

from pipelines.apps import interruption
from pipelines.apps.errors import Terminated
from pipelines.apps.progress import Progress
from tests.pipelines import support

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(autouse=True)
def fixture_handlers():
  with support.fresh_flags():
    # A shell that runs the tests in the background ignores Ctrl-C for all of us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield


def _lost(number):
  """Sends a signal to this process and swallows what it raises."""
  try:
    os.kill(os.getpid(), number)
  except KeyboardInterrupt:
    pass
  else:
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_that_becomes_another_error_is_still_the_signal(number, code, capsys):
  def main():
    _lost(number)
    raise RuntimeError("error_already_set: MISMATCH")

  assert support.call("toy", main) == code
  assert capsys.readouterr().err.startswith(("toy: interrupted", "toy: terminated"))


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("shown", ["line", "step"])
def test_a_swallowed_signal_stops_at_the_next_progress(number, code, shown):
  def main():
    progress = Progress()
    with progress.steps("round", 2, 0) as steps:
      _lost(number)
      if shown == "line":
        progress.say("going on")
      else:
        steps.advance("loss 1")
    raise AssertionError("went on")

  assert support.call("toy", main) == code


class _Callback:
  """Its end is a callback that exceptions cannot leave."""

  def __init__(self, error):
    self._error = error

  def __del__(self):
    raise self._error


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_what_a_callback_cannot_pass_on_is_printed_unless_it_is_a_signal(
  is_interrupted, capsys
):
  interruption.install()
  if is_interrupted:
    _lost(signal.SIGTERM)
  _Callback(Terminated())
  _Callback(ValueError("a defect"))
  printed = capsys.readouterr().err
  assert ("Terminated" in printed) != is_interrupted
  assert "a defect" in printed
  sys.excepthook(Terminated, Terminated(), None)
  assert ("Terminated" in capsys.readouterr().err) != is_interrupted


def test_without_a_signal_nothing_is_raised():
  interruption.install()
  interruption.check()
  assert interruption.received() is None


def test_the_first_signal_counts():
  interruption.install()
  _lost(signal.SIGTERM)
  _lost(signal.SIGINT)
  assert isinstance(interruption.received(), Terminated)
  interruption.install()
  assert interruption.received() is None


def test_ignored_signals_stay_ignored():
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  interruption.install()
  os.kill(os.getpid(), signal.SIGINT)
  interruption.check()
