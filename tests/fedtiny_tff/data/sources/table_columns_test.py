"""What a column is taken for: labels, owners, splits or features."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from fedtiny_tff.data.sources import table_files
from tests.fedtiny_tff.data.sources.made_tables import (
  PLAIN,
  made_csv,
  made_parquet,
  refused,
)
from tests.fedtiny_tff.data.sources.whole_splits import read


def test_integer_labels_are_sorted_as_numbers(tmp_path):
  dataset = made_csv(tmp_path / "a.csv", "label,x\n10,0\n9,1\n-1,2\n09,3\n")
  assert dataset.info.class_names == ("-1", "9", "10")
  assert read(dataset)[1] == [2, 1, 0, 1]
  dataset = made_csv(tmp_path / "b.csv", "label,x\n10,0\n9,1\na,2\n09,3\n")
  assert dataset.info.class_names == ("09", "10", "9", "a")
  assert read(dataset)[1] == [1, 2, 3, 0]


def test_columns_can_be_named(tmp_path):
  text = "kind,who,a,b,c\nu,me,1,2,3\nv,me,4,5,6\n"
  dataset = made_csv(
    tmp_path / "a.csv",
    text,
    label_column="kind",
    client_column="who",
    feature_columns=("c", "a"),
  )
  assert read(dataset) == ([[3, 1], [6, 4]], [0, 1], ["me", "me"], [])


def test_features_are_columns_of_mostly_numbers(tmp_path):
  text = "label,x,note\nu,,5\nv,1,none\nu,2,\n"
  features, _, _, bad = read(made_csv(tmp_path / "a.csv", text))
  assert features == [[1], [2]]
  assert bad == [
    f"{tmp_path}/a.csv, record row 2 (the header is row 1), field x: is empty"
  ]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"client_column": "who"}, r"has no column 'who' \(--client_column\)"),
    ({"feature_columns": ("x", "z")}, r"has no column 'z' \(--feature_columns\)"),
    ({"feature_columns": ("label",)}, "--feature_columns: 'label' holds labels, clie"),
    (
      {"feature_shape": (3,)},
      r"--feature_shape=3 holds 3 numbers, but an .* 2 columns \(.*\): 2; choose columns",
    ),
    (
      {"feature_shape": (3,), "window_rows": 1},
      r"holds 3 numbers, but an example is 1 rows of 2 columns \(x, y\): 2",
    ),
    ({"window_rows": 2}, "no example to train on: no 2 rows on end are of one client"),
    ({"window_rows": -1}, "--window_rows must be 0 or more, got -1"),
    ({"window_stride_rows": -1}, "--window_stride_rows must be 0 or more, got -1"),
  ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
  refused(message, made_csv, tmp_path / "a.csv", PLAIN, **options)


def test_a_feature_of_another_type_is_refused(tmp_path):
  columns = {"label": ["a", "b"], "x": [[1], [2]]}
  message = "column 'x' is of type list<.*>, expected numbers"
  refused(message, made_parquet, tmp_path / "a", columns, feature_columns=("x",))


def test_the_columns_are_told(tmp_path):
  text = "client,label,x,remark,y\nann,u,1,fine,2\nbo,v,2,poor,3\n"
  (note,) = made_csv(tmp_path / "a.csv", text).notes
  assert note == (
    f"columns of {tmp_path}/a.csv: labels: 'label'; owners: 'client'; features: 'x', 'y'; "
    "not used: 'remark'"
  )
  (note,) = made_csv(tmp_path / "a.csv", text, label_column="remark").notes
  assert "owners: 'client'; features: 'x', 'y'; not used: 'label'" in note


def test_numbers_are_classes_in_their_order(tmp_path):
  text = "label,x\n" + "10.0,1\n9.0,2\n-0.5,3\n" * 2
  assert made_csv(tmp_path / "a.csv", text).info.class_names == ("-0.5", "9.0", "10.0")
  # One that is no number makes all of them text.
  text += "none,4\nnone,5\n"
  names = made_csv(tmp_path / "a.csv", text).info.class_names
  assert names == ("-0.5", "10.0", "9.0", "none")


def test_one_number_in_two_spellings_is_refused(tmp_path):
  refused(
    r"a.csv: column 'label': labels '1.1' and '1.10' are the same number; write",
    made_csv, tmp_path / "a.csv", "label,x\n1.1,1\n1.10,2\n2.0,3\n",
  )  # fmt: skip


def test_empty_cells_do_not_make_a_column_text(tmp_path):
  text = "label,x,y,z\n" + "u,1,,a\n" * 6 + "v,2,3.5,1\n" * 3
  dataset = made_csv(tmp_path / "a.csv", text)
  (note,) = dataset.notes
  assert "features: 'x', 'y'; not used: 'z'" in note
  _, _, _, bad = read(dataset)
  assert len(bad) == 6
  assert all("field y: is empty" in each for each in bad)


def test_booleans_are_labels_and_lists_are_no_features(tmp_path):
  truth = pa.array([True, False] * 4)
  dataset = made_parquet(tmp_path / "a.parquet", {"label": truth, "x": [1.0, 2.0] * 4})
  assert dataset.info.class_names == ("false", "true")
  lists = pa.array([[1.0, 2.0]] * 8)
  refused(
    r"no column of numbers .*lists want a column for each value",
    made_parquet, tmp_path / "b.parquet", {"label": truth, "x": lists},
  )  # fmt: skip
  refused(
    "column 'label' is of type double, expected text, integers or booleans; write it as",
    made_parquet, tmp_path / "c.parquet", {"label": [0.5, 1.5] * 4, "x": truth},
  )  # fmt: skip


def _of_pandas(index_columns):
  """Returns a table as `DataFrame.to_parquet` writes it: the index after the columns."""
  columns = {
    "label": ["u", "v"] * 4, "x": [1.0, 2.0] * 4,
    "t": list(range(8)), "__index_level_0__": list(range(100, 108)),
  }  # fmt: skip
  notes = {b"pandas": json.dumps({"index_columns": index_columns}).encode()}
  return pa.table(columns).replace_schema_metadata(notes)


@pytest.mark.parametrize(
  ("index_columns", "expected"),
  [
    (["__index_level_0__"], ("x", "t")),
    (["t", "__index_level_0__"], ("x",)),
    ([{"kind": "range", "name": None, "start": 0, "stop": 8, "step": 1}], ("x", "t")),
    # What is damaged is no reason to refuse a table that is whole.
    ([[], 5, None], ("x", "t")),
    (5, ("x", "t")),
  ],
)
def test_the_index_of_pandas_is_no_feature(tmp_path, index_columns, expected):
  dataset = made_parquet(tmp_path / "a.parquet", _of_pandas(index_columns))
  assert dataset.info.columns == expected
  assert "'__index_level_0__'" in dataset.notes[0].partition("not used: ")[2]


def test_a_copied_index_of_pandas_is_no_feature(tmp_path):
  text = "label,x,__index_level_0__\nu,1,0\nv,2,1\n"
  assert made_csv(tmp_path / "a.csv", text).info.columns == ("x",)


def test_the_index_of_pandas_can_be_named(tmp_path):
  table = _of_pandas(["t", "__index_level_0__"])
  named = ("t", "__index_level_0__")
  dataset = made_parquet(tmp_path / "a.parquet", table, feature_columns=named)
  assert dataset.info.columns == named
  dataset = made_parquet(tmp_path / "b.parquet", table, client_column="t")
  assert read(dataset)[2] == [str(i) for i in range(8)]


@pytest.mark.parametrize(
  "options",
  [
    {"label_column": "client"},
    {"label_column": "split"},
    {"client_column": "split"},
    {"client_column": "label"},
  ],
)
def test_a_column_has_one_role(tmp_path, options):
  text = "client,label,split,x\nann,u,train,1\nann,v,train,2\n"
  refused(
    "is to hold two of labels, owners and splits; name others with --label_column",
    made_csv, tmp_path / "a.csv", text, **options,
  )  # fmt: skip


def test_spaces_around_names_are_pointed_at(tmp_path):
  refused(
    "no column 'label' .*' x'; spaces around names count, so remove them",
    made_csv, tmp_path / "a.csv", "client, label, x\nann, u, 1\n",
  )  # fmt: skip


def test_accents_are_one_character(tmp_path):
  text = "client,label,x\n" + "caf\u00e9,u,1\ncafe\u0301,v,2\n" * 2
  dataset = made_csv(tmp_path / "a.csv", text)
  assert set(read(dataset)[2]) == {"caf\u00e9"}


def test_thousands_of_columns_are_opened_at_once(tmp_path):
  names = ["label", *(f"c{i}" for i in range(20_000))]
  rows = [",".join([label, *["1"] * 20_000]) for label in "uv"]
  (tmp_path / "a.csv").write_text("\n".join([",".join(names), *rows]) + "\n")
  opened = table_files.open_csv(tmp_path / "a.csv")
  assert len(opened.types) == 20_001
