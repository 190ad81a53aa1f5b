"""The app: what it tells of digits, tables, prepared folders; what it refuses."""

import json

import numpy as np
import pytest

from fedtiny_tff.data.examples import TEST, TRAIN
from pipelines import data
from pipelines.apps import app
from pipelines.datasets import data_stage
from tests.pipelines import support

DIGITS = ("--dataset=digits", "--num_clients=4", "--dirichlet_alpha=1")
TABLE = ("--dataset=csv", "--num_clients=0", "--public_samples_per_class=1")
PICTURES = [
  "client_sizes.png", "examples.png", "label_by_client_bars.png",
  "label_by_client_heatmap.png",
]  # fmt: skip


def _run(capsys, *arguments):
  """Returns what the app prints when all goes well."""
  assert support.call("data", data.main, *arguments) == 0
  printed = capsys.readouterr()
  assert printed.err == ""
  return printed.out


def _document(capsys, *arguments):
  return json.loads(_run(capsys, *arguments, "--format=json"))


def _refused(capsys, *arguments):
  """Returns the one line that the app ends with."""
  assert support.call("data", data.main, *arguments) == 2
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.count("\n") == 1
  return printed.err


def _write_table(path, bad_rows=()):
  """Writes three owners with 20 rows each; two classes, one with a strange name."""
  generator = np.random.default_rng(0)
  lines = ["client,label,x,y"]
  for row in range(60):
    x, y = generator.normal(size=2).round(4)
    label = "[b] $up$" if row % 2 and row < 40 else "down"
    lines.append(f"{'abc'[row // 20]},{label},{x},{'oops' if row in bad_rows else y}")
  path.write_text("\n".join(lines) + "\n")
  return f"--data_dir={path}"


def test_digits_are_shared_out_as_in_a_run(capsys):
  found = _document(capsys, *DIGITS, "--public_samples_per_class=3", "--seed=5")
  plan = support.plan_data(support.make_config())
  clients = found["clients"]
  assert clients["partitioner"] == "dirichlet"
  sizes = [each["training_examples"] for each in clients["label_by_client"]]
  assert sizes == plan.training_sizes.tolist()
  assert found["public"]["examples_by_class"] == [3] * 10
  assert found["splits"][TRAIN]["examples"] == 1438
  assert found["splits"][TEST]["examples"] == 359
  features = found["splits"][TRAIN]["features"]
  assert (features["minimum"], features["maximum"]) == (0.0, 16.0)
  assert found["rejected"] == {"count": 0, "by_split": {TRAIN: 0, TEST: 0}, "first": []}
  assert found["nobodys_training_examples"] == 0
  assert found["plots"] == found["warnings"] == []


def test_anomalies_may_be_named_without_a_model(capsys):
  found = _document(capsys, *DIGITS, "--anomaly_classes=3,7")
  assert found["dataset"]["anomaly_classes"] == ["3", "7"]
  counts = np.array(
    [each["examples_by_class"] for each in found["clients"]["label_by_client"]]
  )
  assert np.flatnonzero(counts.sum(axis=0) == 0).tolist() == [3, 7]
  assert found["class_weights"][3] == 0.0


class TestText:
  def test_all_tables_are_there(self, capsys):
    printed = _run(capsys, *DIGITS)
    for title in ("Dataset digits", "Splits", "Classes", "Clients", "No warnings."):
      assert title in printed
    assert "cannot be used\n" not in printed

  def test_names_stand_as_they_are(self, capsys, tmp_path):
    printed = _run(capsys, *TABLE, _write_table(tmp_path / "t.csv"))
    assert "[b] $up$" in printed
    assert "warning: 1 client holds a single class" in printed

  @pytest.mark.parametrize(("columns", "is_wide"), [("64", False), ("100", True)])
  def test_classes_are_columns_where_they_fit(
    self, capsys, monkeypatch, columns, is_wide
  ):
    monkeypatch.setenv("COLUMNS", columns)
    printed = _run(capsys, *DIGITS)
    assert max(map(len, printed.splitlines())) <= int(columns)
    assert ("┃ classes" not in printed) == is_wide

  def test_many_classes_and_clients_are_cut_short(self, capsys, monkeypatch):
    from pipelines.datasets import data_tables

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(data_tables, "_LISTED_CLASSES", 2)
    monkeypatch.setattr(data_tables, "_SHOWN_CLASSES", 5)
    monkeypatch.setattr(data_tables, "_SHOWN_CLIENTS", 3)
    monkeypatch.setattr(data_tables, "_MISSING_ROWS", 0)
    printed = _run(capsys, *DIGITS)
    assert "The first 5 of 10 classes" in printed
    # Titles are as wide as their tables, and broken where these are narrow.
    assert "the first 3 of 4 clients" in " ".join(printed.split())
    assert "and 8 more" in printed
    assert "most classes a client lacks" in printed


class TestBadRecords:
  def test_they_are_left_out_and_named(self, capsys, tmp_path):
    path = tmp_path / "t.csv"
    where = _write_table(path, bad_rows=(4, 30))
    found = _document(capsys, *TABLE, where)
    assert found["rejected"]["count"] == 2
    first = found["rejected"]["first"][0]
    assert first["file"] == str(path)
    assert "'oops'" in first["reason"]
    assert {record["field"] for record in found["rejected"]["first"]} == {"y"}
    examples = sum(found["splits"][split]["examples"] for split in (TRAIN, TEST))
    assert examples == 58
    text = _run(capsys, *TABLE, where)
    assert "2 records that cannot be used" in text
    assert "warning: 2 records cannot be used; a run needs" in text

  def test_they_end_it_as_they_would_end_a_run(self, capsys, tmp_path):
    where = _write_table(tmp_path / "t.csv", bad_rows=(4, 30))
    said = _refused(capsys, *TABLE, where, "--on_bad_record=fail")
    assert said.startswith(f"data: {tmp_path}/t.csv, record ")
    assert "field y: 'oops'" in said

  def test_the_first_is_named_where_nothing_is_left(self, capsys, tmp_path):
    where = _write_table(tmp_path / "t.csv", bad_rows=range(60))
    said = _refused(capsys, *TABLE, where, "--feature_columns=y")
    assert "no training example can be used" in said
    assert "the first: " in said


class TestPrepared:
  @pytest.fixture(name="folder")
  def fixture_folder(self, tmp_path):
    _write_table(tmp_path / "t.csv", bad_rows=(4, 30))
    config = support.make_config(
      dataset="csv", data_dir=str(tmp_path / "t.csv"), num_clients=0,
      clients_per_round=0, public_samples_per_class=1, on_bad_record="skip", seed=0,
    )  # fmt: skip
    data_stage.write_data(support.plan_data(config), tmp_path / "prepared")
    return tmp_path / "prepared"

  def test_figures_are_those_of_the_source(self, capsys, folder):
    source = _document(capsys, *TABLE, f"--data_dir={folder.parent}/t.csv")
    found = _document(
      capsys, "--dataset=prepared", f"--data_dir={folder}", "--num_clients=0"
    )
    assert found["unavailable"]
    assert found["rejected"]["by_split"] is None
    assert found["rejected"]["count"] == 2
    assert "'oops'" in found["rejected"]["first"][0]["reason"]
    # Sums in another order differ in the last digits.
    for split in (TRAIN, TEST):
      ours, theirs = (each["splits"][split].pop("features") for each in (found, source))
      assert ours["mean"] == pytest.approx(theirs["mean"])
      assert ours["minimum"] == theirs["minimum"]
    for name in ("rejected", "notes", "unavailable", "warnings"):
      found.pop(name)
      source.pop(name)
    assert found == source

  def test_the_first_clients_are_taken(self, capsys, folder):
    arguments = ("--dataset=prepared", f"--data_dir={folder}")
    found = _document(capsys, *arguments, "--num_clients=2")
    shown = found["clients"]["label_by_client"]
    assert [each["client"] for each in shown] == ["a", "b"]
    assert found["nobodys_training_examples"] > 0
    assert "0 takes all" in _refused(capsys, *arguments, "--num_clients=4")
    printed = _run(capsys, *arguments, "--num_clients=2")
    assert "Not available: prepared data hold" in printed

  def test_another_assignment_is_refused(self, capsys, folder):
    said = _refused(
      capsys, "--dataset=prepared", f"--data_dir={folder}", "--num_clients=0",
      "--dirichlet_alpha=3",
    )  # fmt: skip
    assert "--dirichlet_alpha=3" in said

  def test_what_does_not_say_how_it_was_made_is_refused(self, capsys, folder):
    path = folder / "dataset.json"
    document = json.loads(path.read_text())
    document["made"] = {"partitioner": "natural", "bad_records": {"count": 3}}
    path.write_text(json.dumps(document))
    said = _refused(
      capsys, "--dataset=prepared", f"--data_dir={folder}", "--num_clients=0"
    )
    assert "dataset.json: does not say what was left out" in said


class TestPictures:
  def test_same_command_same_bytes(self, capsys, tmp_path):
    where = _write_table(tmp_path / "t.csv")
    for name in ("one", ":smile:[b]"):
      printed = _run(capsys, *TABLE, where, f"--plots_dir={tmp_path}/{name}")
      # The names are no markup.
      assert f"Picture: {tmp_path}/{name}/examples.png" in printed
    one, other = (support.snapshot(tmp_path / name) for name in ("one", ":smile:[b]"))
    assert list(one) == PICTURES
    assert one == other

  def test_the_seed_chooses_the_examples(self, capsys, tmp_path):
    where = _write_table(tmp_path / "t.csv")
    for seed in (0, 1):
      _run(capsys, *TABLE, where, f"--plots_dir={tmp_path}/{seed}", f"--seed={seed}")
    one, other = (support.snapshot(tmp_path / str(seed)) for seed in (0, 1))
    assert one["examples.png"] != other["examples.png"]

  def test_places_that_are_no_folders_are_refused(self, capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    said = _refused(capsys, *DIGITS, f"--plots_dir={tmp_path}/file")
    assert "is not a folder" in said
    assert (tmp_path / "file").read_text() == "mine"

  def test_nothing_is_made_of_data_that_are_refused(self, capsys, tmp_path):
    _refused(capsys, "--num_clients=100000", f"--plots_dir={tmp_path}/plots")
    assert not (tmp_path / "plots").exists()


def test_help_names_the_data_flags():
  text = app.help_text(data._SUMMARY, data._GROUPS)
  for flag in ("--dataset ", "--num_clients", "--plots_dir", "--format", "--seed"):
    assert flag in text
  assert "--rounds" not in text
