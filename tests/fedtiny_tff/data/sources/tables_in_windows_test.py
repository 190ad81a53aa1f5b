"""Windows of rows as examples: their shape, their labels, and what they leave out."""

from fedtiny_tff.data.sources import tables
from fedtiny_tff.data.sources.options import SourceOptions
from tests.fedtiny_tff.data.sources.made_tables import made_csv, refused
from tests.fedtiny_tff.data.sources.whole_splits import read


def test_windows(tmp_path):
  rows = [f"{x},{10 * x},{'u' if x < 5 else 'v'}" for x in range(8)]
  text = "\n".join(["x,y,label", *rows]) + "\n"
  dataset = made_csv(tmp_path / "a.csv", text, window_rows=2)
  assert dataset.info.shape == (2, 2)
  # Of rows 0-4 the last is left out, of rows 5-7 as well.
  features, labels, _, _ = read(dataset)
  assert features == [[[0, 0], [1, 10]], [[2, 20], [3, 30]], [[5, 50], [6, 60]]]
  assert labels == [0, 0, 1]
  dataset = made_csv(
    tmp_path / "a.csv",
    text,
    window_rows=3,
    window_stride_rows=1,
    feature_shape=(3, 1, 2),
  )
  assert dataset.info.shape == (3, 1, 2)
  assert [window[0][0][0] for window in read(dataset)[0]] == [0, 1, 2, 5]


def test_overlapping_windows_never_share_rows_between_splits(tmp_path):
  rows = [f"{c},{x},{'u' if x % 50 < 25 else 'v'}" for c in "ab" for x in range(100)]
  (tmp_path / "a.csv").write_text("\n".join(["client,x,label", *rows]) + "\n")
  dataset = tables.open_csv(
    SourceOptions(data_dir=str(tmp_path / "a.csv"), window_rows=5, window_stride_rows=2)
  )
  seen = []
  for split in ("train", "test"):
    features, _, clients, _ = read(dataset, split)
    assert features
    windows = zip(features, clients, strict=True)
    seen.append({(c, row[0]) for window, c in windows for row in window})
  assert not seen[0] & seen[1]


def test_windows_that_touch_a_bad_row_are_left_out(tmp_path):
  values = ["0", "1", "x", "3", "4", "5", "6"]
  text = "x,label\n" + "".join(f"{v},u\n" for v in values) + "8,v\n9,v\n"
  dataset = made_csv(tmp_path / "a.csv", text, window_rows=2, window_stride_rows=1)
  features, _, _, bad = read(dataset)
  assert [window[0][0] for window in features] == [0, 3, 4, 5, 8]
  assert len(bad) == 1
  assert "row 4 (the header is row 1), field x: 'x' is no finite" in bad[0]
  # Rows 2-3, in the file's order, are in no window with a stride of 4.
  dataset = made_csv(tmp_path / "a.csv", text, window_rows=2, window_stride_rows=4)
  assert read(dataset)[3] == []


def test_windows_say_how_many_overlap(tmp_path):
  text = "label,x\n" + "u,1\n" * 9 + "v,2\n" * 9
  for rows, stride, overlap in ((4, 1, 3), (4, 2, 1), (4, 3, 1), (4, 4, 0), (4, 0, 0)):
    dataset = made_csv(
      tmp_path / "a.csv", text, window_rows=rows, window_stride_rows=stride
    )
    assert dataset.overlap == overlap
  assert made_csv(tmp_path / "a.csv", text).overlap == 0


def test_a_stride_without_windows_is_refused(tmp_path):
  refused(
    "--window_stride_rows=3: there are no windows without --window_rows",
    made_csv, tmp_path / "a.csv", "label,x\nu,1\nv,2\n", window_stride_rows=3,
  )  # fmt: skip
