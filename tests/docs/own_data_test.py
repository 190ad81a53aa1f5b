"""The examples of docs/own_data.md work as they stand there."""

import importlib
import json
import re
import shlex
import shutil
import subprocess

import pytest
from absl import flags

from fedtiny_tff.data import partitioners
from fedtiny_tff.data.sources import registry
from pipelines import data, make_dataset, run
from pipelines.settings import data_config
from tests.pipelines import support

_PAGE = (support.ROOT / "docs" / "own_data.md").read_text()
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_START, *_REST = re.split(r"^## ", _PAGE, flags=re.MULTILINE)
_SECTIONS = dict(section.split("\n", 1) for section in _REST)
# Of each run: folder, target, clients, shape of a raw example.
_RUNS = {
  "A folder of images by user": ("photos", "android", 6, [None, None, 3]),
  "Accelerometer windows in CSV by subject": ("motion", "mcu", 5, [64, 1, 3]),
  "Audio in WAV files by speaker": ("sounds", "android", 5, [8000]),
}
_AUDIO = "Audio in WAV files by speaker"
_RECORDS = "TFRecord by client"
_OTHERS = {"Bad records", "Many clients", _RECORDS}


def _blocks(title):
  """Returns what a section says to do, as (language, text)."""
  return _BLOCK.findall(_SECTIONS[title])


def _run_python(text):
  # Functions of a script find its names among their globals.
  exec(compile(text, "own_data.md", "exec"), {"__name__": "__main__"})


def _execute(line):
  """Runs a command and returns its exit code."""
  words = shlex.split(line)
  if words[:2] != ["python", "-m"]:
    return subprocess.run(line, shell=True, check=False).returncode
  module = importlib.import_module(words[2])
  return support.call(words[2].removeprefix("pipelines."), module.main, *words[3:])


def _commands(title):
  """Runs all commands of a section and returns their exit codes."""
  return [
    _execute(line)
    for language, text in _blocks(title)
    if language == "sh"
    for line in text.replace("\\\n", "").splitlines()
  ]


@pytest.fixture(name="place", scope="module")
def fixture_place(tmp_path_factory):
  """A current directory with the flags, and the data that the page makes."""
  place = tmp_path_factory.mktemp("own_data")
  [(_, text)] = _BLOCK.findall(_START)
  (place / "short.flags").write_text(text)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(place)
    for title in _RUNS:
      language, text = _blocks(title)[0]
      assert language == "python"
      _run_python(text)
    yield place


@pytest.mark.parametrize(
  "title",
  [
    # Files of four precisions are made and judged for phones.
    title if _RUNS[title][1] == "mcu" else pytest.param(title, marks=pytest.mark.slow)
    for title in _RUNS
  ],
)
def test_an_example(place, capsys, title):
  name, target, clients, raw_shape = _RUNS[title]
  assert _commands(title) == [0, 0]
  assert "No warnings." in capsys.readouterr().out
  folder = place / "runs" / name
  report = json.loads((folder / "report.json").read_text())
  assert report["dataset"]["clients"] == clients
  assert report["dataset"]["partitioner"] == "natural"
  assert report["client_accuracy"]["judged_on"] == "test"
  assert {row["target"] for row in report["artifacts"]} == {target}
  # Guessing is right one time in two (photos) or three.
  found = [value for value in report["accuracy"].values() if value is not None]
  assert len(found) == 1 + len(report["artifacts"])
  assert min(found) > 0.7
  # The test split has examples of every class.
  assert None not in report["artifacts"][0]["class_accuracy"]
  declared = json.loads((folder / f"export/{target}/preprocessing.json").read_text())
  assert declared["raw"]["shape"] == raw_shape
  # Whatever the page says is there, is.
  named = re.findall(r"`(\w+\.(?:csv|json|tflite|txt|h))`", _SECTIONS[title])
  there = {path.name for path in folder.rglob("*")}
  assert len(named) > 1
  assert set(named) <= there
  for language, text in _blocks(title)[2:]:
    assert language == "python"
    _run_python(text)
    assert capsys.readouterr().out == "whistle\n"


def test_records_are_written_and_read(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  _run_python(_blocks(_RECORDS)[0][1])
  assert _commands(_RECORDS) == [0]
  said = capsys.readouterr().out
  assert "No warnings." in said
  # Four of the twenty are the test split, two held out.
  assert "│ c4     │  14 │" in said


def test_bad_records(place, tmp_path, monkeypatch, capsys):
  shutil.copytree(place / "photos", tmp_path / "photos")
  shutil.copy(place / "short.flags", tmp_path)
  monkeypatch.chdir(tmp_path)
  assert _commands("Bad records") == [0, 2]
  assert capsys.readouterr().err == _blocks("Bad records")[1][1]
  assert not (tmp_path / "runs").exists()
  arguments = ["--dataset=image_folder", "--data_dir=photos", "--num_clients=0"]
  found = {}
  for how in ("skip", "fail"):
    more = ["--image_size=16x16", f"--on_bad_record={how}", "--format=json"]
    found[how] = support.call("data", data.main, *arguments, *more)
  assert found == {"skip": 0, "fail": 2}
  assert json.loads(capsys.readouterr().out)["rejected"]["count"] == 1


def test_data_are_prepared(place, capsys):
  assert _commands("Many clients") == [0, 0]
  assert "of 5 clients" in capsys.readouterr().out


def test_nothing_on_the_page_is_left_out():
  with_blocks = {title for title in _SECTIONS if _blocks(title)}
  assert with_blocks == {*_RUNS, *_OTHERS}
  languages = {title: [name for name, _ in _blocks(title)] for title in with_blocks}
  assert languages.pop(_AUDIO) == ["python", "sh", "python"]
  assert languages.pop("Bad records") == ["sh", "text"]
  assert languages.pop("Many clients") == ["sh"]
  assert all(found == ["python", "sh"] for found in languages.values())


def test_the_page_knows_our_names():
  sources = set(re.findall(r"`([\w:]+)`", _SECTIONS["Sources"]))
  assert {*registry.SOURCES, "tfds:NAME"} <= sources
  rows = re.findall(r"^\| `(\w+)` ", _SECTIONS["Partitioners"], re.MULTILINE)
  assert set(rows) == set(partitioners.PARTITIONERS)
  assert f"--dataset={data_config.PREPARED}" in _SECTIONS["Many clients"]
  # These define the flags.
  assert all((run.main, data.main, make_dataset.main))
  known = {"flagfile", *flags.FLAGS, *(f"no{name}" for name in flags.FLAGS)}
  assert set(re.findall(r"--(\w+)", _PAGE)) - known == set()
