"""The command: pages of one run and of several, and what it refuses."""

import json
import os

import pytest

from benchmarks.made_runs import Shape, make
from pipelines import report
from pipelines.apps import app
from pipelines.report_page import comparison, run_record
from pipelines.report_page.content import Chart, Grid
from pipelines.runs.run_directory import RunDirectory
from tests.pipelines import support
from tests.pipelines.apps import damage_test
from tests.pipelines.handmade_reports import artifact

_SMALL = Shape(rounds=8, layers=2, clients=3, classes=3, candidates=2, every=2)


def _call(*arguments):
  with support.fresh_flags():
    command = ["pipelines/report.py", *map(str, arguments)]
    return app.run_app(report.main, "", {}, command, arguments=["RUN …"])


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  return make(tmp_path / "one" / "run", _SMALL)


def test_a_run_gets_its_page(folder, capsys):
  before = support.snapshot(folder)
  assert _call(folder) == 0
  printed = capsys.readouterr()
  assert printed.out == f"{folder}/report.html\n"
  text = (folder / "report.html").read_text()
  assert text.startswith("<!DOCTYPE html>")
  assert "<title>fedtiny on made</title>" in text
  after = support.snapshot(folder)
  assert {name for name in after if name not in before} == {"report.html"}
  assert all(after[name] == content for name, content in before.items())
  assert _call(folder) == 0
  assert support.snapshot(folder) == after


def test_several_runs_stand_beside_each_other(folder, tmp_path, monkeypatch):
  other = make(
    tmp_path / "two" / "run", Shape(rounds=4, layers=2, clients=3, classes=3)
  )
  monkeypatch.chdir(tmp_path)
  assert _call(folder, other) == 0
  text = (tmp_path / "comparison.html").read_text()
  assert "<title>2 runs on made</title>" in text
  # What tells them apart, and no more of where they are.
  assert "one/run, two/run" in text
  assert str(tmp_path) not in text
  assert not (folder / "report.html").exists()


def test_the_page_goes_where_it_is_asked_for(folder, tmp_path):
  assert _call(folder, f"--output_file={tmp_path}/page.html") == 0
  assert (tmp_path / "page.html").is_file()
  assert not (folder / "report.html").exists()


def test_other_data_and_other_flags_are_told(folder, tmp_path):
  other = make(tmp_path / "other", _SMALL)
  report_json = json.loads((other / "report.json").read_text())
  report_json["run"]["seed"] = 7
  report_json["dataset"]["name"] = "else"
  (other / "report.json").write_text(json.dumps(report_json))
  runs = [(str(path), run_record.read(RunDirectory(path))) for path in (folder, other)]
  page = comparison.page(runs)
  assert "different data" in page.notices[0]
  flags = next(section for section in page.sections if section.key == "flags")
  (grid,) = flags.blocks
  assert isinstance(grid, Grid)
  assert grid.table.rows == (("seed", "0", "7"),)
  versions = next(section for section in page.sections if section.key == "versions")
  assert versions.absent


@pytest.mark.parametrize("without", [1, 2])
def test_runs_without_metrics_stand_beside_each_other(folder, tmp_path, without):
  folders = [folder, make(tmp_path / "other", _SMALL)]
  for each in folders[:without]:
    (each / "metrics.csv").unlink()
  assert _call(*folders, f"--output_file={tmp_path}/page.html") == 0
  runs = [(str(path), run_record.read(RunDirectory(path))) for path in folders]
  titles = [
    block.title
    for block in comparison.page(runs).sections[0].blocks
    if isinstance(block, Chart)
  ]
  assert titles == [
    "Accuracy or AUC of the sparse model", "On the wire, a client",
  ][: 3 - without]  # fmt: skip


def test_the_same_run_twice_and_many_runs(folder, tmp_path):
  assert _call(*[folder] * 9, f"--output_file={tmp_path}/page.html") == 0
  assert "run (9)" in (tmp_path / "page.html").read_text()


def _damaged(folder, name, value):
  path = folder / "report.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("accuracy", 3),
    ("layers", [{"name": 1}]),
    ("events", {"a": 1}),
    ("cost", {}),
    ("artifacts", [1]),
  ],
)
def test_a_report_of_another_form(folder, capsys, name, value):
  _damaged(folder, name, value)
  assert _call(folder) == 2
  printed = capsys.readouterr().err
  assert printed.startswith(f"report: {folder}/report.json: is not what a run writes")
  assert printed.count("\n") == 1
  assert not (folder / "report.html").exists()


def test_a_report_that_only_a_comparison_cannot_show(folder, tmp_path, capsys):
  other = make(tmp_path / "other", _SMALL)
  (other / "clients.csv").unlink()
  _damaged(other, "client_accuracy", {"x": 1})
  assert _call(other) == 0
  output = tmp_path / "page.html"
  assert _call(folder, other, f"--output_file={output}") == 2
  printed = capsys.readouterr().err
  assert printed.startswith(f"report: {other}/report.json: is not what a run writes")
  assert printed.count("\n") == 1
  assert not output.exists()


@pytest.mark.parametrize("kind", ["flipped", "encrypted", "no array", "no header"])
def test_damaged_masks(folder, capsys, kind):
  (folder / "model" / "masks.npz").write_bytes(damage_test.ARCHIVES[kind])
  assert _call(folder) == 2
  printed = capsys.readouterr().err
  assert "masks.npz: cannot be read" in printed
  assert printed.count("\n") == 1


def test_links_to_themselves(folder, tmp_path, capsys):
  link = folder / "export" / "loop.tflite"
  link.parent.mkdir(exist_ok=True)
  link.symlink_to(link.name)
  _damaged(folder, "artifacts", [artifact("export/loop.tflite")])
  output = tmp_path / "page.html"
  output.symlink_to(output.name)
  assert _call(folder, f"--output_file={output}") == 0
  assert capsys.readouterr().out == f"{output}\n"
  assert "is not there any more" in output.read_text()


def test_what_is_no_run(tmp_path, capsys):
  assert _call() == 2
  assert "RUN … is missing" in capsys.readouterr().err
  assert _call(tmp_path / "none") == 2
  assert "none: is no run directory" in capsys.readouterr().err
  assert _call(tmp_path) == 2
  assert "report.json: cannot be read" in capsys.readouterr().err


def test_a_page_nowhere(folder, tmp_path, capsys):
  assert _call(folder, f"--output_file={tmp_path}") == 2
  assert "is a folder" in capsys.readouterr().err
  assert _call(folder, f"--output_file={tmp_path}/a/b.html") == 2
  assert "its folder does not exist" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(folder, capsys):
  folder.chmod(0o555)
  assert _call(folder) == 2
  assert "Permission denied" in capsys.readouterr().err
