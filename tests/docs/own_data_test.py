"""The examples of docs/own_data.md work as they stand there."""

import importlib
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess

import pytest
from absl import flags

from fedtiny_tff.data import partitioners
from fedtiny_tff.data.sources import registry
from pipelines import data, data_config, make_dataset, run
from tests.pipelines import support

_PAGE = (support.ROOT / "docs" / "own_data.md").read_text()
_FILE = re.compile(r"`(own/[\w.]+)`:\n\n```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SECTIONS = dict(
  section.split("\n", 1) for section in re.split(r"^## ", _PAGE, flags=re.MULTILINE)[1:]
)
_RUNS = {
  "Photos by user": ("photos", "android", 3, [None, None, 3]),
  "Accelerometer by subject": ("motion", "mcu", 4, [128, 1, 3]),
  "Sounds by speaker": ("sounds", "android", 3, [8000]),
}


def _lines(block):
  return [line for line in block.splitlines() if line]


def _makes_data(line):
  return line.startswith("python own/")


@pytest.fixture(name="place", scope="module")
def fixture_place(tmp_path_factory):
  """A current directory with the page's files and the data that they make."""
  place = tmp_path_factory.mktemp("own_data")
  (place / "own").mkdir()
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(place)
    for name, text in _FILE.findall(_PAGE):
      (place / name).write_text(text)
    for language, block in _BLOCK.findall(_PAGE):
      for line in _lines(block) if language == "sh" else []:
        if _makes_data(line):
          runpy.run_path(line.removeprefix("python "), run_name="__main__")
    yield place


def _execute(line):
  """Runs a command of the page and returns its exit code."""
  words = shlex.split(line)
  if words[:2] != ["python", "-m"]:
    return subprocess.run(line, shell=True, check=False).returncode
  name = words[2].removeprefix("pipelines.")
  module = importlib.import_module(words[2])
  return support.call(name, module.main, *words[3:])


def _follow(title, capsys):
  """Does what a section says, holds its outputs against ours, returns exit codes."""
  codes, printed = [], ""
  section = _FILE.sub("", _SECTIONS[title])
  for language, block in _BLOCK.findall(section):
    if language == "sh":
      codes += [_execute(line) for line in _lines(block) if not _makes_data(line)]
      captured = capsys.readouterr()
      printed = captured.out + captured.err
    elif language == "python":
      exec(compile(block, title, "exec"), {})
      printed = capsys.readouterr().out
    else:
      assert language == "text"
      assert [line.rstrip() for line in _lines(block)] == [
        line.rstrip() for line in printed.splitlines() if line.rstrip() in block
      ]
  return codes, printed


@pytest.mark.parametrize("title", _RUNS)
def test_an_example(place, capsys, title):
  name, target, clients, raw_shape = _RUNS[title]
  codes, printed = _follow(title, capsys)
  assert codes == [0, 0]
  folder = place / "runs" / name
  report = json.loads((folder / "report.json").read_text())
  assert (report["dataset"]["clients"], report["dataset"]["partitioner"]) == (
    clients, "natural",
  )  # fmt: skip
  assert report["client_accuracy"]["judged_on"] == "test"
  assert report["dataset"]["bad_records"]["count"] == 0
  assert {row["target"] for row in report["artifacts"]} == {target}
  # Of three classes; guessing would be right about one in three.
  found = [value for value in report["accuracy"].values() if value is not None]
  assert len(found) == 1 + len(report["artifacts"])
  assert min(found) > 0.6
  # Each class is in the test split.
  assert None not in report["artifacts"][0]["class_accuracy"]
  declared = folder / "export" / target / "preprocessing.json"
  assert json.loads(declared.read_text())["raw"]["shape"] == raw_shape
  named = re.findall(r"`(runs/[\w./]+)`", _SECTIONS[title])
  assert named
  assert [path for path in named if not (place / path).exists()] == []
  assert (folder / "data" / "partition.json").exists()
  if name == "sounds":
    assert printed == "hiss\n"


def test_what_is_refused_and_what_skip_does(place, tmp_path, monkeypatch, capsys):
  shutil.copytree(place / "own", tmp_path / "own")
  monkeypatch.chdir(tmp_path)
  codes, _ = _follow("What is refused", capsys)
  assert codes == [0, 2]
  assert os.listdir(tmp_path) == ["own"]
  arguments = ["--flagfile=own/photos.flags", "--format=json"]
  assert support.call("data", data.main, *arguments) == 0
  assert json.loads(capsys.readouterr().out)["rejected"]["count"] == 1


def test_other_forms(place, capsys):
  codes, printed = _follow("Sources", capsys)
  assert codes == [0, 0, 0]
  assert "No warnings." in printed


def test_every_command_is_run():
  with_commands = {title for title, text in _SECTIONS.items() if "```sh" in text}
  assert with_commands == {*_RUNS, "What is refused", "Sources"}
  assert "```" not in _PAGE.split("\n## ")[0].replace("```\n--", "").replace("\n```", "")


def test_the_page_names_all_sources_and_partitioners_and_no_other_flags():
  words = set(re.findall(r"`([\w:]+)`", _PAGE))
  assert {*registry.SOURCES, data_config.PREPARED, "tfds:NAME"} <= words
  partitioner_rows = re.findall(r"^\| `(\w+)`.*Partitioner", _PAGE, re.MULTILINE)
  assert set(partitioner_rows) == set(partitioners.PARTITIONERS)
  # Their modules define the flags.
  assert run.main and data.main and make_dataset.main
  said = set(re.findall(r"--(\w+)", _PAGE)) - {"nodense_baseline"}
  assert said <= {*flags.FLAGS, "flagfile"}
