"""CSV and Parquet: examples by hand, and where their splits come from."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import table_files, tables
from fedtiny_tff.data.sources.options import SourceOptions
from tests.fedtiny_tff.data.sources.made_tables import (
  PLAIN,
  made_csv,
  made_parquet,
  refused,
)
from tests.fedtiny_tff.data.sources.whole_splits import read


def test_csv_by_hand(tmp_path):
  text = "client,x,label,comment,y\nann, 1 ,walk,fine,-2.5\nbob,+3e1,sit,,.5\n"
  dataset = made_csv(tmp_path / "a.csv", text)
  assert dataset.info.shape == (2,)
  assert dataset.info.feature_type == "float32"
  assert dataset.info.class_names == ("sit", "walk")
  assert dataset.info.preprocessing.scale == 1.0
  assert dataset.has_clients
  assert dataset.measures_inputs
  for _ in range(2):
    assert read(dataset) == ([[1, -2.5], [30, 0.5]], [1, 0], ["ann", "bob"], [])
  (batch,) = dataset.read("train", examples.fail_on_bad_record)
  assert batch.features.dtype == np.float32
  assert batch.labels.dtype == np.int64
  assert read(dataset, "test") == ([], [], [], [])


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
  dataset = made_parquet(tmp_path / "a.parquet", columns)
  assert dataset.info.class_names == ("a", "b")
  assert read(dataset) == ([[1, 0.5, 1], [2, 0.25, 0]], [1, 0], ["7", "10"], [])


def test_a_byte_order_mark_and_windows_line_ends(tmp_path):
  text = b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode()
  assert read(made_csv(tmp_path / "a.csv", text))[0] == [[1, 2], [3, 4]]


def test_a_shape_of_features(tmp_path):
  dataset = made_csv(
    tmp_path / "a.csv", "label,a,b,c,d\nu,1,2,3,4\nv,5,6,7,8\n", feature_shape=(2, 2, 1)
  )
  assert dataset.info.shape == (2, 2, 1)
  assert read(dataset)[0][0] == [[[1], [2]], [[3], [4]]]


def test_a_column_of_splits(tmp_path):
  text = "split,x,label\ntest,1,a\ntrain,2,b\ntrain,3,a\ntest,4,c\nval,5,a\n"
  dataset = made_csv(tmp_path / "a.csv", text)
  assert dataset.info.class_names == ("a", "b")
  row = f"{tmp_path}/a.csv, record row"
  assert read(dataset) == (
    [[2], [3]],
    [1, 0],
    [],
    [f"{row} 6 (the header is row 1), field split: is 'val', expected train or test"],
  )
  assert read(dataset, "test") == (
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
  (tmp_path / "train.csv").write_text(PLAIN)
  dataset = tables.open_csv(SourceOptions(data_dir=str(tmp_path)))
  assert read(dataset)[:2] == ([[1, 2], [3, 4]], [1, 0])
  # Columns are found by name.
  features, labels, _, bad = read(dataset, "test")
  assert (features, labels) == ([[7, 8]], [0])
  assert bad == [
    f"{tmp_path}/test.csv, record row 3 (the header is row 1), field label: 'left' "
    "does not occur in the training split"
  ]


def test_test_examples_may_be_nobodys(tmp_path):
  (tmp_path / "train.csv").write_text("client,x,label\na,1,u\nb,2,v\n")
  (tmp_path / "test.csv").write_text("x,label\n3,u\n")
  dataset = tables.open_csv(SourceOptions(data_dir=str(tmp_path)))
  assert read(dataset, "test")[2] == [""]


def test_a_share_is_held_out_of_each_client(tmp_path):
  rows = [f"{client},{x},{'uv'[x % 2]}" for client in "ab" for x in range(10)]
  (tmp_path / "a.csv").write_text("\n".join(["client,x,label", *rows]) + "\n")
  dataset = tables.open_csv(SourceOptions(data_dir=str(tmp_path / "a.csv")))
  train, test = read(dataset), read(dataset, "test")
  assert sorted(test[2]) == ["a", "a", "b", "b"]
  for client in "ab":
    mine = [
      x[0]
      for f in (train, test)
      for x, c in zip(f[0], f[2], strict=True)
      if c == client
    ]
    assert sorted(mine) == list(range(10))


def test_small_blocks_change_nothing(tmp_path, monkeypatch):
  rows = [f"{'ab'[x // 30]},{x},{x * 0.5},{'uvw'[x // 10 % 3]}" for x in range(60)]
  rows[17] = "a,bad,1,v"
  text = "\n".join(["client,x,y,label", *rows])
  options = {"window_rows": 4, "window_stride_rows": 3}
  once = read(made_csv(tmp_path / "a.csv", text, **options))
  monkeypatch.setattr(table_files, "_CSV_BLOCK_BYTES", 64)
  dataset = made_csv(tmp_path / "a.csv", text, **options)
  assert len(list(dataset.read("train", lambda bad: None))) > 3
  assert read(dataset) == once
  assert len(once[3]) == 1


def test_quoted_cells_may_have_several_lines(tmp_path, monkeypatch):
  monkeypatch.setattr(table_files, "_CSV_BLOCK_BYTES", 64)
  rows = [f'"one,\ntwo\n{x}",{x},{"uv"[x % 2]}' for x in range(20)]
  dataset = made_csv(tmp_path / "a.csv", "\n".join(["note,x,label", *rows]) + "\n")
  assert [x for (x,) in read(dataset)[0]] == list(range(20))


def test_a_column_of_splits_beside_a_test_file_is_refused(tmp_path):
  with_split = "split,label,x,y\ntrain,up,1,2\ntrain,down,3,4\n"
  for first, second in ((with_split, PLAIN), (PLAIN, with_split)):
    (tmp_path / "train.csv").write_text(first)
    (tmp_path / "test.csv").write_text(second)
    refused(
      "has a column split, but there is a file .*test.csv too; keep one",
      tables.open_csv,
      SourceOptions(data_dir=str(tmp_path)),
    )
