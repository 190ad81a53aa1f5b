"""What a sensor gives in which order: from the table to the run's data and provenance."""

import json

import pytest

from fedtiny_tff.errors import InputError
from pipelines.datasets import data_folder, data_stage
from pipelines.runs import provenance
from tests.pipelines import support

_OPTIONS = {"dataset": "csv", "window_rows": 4, "dirichlet_alpha": 100.0}


@pytest.fixture(name="table")
def fixture_table(tmp_path):
  """Accelerations of four owners, 32 windows of 4 rows each, of two classes in turn."""
  lines = ["client,label,ay,note,ax"]
  for row in range(4 * 4 * 32):
    label = ("still", "walk")[row // 4 % 2]
    lines.append(f"{row // 128},{label},{row},x,{row * 0.5}")
  path = tmp_path / "train.csv"
  path.write_text("\n".join(lines) + "\n")
  return path


def _written(made, folder):
  return data_stage.write_data(support.plan_data(made), folder)


@pytest.mark.parametrize(
  ("options", "columns"),
  [({}, ("ay", "ax")), ({"feature_columns": ["ax", "ay"]}, ("ax", "ay"))],
)
def test_columns_come_with_the_data(table, tmp_path, options, columns):
  folder = tmp_path / "data"
  made = support.make_config(data_dir=str(table), **_OPTIONS, **options)
  assert _written(made, folder).info.columns == columns
  reopened = data_folder.open_folder(folder)
  assert reopened.info.columns == columns
  told = provenance.provenance(made, reopened.info, reopened.summary(), "")
  assert told.columns == columns


def test_a_folder_of_tables(table, tmp_path):
  made = support.make_config(data_dir=str(table.parent), **_OPTIONS)
  assert _written(made, tmp_path / "data").info.columns == ("ay", "ax")


def test_others_have_none(tmp_path):
  folder = tmp_path / "data"
  assert _written(support.make_config(), folder).info.columns == ()
  assert "columns" not in json.loads((folder / "dataset.json").read_text())["info"]


@pytest.mark.parametrize("columns", ["ax", [1, 2], None, ["ax", "\ud800"]])
def test_columns_that_are_no_names_are_refused(table, tmp_path, columns):
  folder = tmp_path / "data"
  _written(support.make_config(data_dir=str(table), **_OPTIONS), folder)
  document = json.loads((folder / "dataset.json").read_text())
  document["info"]["columns"] = columns
  (folder / "dataset.json").write_text(json.dumps(document))
  with pytest.raises(InputError, match=r"cannot be read .* delete .* and run again"):
    data_folder.open_folder(folder)
