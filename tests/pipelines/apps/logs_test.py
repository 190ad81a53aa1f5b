"""Text or JSON, from a level on; what fails is an object too; no secret is shown."""

import io
import json
import logging
import warnings

import pytest
import rich.console

from fedtiny_tff.errors import InputError
from pipelines.apps import logs, plain_progress, progress
from tests.pipelines import support

SECRET = "swordfish-4711"


@pytest.fixture(autouse=True)
def fixture_restored():
  before = logs.settings()
  yield
  logs.configure(before)
  assert logs._State.handler is not None
  logging.getLogger().removeHandler(logs._State.handler)
  logs._State.handler = None
  logging.getLogger().setLevel(logging.WARNING)


def _shown():
  console = rich.console.Console(
    file=io.StringIO(), soft_wrap=True, force_terminal=True
  )
  return progress.Progress(console), console.file


def _objects(text):
  return [json.loads(line) for line in text.splitlines()]


def test_progress_is_an_object_a_line():
  logs.configure(logs.Settings(is_json=True))
  shown, file = _shown()
  with shown.stage("data", "data: [red]x[/red] :key:\nand more"):
    shown.warn("left out 3")
  shown.say("end")
  first, second, third = _objects(file.getvalue())
  assert set(first) == {"time", "level", "stage", "message", "elapsed_seconds"}
  assert (first["level"], first["stage"]) == ("info", "data")
  assert first["message"] == "data: [red]x[/red] :key: and more"
  assert (second["level"], second["message"]) == ("warning", "left out 3")
  assert third["stage"] is None
  assert first["time"].endswith("Z")


def test_rounds_have_their_figures():
  """A terminal gets no bar, which is no JSON."""
  logs.configure(logs.Settings(is_json=True))
  shown, file = _shown()
  with shown.steps("sparse round", 2, 1) as steps:
    steps.advance("loss 0.5", {"train_loss": 0.5, "eval_loss": None})
  [told] = _objects(file.getvalue())
  assert (told["train_loss"], told["eval_loss"], told["seconds_left"]) == (
    0.5,
    None,
    0.0,
  )
  assert told["message"].startswith("sparse round 2/2, 0 s left")


@pytest.mark.parametrize(
  ("level", "wanted"),
  [
    (logging.DEBUG, ["said", "warned"]),
    (logging.INFO, ["said", "warned"]),
    (logging.WARNING, ["warned"]),
    (logging.ERROR, []),
  ],
)
@pytest.mark.parametrize("is_json", [False, True])
def test_the_level_holds(level, wanted, is_json):
  logs.configure(logs.Settings(is_json, level))
  shown, file = _shown()
  shown.say("said")
  shown.warn("warned")
  lines = file.getvalue().splitlines()
  assert len(lines) == len(wanted)
  assert all(word in line for word, line in zip(wanted, lines, strict=True))
  assert shown.is_live is (level <= logging.INFO and not is_json)


def test_a_warning_says_so_in_text():
  logs.configure(logs.Settings())
  shown, file = _shown()
  shown.warn("left out 3")
  assert file.getvalue().endswith("warning: left out 3\n")


def test_libraries_are_heard_from_warnings_on(capsys):
  logger = logging.getLogger("a.library")
  logs.configure(logs.Settings())
  logger.info("chatter")
  logger.warning("half of it is %s", "lost")
  assert capsys.readouterr().err == "WARNING:a.library:half of it is lost\n"
  logs.configure(logs.Settings(level=logging.ERROR))
  logger.warning("lost")
  assert capsys.readouterr().err == ""
  logs.configure(logs.Settings(level=logging.DEBUG))
  logger.debug("chatter")
  assert capsys.readouterr().err == "DEBUG:a.library:chatter\n"


def test_warnings_of_libraries_are_objects_too(capsys):
  logs.configure(logs.Settings(is_json=True))
  logging.getLogger("a.library").warning("lost")
  try:
    raise ValueError("why")
  except ValueError:
    logging.getLogger("a.library").exception("failed")
  with warnings.catch_warnings():
    warnings.simplefilter("always")
    logging.captureWarnings(True)
    warnings.warn("old", DeprecationWarning, stacklevel=1)
  first, second, third = _objects(capsys.readouterr().err)
  assert (first["level"], first["logger"], first["message"]) == (
    "warning", "a.library", "lost",
  )  # fmt: skip
  assert second["level"] == "error"
  assert "ValueError: why" in second["traceback"]
  assert third["logger"] == "py.warnings"


def test_no_secret_is_logged(monkeypatch, capsys):
  monkeypatch.setenv("WANDB_API_KEY", SECRET)
  for is_json in (False, True):
    logs.configure(logs.Settings(is_json))
    logging.getLogger("a.library").warning("bad key %s", SECRET)
  assert SECRET not in capsys.readouterr().err


def test_a_name_of_anybody_does_nothing_to_the_terminal(capsys):
  name = "cat\x1b]0;title\x07\x1b[2J"
  logs.configure(logs.Settings(False))
  plain_progress.PlainProgress().warn(f"{name} has no examples")
  logs.complain("toy", f"{name} has no examples", 2)
  told = capsys.readouterr().err
  assert told.count("cat�]0;title��[2J has no examples") == 2
  assert [each for each in told if not each.isprintable()] == ["\n", "\n"]


class TestApps:
  def test_bad_input_is_an_object(self, capsys):
    def main():
      raise InputError("--x must be 1;\n  change it")

    assert support.call("toy", main, "--log_format=json") == 2
    [told] = _objects(capsys.readouterr().err)
    assert told["message"] == "toy: --x must be 1; change it"
    assert (told["level"], told["exit_code"]) == ("error", 2)

  def test_a_defect_is_an_object_with_its_traceback(self, capsys):
    def main():
      raise ValueError("a defect")

    assert support.call("toy", main, "--log_format=json") == 1
    [told] = _objects(capsys.readouterr().err)
    assert told["message"] == "toy: ValueError: a defect"
    assert "Traceback" in told["traceback"]
    assert told["exit_code"] == 1

  @pytest.mark.parametrize(
    ("given", "level"),
    [("debug", 10), ("info", 20), ("warning", 30), ("error", 40), ("0", 20)],
  )
  def test_verbosity_has_names(self, given, level):
    seen = []
    assert (
      support.call("toy", lambda: seen.append(logs.settings()), f"--verbosity={given}")
      == 0
    )
    assert seen == [logs.Settings(False, level)]

  def test_progress_is_shown_by_default(self):
    seen = []
    assert support.call("toy", lambda: seen.append(logs.settings())) == 0
    assert seen == [logs.Settings(False, logging.INFO)]

  @pytest.mark.parametrize(
    "argument", ["--verbosity=loud", "--verbosity=7", "--log_format=xml"]
  )
  def test_others_are_refused(self, argument, capsys):
    assert support.call("toy", lambda: None, argument) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert argument.split("=")[0] in error

  def test_help_explains_both(self, capsys):
    assert support.call("toy", lambda: None, "--help") == 0
    text = capsys.readouterr().out
    assert "--log_format" in text
    assert "debug, info, warning or error" in " ".join(text.split())
    assert "(default 'info')" in text
