"""CSV and Parquet: examples by hand, splits, windows, and every kind of bad table."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import table_files, tables
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_PLAIN = "label,x,y\nup,1,2\ndown,3,4\n"


def _csv(path, text, **options):
  path.write_bytes(text.encode() if isinstance(text, str) else text)
  return tables.open_csv(SourceOptions(data_dir=str(path), test_share=0.0, **options))


def _parquet(path, columns, **options):
  pyarrow.parquet.write_table(pa.table(columns), path)
  return tables.open_parquet(
    SourceOptions(data_dir=str(path), test_share=0.0, **options)
  )


def _read(dataset, split="train"):
  """Returns features, labels, clients and what was bad."""
  bad: list[examples.BadRecord] = []
  batches = list(dataset.read(split, bad.append))
  features = [example.tolist() for batch in batches for example in batch.features]
  labels = [int(label) for batch in batches for label in batch.labels]
  clients = [str(c) for b in batches if b.clients is not None for c in b.clients]
  return features, labels, clients, [str(record) for record in bad]


def _refused(message, open_table, *arguments, **options):
  with pytest.raises(InputError, match=message) as caught:
    list(open_table(*arguments, **options).read("train", lambda bad: None))
  assert len(str(caught.value).splitlines()) == 1


def test_csv_by_hand(tmp_path):
  text = "client,x,label,comment,y\nann, 1 ,walk,fine,-2.5\nbob,+3e1,sit,,.5\n"
  dataset = _csv(tmp_path / "a.csv", text)
  assert dataset.info.shape == (2,)
  assert dataset.info.feature_type == "float32"
  assert dataset.info.class_names == ("sit", "walk")
  assert dataset.info.preprocessing.scale == 1.0
  assert dataset.has_clients
  assert dataset.measures_inputs
  for _ in range(2):
    assert _read(dataset) == ([[1, -2.5], [30, 0.5]], [1, 0], ["ann", "bob"], [])
  (batch,) = dataset.read("train", examples.fail_on_bad_record)
  assert batch.features.dtype == np.float32
  assert batch.labels.dtype == np.int64
  assert _read(dataset, "test") == ([], [], [], [])


def test_parquet_by_hand(tmp_path):
  columns = {
    "x": pa.array([1, 2], pa.int64()),
    "label": pa.array(["b", "a"]).dictionary_encode(),
    "y": pa.array([0.5, 0.25], pa.float32()),
    "flag": pa.array([True, False]),
    "when": pa.array([0, 1], pa.timestamp("s")),
    "name": pa.array(["1", "2"]),
    "client": pa.array([7, 10]),
  }
  dataset = _parquet(tmp_path / "a.parquet", columns)
  assert dataset.info.class_names == ("a", "b")
  assert _read(dataset) == ([[1, 0.5, 1], [2, 0.25, 0]], [1, 0], ["7", "10"], [])


def test_integer_labels_are_sorted_as_numbers(tmp_path):
  dataset = _csv(tmp_path / "a.csv", "label,x\n10,0\n9,1\n-1,2\n09,3\n")
  assert dataset.info.class_names == ("-1", "9", "10")
  assert _read(dataset)[1] == [2, 1, 0, 1]
  dataset = _csv(tmp_path / "b.csv", "label,x\n10,0\n9,1\na,2\n09,3\n")
  assert dataset.info.class_names == ("09", "10", "9", "a")
  assert _read(dataset)[1] == [1, 2, 3, 0]


def test_columns_can_be_named(tmp_path):
  text = "kind,who,a,b,c\nu,me,1,2,3\nv,me,4,5,6\n"
  dataset = _csv(
    tmp_path / "a.csv",
    text,
    label_column="kind",
    client_column="who",
    feature_columns=("c", "a"),
  )
  assert _read(dataset) == ([[3, 1], [6, 4]], [0, 1], ["me", "me"], [])


def test_features_are_columns_of_mostly_numbers(tmp_path):
  text = "label,x,note\nu,,5\nv,1,none\nu,2,\n"
  features, _, _, bad = _read(_csv(tmp_path / "a.csv", text))
  assert features == [[1], [2]]
  assert bad == [
    f"{tmp_path}/a.csv, record row 2 (the header is row 1), field x: is empty"
  ]


def test_a_byte_order_mark_and_windows_line_ends(tmp_path):
  text = b"\xef\xbb\xbf" + _PLAIN.replace("\n", "\r\n").encode()
  assert _read(_csv(tmp_path / "a.csv", text))[0] == [[1, 2], [3, 4]]


def test_a_shape_of_features(tmp_path):
  dataset = _csv(
    tmp_path / "a.csv", "label,a,b,c,d\nu,1,2,3,4\nv,5,6,7,8\n", feature_shape=(2, 2, 1)
  )
  assert dataset.info.shape == (2, 2, 1)
  assert _read(dataset)[0][0] == [[[1], [2]], [[3], [4]]]


def test_a_column_of_splits(tmp_path):
  text = "split,x,label\ntest,1,a\ntrain,2,b\ntrain,3,a\ntest,4,c\nval,5,a\n"
  dataset = _csv(tmp_path / "a.csv", text)
  assert dataset.info.class_names == ("a", "b")
  row = f"{tmp_path}/a.csv, record row"
  assert _read(dataset) == (
    [[2], [3]],
    [1, 0],
    [],
    [f"{row} 6 (the header is row 1), field split: is 'val', expected train or test"],
  )
  assert _read(dataset, "test") == (
    [[1]],
    [0],
    [],
    [
      f"{row} 5 (the header is row 1), field label: 'c' does not occur in the training "
      "split"
    ],
  )


def test_two_files(tmp_path):
  (tmp_path / "test.csv").write_text("y,x,label\n8,7,down\n9,9,left\n")
  (tmp_path / "train.csv").write_text(_PLAIN)
  dataset = tables.open_csv(SourceOptions(data_dir=str(tmp_path)))
  assert _read(dataset)[:2] == ([[1, 2], [3, 4]], [1, 0])
  # Columns are found by name.
  features, labels, _, bad = _read(dataset, "test")
  assert (features, labels) == ([[7, 8]], [0])
  assert bad == [
    f"{tmp_path}/test.csv, record row 3 (the header is row 1), field label: 'left' "
    "does not occur in the training split"
  ]


def test_test_examples_may_be_nobodys(tmp_path):
  (tmp_path / "train.csv").write_text("client,x,label\na,1,u\nb,2,v\n")
  (tmp_path / "test.csv").write_text("x,label\n3,u\n")
  dataset = tables.open_csv(SourceOptions(data_dir=str(tmp_path)))
  assert _read(dataset, "test")[2] == [""]


def test_a_share_is_held_out_of_each_client(tmp_path):
  rows = [f"{client},{x},{'uv'[x % 2]}" for client in "ab" for x in range(10)]
  (tmp_path / "a.csv").write_text("\n".join(["client,x,label", *rows]) + "\n")
  dataset = tables.open_csv(SourceOptions(data_dir=str(tmp_path / "a.csv")))
  train, test = _read(dataset), _read(dataset, "test")
  assert sorted(test[2]) == ["a", "a", "b", "b"]
  for client in "ab":
    mine = [
      x[0]
      for f in (train, test)
      for x, c in zip(f[0], f[2], strict=True)
      if c == client
    ]
    assert sorted(mine) == list(range(10))


def test_windows(tmp_path):
  rows = [f"{x},{10 * x},{'u' if x < 5 else 'v'}" for x in range(8)]
  text = "\n".join(["x,y,label", *rows]) + "\n"
  dataset = _csv(tmp_path / "a.csv", text, window_rows=2)
  assert dataset.info.shape == (2, 2)
  # Of rows 0-4 the last is left out, of rows 5-7 as well.
  features, labels, _, _ = _read(dataset)
  assert features == [[[0, 0], [1, 10]], [[2, 20], [3, 30]], [[5, 50], [6, 60]]]
  assert labels == [0, 0, 1]
  dataset = _csv(
    tmp_path / "a.csv",
    text,
    window_rows=3,
    window_stride_rows=1,
    feature_shape=(3, 1, 2),
  )
  assert dataset.info.shape == (3, 1, 2)
  assert [window[0][0][0] for window in _read(dataset)[0]] == [0, 1, 2, 5]


def test_overlapping_windows_never_share_rows_between_splits(tmp_path):
  rows = [f"{c},{x},{'u' if x % 50 < 25 else 'v'}" for c in "ab" for x in range(100)]
  (tmp_path / "a.csv").write_text("\n".join(["client,x,label", *rows]) + "\n")
  dataset = tables.open_csv(
    SourceOptions(data_dir=str(tmp_path / "a.csv"), window_rows=5, window_stride_rows=2)
  )
  seen = []
  for split in ("train", "test"):
    features, _, clients, _ = _read(dataset, split)
    assert features
    windows = zip(features, clients, strict=True)
    seen.append({(c, row[0]) for window, c in windows for row in window})
  assert not seen[0] & seen[1]


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
  dataset = _csv(tmp_path / "a.csv", "\n".join(lines))
  features, labels, _, bad = _read(dataset)
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
  _, labels, _, bad = _read(_parquet(tmp_path / "a.parquet", columns))
  assert labels == [0]
  assert [record.removeprefix(f"{tmp_path}/a.parquet, record ") for record in bad] == [
    "row 2, field x: is empty",
    "row 3, field x: nan is no finite float32 number",
    "row 4, field x: 1e+300 is no finite float32 number",
    "row 5, field label: is empty",
  ]


def test_windows_that_touch_a_bad_row_are_left_out(tmp_path):
  values = ["0", "1", "x", "3", "4", "5", "6"]
  text = "x,label\n" + "".join(f"{v},u\n" for v in values) + "8,v\n9,v\n"
  dataset = _csv(tmp_path / "a.csv", text, window_rows=2, window_stride_rows=1)
  features, _, _, bad = _read(dataset)
  assert [window[0][0] for window in features] == [0, 3, 4, 5, 8]
  assert len(bad) == 1
  assert "row 4 (the header is row 1), field x: 'x' is no finite" in bad[0]
  # Rows 2-3, in the file's order, are in no window with a stride of 4.
  dataset = _csv(tmp_path / "a.csv", text, window_rows=2, window_stride_rows=4)
  assert _read(dataset)[3] == []


def test_small_blocks_change_nothing(tmp_path, monkeypatch):
  rows = [f"{'ab'[x // 30]},{x},{x * 0.5},{'uvw'[x // 10 % 3]}" for x in range(60)]
  rows[17] = "a,bad,1,v"
  text = "\n".join(["client,x,y,label", *rows])
  options = {"window_rows": 4, "window_stride_rows": 3}
  once = _read(_csv(tmp_path / "a.csv", text, **options))
  monkeypatch.setattr(table_files, "_CSV_BLOCK_BYTES", 64)
  dataset = _csv(tmp_path / "a.csv", text, **options)
  assert len(list(dataset.read("train", lambda bad: None))) > 3
  assert _read(dataset) == once
  assert len(once[3]) == 1


def test_quoted_cells_may_have_several_lines(tmp_path, monkeypatch):
  monkeypatch.setattr(table_files, "_CSV_BLOCK_BYTES", 64)
  rows = [f'"one,\ntwo\n{x}",{x},{"uv"[x % 2]}' for x in range(20)]
  dataset = _csv(tmp_path / "a.csv", "\n".join(["note,x,label", *rows]) + "\n")
  assert [x for (x,) in _read(dataset)[0]] == list(range(20))


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
    ("split,label,x\ntrain,u,1\ntrain,v,2\n", "a.csv: has no example to test on; add rows$"),
    ("split,label,x\ntest,u,1\ntest,v,2\n", "holds nothing usable in the training"),
    ("client,label,x\n" + "a,u,1\na,v,2\n" * 2 + '"a,u,1\n', "a.csv: "),
    ("la\nbel,x\n", "a.csv: "),
  ],
)
def test_csv_that_cannot_be_used(tmp_path, text, message):
  _refused(message, _csv, tmp_path / "a.csv", text)


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
  _refused(message, _csv, tmp_path / "a.csv", _PLAIN, **options)


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
  _refused(message, _parquet, tmp_path / "a.parquet", columns)


def test_a_feature_of_another_type_is_refused(tmp_path):
  columns = {"label": ["a", "b"], "x": [[1], [2]]}
  message = "column 'x' is of type list<.*>, expected numbers"
  _refused(message, _parquet, tmp_path / "a", columns, feature_columns=("x",))


def test_a_parquet_that_is_none_or_damaged(tmp_path):
  path = tmp_path / "a.parquet"
  table = pa.table({"label": ["a", "b"] * 500, "x": np.arange(1000.0)})
  pyarrow.parquet.write_table(table, path)
  whole = path.read_bytes()
  options = SourceOptions(data_dir=str(path))
  for content in (b"", b"PAR1", b"x,label\n1,a\n", whole[:-50], whole[:40]):
    path.write_bytes(content)
    _refused("a.parquet: cannot be read: ", tables.open_parquet, options)
  path.write_bytes(whole[:4] + bytes(200) + whole[204:])
  _refused("a.parquet: cannot be read: ", tables.open_parquet, options)


def test_missing_files(tmp_path):
  _refused(
    "dataset csv needs --data_dir: a .csv file, or a folder",
    tables.open_csv,
    SourceOptions(),
  )
  (tmp_path / "test.parquet").write_bytes(b"")
  _refused(
    "dataset parquet: .*/train.parquet not found; check --data_dir",
    tables.open_parquet,
    SourceOptions(data_dir=str(tmp_path)),
  )
  _refused(
    "dataset csv: .*/no.csv not found",
    tables.open_csv,
    SourceOptions(data_dir=str(tmp_path / "no.csv")),
  )


def test_a_column_of_splits_beside_a_test_file_is_refused(tmp_path):
  with_split = "split,label,x,y\ntrain,up,1,2\ntrain,down,3,4\n"
  for first, second in ((with_split, _PLAIN), (_PLAIN, with_split)):
    (tmp_path / "train.csv").write_text(first)
    (tmp_path / "test.csv").write_text(second)
    _refused(
      "has a column split, but there is a file .*test.csv too; keep one",
      tables.open_csv,
      SourceOptions(data_dir=str(tmp_path)),
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
  dataset = _csv(path, "\n".join(lines) + "\n", **options)
  features, _, _, bad = _read(dataset)
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


def test_windows_say_how_many_overlap(tmp_path):
  text = "label,x\n" + "u,1\n" * 9 + "v,2\n" * 9
  for rows, stride, overlap in ((4, 1, 3), (4, 2, 1), (4, 3, 1), (4, 4, 0), (4, 0, 0)):
    dataset = _csv(
      tmp_path / "a.csv", text, window_rows=rows, window_stride_rows=stride
    )
    assert dataset.overlap == overlap
  assert _csv(tmp_path / "a.csv", text).overlap == 0


def test_a_stride_without_windows_is_refused(tmp_path):
  _refused(
    "--window_stride_rows=3: there are no windows without --window_rows",
    _csv, tmp_path / "a.csv", "label,x\nu,1\nv,2\n", window_stride_rows=3,
  )  # fmt: skip


def test_the_columns_are_told(tmp_path):
  text = "client,label,x,remark,y\nann,u,1,fine,2\nbo,v,2,poor,3\n"
  (note,) = _csv(tmp_path / "a.csv", text).notes
  assert note == (
    f"columns of {tmp_path}/a.csv: labels: 'label'; owners: 'client'; features: 'x', 'y'; "
    "not used: 'remark'"
  )
  (note,) = _csv(tmp_path / "a.csv", text, label_column="remark").notes
  assert "owners: 'client'; features: 'x', 'y'; not used: 'label'" in note


def test_text_that_is_no_utf_8_is_one_line(tmp_path):
  names = pa.array([b"u", b"\xff", b"v"], pa.binary()).view(pa.string())
  _refused(
    "a.parquet: cannot be read: In column 0: Invalid: Invalid UTF8", _parquet, tmp_path / "a.parquet",
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


def test_numbers_are_classes_in_their_order(tmp_path):
  text = "label,x\n" + "10.0,1\n9.0,2\n-0.5,3\n" * 2
  assert _csv(tmp_path / "a.csv", text).info.class_names == ("-0.5", "9.0", "10.0")
  # One that is no number makes all of them text.
  text += "none,4\nnone,5\n"
  names = _csv(tmp_path / "a.csv", text).info.class_names
  assert names == ("-0.5", "10.0", "9.0", "none")


def test_one_number_in_two_spellings_is_refused(tmp_path):
  _refused(
    r"a.csv: column 'label': labels '1.1' and '1.10' are the same number; write",
    _csv, tmp_path / "a.csv", "label,x\n1.1,1\n1.10,2\n2.0,3\n",
  )  # fmt: skip


def test_empty_cells_do_not_make_a_column_text(tmp_path):
  text = "label,x,y,z\n" + "u,1,,a\n" * 6 + "v,2,3.5,1\n" * 3
  dataset = _csv(tmp_path / "a.csv", text)
  (note,) = dataset.notes
  assert "features: 'x', 'y'; not used: 'z'" in note
  _, _, _, bad = _read(dataset)
  assert len(bad) == 6
  assert all("field y: is empty" in each for each in bad)


def test_booleans_are_labels_and_lists_are_no_features(tmp_path):
  truth = pa.array([True, False] * 4)
  dataset = _parquet(tmp_path / "a.parquet", {"label": truth, "x": [1.0, 2.0] * 4})
  assert dataset.info.class_names == ("false", "true")
  lists = pa.array([[1.0, 2.0]] * 8)
  _refused(
    r"no column of numbers .*lists want a column for each value",
    _parquet, tmp_path / "b.parquet", {"label": truth, "x": lists},
  )  # fmt: skip
  _refused(
    "column 'label' is of type double, expected text, integers or booleans; write it as",
    _parquet, tmp_path / "c.parquet", {"label": [0.5, 1.5] * 4, "x": truth},
  )  # fmt: skip


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
  _refused(
    "is to hold two of labels, owners and splits; name others with --label_column",
    _csv, tmp_path / "a.csv", text, **options,
  )  # fmt: skip


def test_spaces_around_names_are_pointed_at(tmp_path):
  _refused(
    "no column 'label' .*' x'; spaces around names count, so remove them",
    _csv, tmp_path / "a.csv", "client, label, x\nann, u, 1\n",
  )  # fmt: skip


def test_accents_are_one_character(tmp_path):
  text = "client,label,x\n" + "caf\u00e9,u,1\ncafe\u0301,v,2\n" * 2
  dataset = _csv(tmp_path / "a.csv", text)
  assert set(_read(dataset)[2]) == {"caf\u00e9"}


def test_thousands_of_columns_are_opened_at_once(tmp_path):
  names = ["label", *(f"c{i}" for i in range(20_000))]
  rows = [",".join([label, *["1"] * 20_000]) for label in "uv"]
  (tmp_path / "a.csv").write_text("\n".join([",".join(names), *rows]) + "\n")
  opened = table_files.open_csv(tmp_path / "a.csv")
  assert len(opened.types) == 20_001
