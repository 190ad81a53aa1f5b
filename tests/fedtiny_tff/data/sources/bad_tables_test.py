"""Every kind of bad table, in one line each, and rows that cannot be used."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import tables
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support
from tests.fedtiny_tff.data.sources.made_tables import made_csv, made_parquet, refused
from tests.fedtiny_tff.data.sources.whole_splits import read


def test_bad_cells(tmp_path):
  lines = [
    "client,label,x,y",
    "a,u,1,2",
    "a,v,nan,2",
    ",u,1,2",
    "a,,1,2",
    "a,u,1,inf",
    "",
    "a,u,1,1e39",
    "a,u,five,six",
    "a,v,,3",
    "a,v,1_0,3",
    "a,v,7,8",
  ]
  dataset = made_csv(tmp_path / "a.csv", "\n".join(lines))
  features, labels, _, bad = read(dataset)
  assert (features, labels) == ([[1, 2], [7, 8]], [0, 1])
  prefix = f"{tmp_path}/a.csv, record "
  found = [b.removeprefix(prefix).replace(" (the header is row 1)", "") for b in bad]
  assert found == [
    "row 3, field x: 'nan' is no finite float32 number",
    "row 4, field client: is empty",
    "row 5, field label: is empty",
    "row 6, field y: 'inf' is no finite float32 number",
    # The blank line has no number.
    "row 7, field y: '1e39' is no finite float32 number",
    "row 8, field x: 'five' is no finite float32 number",
    "row 9, field x: is empty",
    "row 10, field x: '1_0' is no finite float32 number",
  ]
  with pytest.raises(
    InputError, match=r"row 3 .*, field x: 'nan' is no finite .*; mend"
  ):
    list(dataset.read("train", examples.fail_on_bad_record))


def test_bad_cells_of_parquet(tmp_path):
  columns = {
    "x": pa.array([1.0, None, float("nan"), 1e300, 5.0]),
    "label": ["a", "b", "a", "b", None],
  }
  _, labels, _, bad = read(made_parquet(tmp_path / "a.parquet", columns))
  assert labels == [0]
  assert [record.removeprefix(f"{tmp_path}/a.parquet, record ") for record in bad] == [
    "row 2, field x: is empty",
    "row 3, field x: nan is no finite float32 number",
    "row 4, field x: 1e+300 is no finite float32 number",
    "row 5, field label: is empty",
  ]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "a.csv: cannot be read: Empty CSV file$"),
    ("label,x\n", "a.csv: has no rows; add some$"),
    (
      "x,y\n1,2\n",
      r"has no column 'label' \(--label_column\); its columns are 'x', 'y'",
    ),
    ("label;x\nu;1\n", "cells are separated by semicolons"),
    ("label,x\nu,1\nv\n", r"row 3 \(the header is row 1\) has 1 cells, expected 2$"),
    ("label,x\nu,1\n\nv,1,2\n", r"row 3 \(the header is row 1\) has 3 cells, expect"),
    (b"label,x\nu\xff,1\nv,2\n", "a.csv: is not UTF-8 text; save it as UTF-8$"),
    (b"label,x\xff\nu,1\nv,2\n", "a.csv: is not UTF-8 text; save it as UTF-8$"),
    ("label,x\nu,1\n".encode("utf-16"), "a.csv: "),
    ("label,x,x\nu,1,2\n", "column 'x' occurs more than once"),
    ("label,x\nu,1\nu,2\n", "column 'label' holds 'u' only in the training split"),
    (
      "label,x\n,1\n,2\n",
      "holds nothing usable .*; left out: .* field label: is empty",
    ),
    ("label,x\nu,a\nv,b\n", "no column of numbers is left for features; name them"),
    (",label,x\n0,u,1\n1,v,2\n", r"a column of numbers has no name \(''\): delete it"),
    (
      "Unnamed: 0,label,x\n0,u,1\n1,v,2\n",
      r"a column of numbers has no name \('Unnamed: 0'\): delete it",
    ),
    (
      "split,label,x\ntrain,u,1\ntrain,v,2\n",
      "a.csv: has no example to test on; add rows$",
    ),
    ("split,label,x\ntest,u,1\ntest,v,2\n", "holds nothing usable in the training"),
    ("client,label,x\n" + "a,u,1\na,v,2\n" * 2 + '"a,u,1\n', "a.csv: "),
    ("la\nbel,x\n", "a.csv: "),
  ],
)
def test_csv_that_cannot_be_used(tmp_path, text, message):
  refused(message, made_csv, tmp_path / "a.csv", text)


@pytest.mark.parametrize(
  ("columns", "message"),
  [
    (
      {"label": [0.5, 1.5], "x": [1, 2]},
      "column 'label' is of type double, expected text",
    ),
    ({"label": ["a", "b"], "x": [[1], [2]]}, "no column of numbers is left"),
    ({"label": pa.array([], pa.string()), "x": pa.array([], pa.int8())}, "has no rows"),
  ],
)
def test_parquet_that_cannot_be_used(tmp_path, columns, message):
  refused(message, made_parquet, tmp_path / "a.parquet", columns)


def test_a_parquet_that_is_none_or_damaged(tmp_path):
  path = tmp_path / "a.parquet"
  table = pa.table({"label": ["a", "b"] * 500, "x": np.arange(1000.0)})
  pyarrow.parquet.write_table(table, path)
  whole = path.read_bytes()
  options = SourceOptions(data_dir=str(path))
  for content in (b"", b"PAR1", b"x,label\n1,a\n", whole[:-50], whole[:40]):
    path.write_bytes(content)
    refused("a.parquet: cannot be read: ", tables.open_parquet, options)
  path.write_bytes(whole[:4] + bytes(200) + whole[204:])
  refused("a.parquet: cannot be read: ", tables.open_parquet, options)


def test_missing_files(tmp_path):
  refused(
    "dataset csv needs --data_dir: a .csv file, or a folder",
    tables.open_csv,
    SourceOptions(),
  )
  (tmp_path / "test.parquet").write_bytes(b"")
  refused(
    "dataset parquet: .*/train.parquet not found; check --data_dir",
    tables.open_parquet,
    SourceOptions(data_dir=str(tmp_path)),
  )
  refused(
    "dataset csv: .*/no.csv not found",
    tables.open_csv,
    SourceOptions(data_dir=str(tmp_path / "no.csv")),
  )


_CELLS = st.one_of(
  st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
  st.text(st.characters(exclude_characters=',"\r\n', codec="utf-8"), max_size=8),
)


@support.quick
@given(st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=12))
def test_every_row_is_an_example_or_a_bad_record(tmp_path_factory, rows):
  path = tmp_path_factory.mktemp("tables") / "a.csv"
  lines = ["label,x,y,z", "u,1,2,0", "v,1,2,0", *(f"u,{x},{y},1" for x, y in rows)]
  options = {"feature_columns": ("x", "y", "z")}
  dataset = made_csv(path, "\n".join(lines) + "\n", **options)
  features, _, _, bad = read(dataset)
  assert len(features) + len(bad) == len(rows) + 2
  good = [(x, y) for x, y in rows if _is_number(x) and _is_number(y)]
  expected = [[np.float32(x), np.float32(y), 1] for x, y in good]
  np.testing.assert_array_equal(
    np.array(features[2:]).reshape(-1, 3), np.array(expected).reshape(-1, 3)
  )
  assert all(len(record.splitlines()) == 1 for record in bad)


def _is_number(cell):
  text = cell.strip()
  return bool(text) and text.isascii() and "_" not in text and _finite(text)


def _finite(text):
  try:
    with np.errstate(over="ignore"):
      return bool(np.isfinite(np.float32(text)))
  except ValueError:
    return False


def test_text_that_is_no_utf_8_is_one_line(tmp_path):
  names = pa.array([b"u", b"\xff", b"v"], pa.binary()).view(pa.string())
  refused(
    "a.parquet: cannot be read: In column 0: Invalid: Invalid UTF8", made_parquet, tmp_path / "a.parquet",
    {"label": names, "x": [1.0, 2.0, 3.0]},
  )  # fmt: skip


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"label;x\nu;1,5\nv;2,5\n", "a.csv: cells are separated by semicolons; write"),
    (b"label\tx\nu\t1\nv\t2\n", "a.csv: cells are separated by tabs; write it with"),
    ("label,x\nu,1\nv,2\n".encode("utf-16"), "a.csv: is not UTF-8 text; save it as"),
    ("label,x\nu,1\nv,2\n".encode("utf-16-le"), "a.csv: is not UTF-8 text; save it"),
  ],
)
def test_what_spreadsheets_write_instead_is_named(tmp_path, content, message):
  (tmp_path / "a.csv").write_bytes(content)
  with pytest.raises(InputError, match=message):
    tables.open_csv(SourceOptions(data_dir=str(tmp_path / "a.csv")))
