"""`fedtiny`: every command module is a sub-command, with the same help and exit codes."""

import json
import re
import subprocess
import sys

import pytest

from fedtiny_tff.version import VERSION
from pipelines.apps import commands
from pipelines.settings import run_flags
from tests.pipelines import support

_HEAVY = {"tensorflow", "tensorflow_federated", "keras", "jax", "sklearn"}


def call(*arguments, module="pipelines"):
  """Runs a command; returns exit code, output and errors."""
  ended = subprocess.run(
    [sys.executable, "-m", module, *arguments],
    cwd=support.ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  return ended.returncode, ended.stdout, ended.stderr


def _modules():
  """Returns the modules that can be run, found another way than the product does."""
  return {
    path.stem
    for path in (support.ROOT / "pipelines").glob("*.py")
    if "app.run_app(" in path.read_text() and path.stem not in ("app", "commands")
  }


def test_help_lists_every_command_with_a_line():
  code, printed, complained = call("--help")
  assert (code, complained) == (0, "")
  listed = dict(re.findall(r"^  ([a-z_]+) {2,}(\S.*)$", printed, re.MULTILINE))
  assert set(listed) == _modules()
  assert {"run", "train", "export", "evaluate", "cost", "completion"} <= set(listed)
  assert all(summary.endswith(".") for summary in listed.values())


def test_no_command_is_bad_input_and_shows_the_help():
  code, printed, complained = call()
  assert (code, printed) == (2, "")
  assert "Commands:" in complained


def test_version():
  assert call("--version") == (0, f"fedtiny {VERSION}\n", "")


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ("rnu", "unknown command 'rnu'; did you mean run?"),
    ("zzzz", "unknown command 'zzzz'; see"),
    ("--verson", "unknown flag --verson; see"),
  ],
)
def test_an_unknown_command_is_one_line(given, said):
  code, printed, complained = call(given)
  assert (code, printed, complained.count("\n")) == (2, "", 1)
  assert complained.startswith("fedtiny: ")
  assert said in complained


def test_help_of_a_command_names_it_as_it_was_called():
  for arguments in (("run", "--help"), ("help", "run")):
    code, printed, _ = call(*arguments)
    assert code == 0
    assert "fedtiny run --flagfile=" in printed
    assert "python -m" not in printed
  assert call("--help", module="pipelines.run")[1] != printed


def test_dashes_in_a_command_are_underscores():
  assert call("make-dataset", "--help") == call("make_dataset", "--help")


def test_a_mistyped_flag_and_value_get_the_nearest_one():
  assert call("run", "--densty=0.1") == (
    2,
    "",
    "fedtiny run: --densty: unknown flag (did you mean --target_density?); see --help\n",
  )
  code, _, complained = call("doctor", "--format=jsn")
  assert (code, complained.count("\n")) == (2, 1)
  assert "did you mean json?" in complained


def test_exit_codes_and_messages_are_those_of_the_module():
  missing = ("/no/such/file.tflite",)
  code, _, complained = call("inspect", *missing)
  assert code == 2
  assert complained == "fedtiny " + call(*missing, module="pipelines.inspect")[2]


@pytest.mark.parametrize(
  ("text", "named"),
  [
    ("python -m pipelines.run --x", "fedtiny run --x"),
    ("see pipelines.export", "see fedtiny export"),
    ("pipelines/presets/digits.flags", "pipelines/presets/digits.flags"),
    ("pipelines.export:make", "pipelines.export:make"),
    ("python -m pipelines.apps.app", "python -m pipelines.apps.app"),
  ],
)
def test_texts_name_commands_as_they_were_called(text, named):
  assert commands.as_called(text, "fedtiny run") == named
  assert commands.as_called(text, "run") == text


_DESCRIBES = """
import json, sys
from pipelines.shell_completion import command_descriptions
described = command_descriptions.describe_all()
heavy = [name for name in sys.modules if name.split(".")[0] in {heavy}]
assert not heavy, heavy
print(json.dumps({{
  name: [each.summary, [flag.name for flag in each.flags], each.unlisted]
  for name, each in described.items()
}}))
"""


def test_help_leaves_no_flag_of_a_command_out():
  ended = subprocess.run(
    [sys.executable, "-c", _DESCRIBES.format(heavy=_HEAVY)],
    cwd=support.ROOT, capture_output=True, text=True, check=True,
  )  # fmt: skip
  described = json.loads(ended.stdout)
  assert set(described) == _modules()
  for name, (summary, shown, unlisted) in described.items():
    assert {"log_format", "verbosity"} <= set(shown), name
    assert f"python -m pipelines.{name}" in summary or f"fedtiny {name}" in summary
    left_out = set(unlisted)
    if "Other flags" in " ".join(summary.split()):
      # These accept the flagfile of a run, most of which does not concern them.
      left_out = set(unlisted) - set(run_flags.names())
    assert not left_out, (name, left_out)
