"""Own clients' SQLite files: kinds of content, splits, flaws, and writing them."""

import sqlite3

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data import examples
from fedtiny_tff.data.examples import Batch, Dataset, DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import (
  client_sqlite,
  sqlite_files,
)
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources.made_sqlite import (
  describe,
  open_file,
  serialized,
  write,
)
from tests.fedtiny_tff.data.sources.whole_splits import read


def _floats(path, splits, shape=(2,), extra=(), names=("train",)):
  """Writes a few rows of two floats."""
  rows = [
    (name, client, serialized(n % 2, features=[float(n), 0.5]))
    for name in names
    for n, client in enumerate(["bob", "ann", "bob", "ann", "ann", "ann", "ann", "bob"])
  ]
  write(path, [*rows, *extra])
  describe(path.parent, list(shape), splits)


def test_floats(tmp_path):
  _floats(tmp_path / "x.sqlite", {"train": ["x.sqlite"]}, (2, 1), names=("all",))
  dataset = open_file(tmp_path, test_share=0.0)
  assert dataset.info.shape == (2, 1)
  assert dataset.info.feature_type == "float32"
  assert dataset.info.class_names == ("a", "b")
  assert dataset.info.preprocessing.scale == 1.0
  assert dataset.has_clients
  assert dataset.measures_inputs
  for _ in range(2):
    assert read(dataset) == (
      [[[float(n)], [0.5]] for n in (1, 3, 4, 5, 6, 0, 2, 7)],
      [1, 1, 0, 1, 0, 0, 0, 1],
      ["ann"] * 5 + ["bob"] * 3,
      [],
    )


def test_a_share_of_each_client_is_held_out_where_there_is_no_test_split(tmp_path):
  _floats(tmp_path / "x.sqlite", {"train": ["x.sqlite"]})
  dataset = open_file(tmp_path, test_share=0.4)
  train, test = read(dataset), read(dataset, "test")
  # Two of ann's five, none of bob's three.
  assert test[2] == ["ann", "ann"]
  assert sorted(f[0] for f in train[0] + test[0]) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_splits_in_one_file_or_in_several(tmp_path):
  test_rows = [("test", "cem", serialized(1, features=[9.0, 9.0]))]
  _floats(tmp_path / "x.sqlite", {"train": ["x.sqlite"]}, extra=test_rows)
  for path in (tmp_path, tmp_path / "x.sqlite"):
    dataset = open_file(path)
    assert len(read(dataset)[0]) == 8
    assert read(dataset, "test") == ([[9, 9]], [1], ["cem"], [])
  write(tmp_path / "t.sqlite", [("others", "dan", serialized(0, features=[7.0, 7.0]))])
  describe(tmp_path, [2], {"train": ["x.sqlite"], "test": ["t.sqlite"]})
  assert read(open_file(tmp_path), "test") == ([[7, 7]], [0], ["dan"], [])
  write(tmp_path / "u.sqlite", [("train", "eva", serialized(0, features=[6.0, 6.0]))])
  describe(tmp_path, [2], {"train": ["x.sqlite", "u.sqlite"], "test": ["t.sqlite"]})
  assert read(open_file(tmp_path))[2][-1] == "eva"
  describe(tmp_path, [2], {"train": ["x.sqlite"], "test": ["u.sqlite"]})
  with pytest.raises(InputError, match=r"u.sqlite: has no rows with split_name 'test'"):
    open_file(tmp_path)


def test_pixels_and_encoded_images(tmp_path):
  pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
  encoded = tf.io.encode_png(pixels).numpy()
  for content in (
    {"image": pixels.ravel().tolist()},
    {"image": encoded},
    {"pixels": pixels.ravel().tolist()},
  ):
    path = tmp_path / "x.sqlite"
    path.unlink(missing_ok=True)
    write(path, [("train", "a", serialized(1, **content))])
    describe(tmp_path, [2, 2, 3], {"train": ["x.sqlite"]})
    dataset = open_file(tmp_path)
    assert dataset.info.feature_type == "uint8"
    assert dataset.info.preprocessing.scale == 1 / 255
    assert read(dataset)[:2] == ([pixels.tolist()], [1])
  # The last one holds pixels, not a file.
  with pytest.raises(
    InputError, match=r"--image_size: the examples in .* are no encoded"
  ):
    open_file(tmp_path, image_size=(4, 4))


def test_encoded_images_are_resized(tmp_path):
  encoded = tf.io.encode_png(np.full([5, 3, 1], 60, np.uint8)).numpy()
  write(tmp_path / "x.sqlite", [("train", "a", serialized(0, image=encoded))])
  describe(tmp_path, [2, 2, 1], {"train": ["x.sqlite"]})
  assert "is 5x3 pixels, expected 2x2" in read(open_file(tmp_path))[3][0]
  dataset = open_file(tmp_path, image_size=(1, 2))
  assert dataset.info.shape == (1, 2, 1)
  assert read(dataset)[0] == [[[[60], [60]]]]
  describe(tmp_path, [4], {"train": ["x.sqlite"]})
  with pytest.raises(InputError, match=r"shape of images must be .*, got \[4\]"):
    open_file(tmp_path)


def test_what_dataset_json_says_of_preprocessing_holds(tmp_path):
  _floats(tmp_path / "x.sqlite", {})
  said = {"scale": 0.5, "mean": [1.0], "deviation": [2.0]}
  describe(tmp_path, [2], {"train": ["x.sqlite"]}, preprocessing=said)
  dataset = open_file(tmp_path)
  assert dataset.info.preprocessing == Preprocessing(0.5, (1.0,), (2.0,))
  assert not dataset.measures_inputs


def test_bad_rows(tmp_path):
  good = serialized(1, features=[1.0, 2.0])
  bad = [
    b"\xff",
    serialized(2, features=[1.0, 2.0]),
    serialized(-1, features=[1.0, 2.0]),
    serialized(0, features=[1.0, float("nan")]),
    serialized(0, features=[1.0]),
    serialized(0, features=[1, 2]),
    serialized(0.5, features=[1.0, 2.0]),
    serialized(0, other=1),
    tf.train.Example().SerializeToString(),
    good,
    good,
  ]
  write(tmp_path / "x.sqlite", [("train", "ann", record) for record in [*bad, good]])
  describe(tmp_path, [2], {"train": ["x.sqlite"]})
  dataset = open_file(tmp_path, test_share=0.0)
  features, labels, clients, told = read(dataset)
  assert (features, labels, clients) == ([[1, 2]], [1], ["ann"])
  prefix = f"{tmp_path}/x.sqlite, record 'ann' row "
  assert sorted((record.removeprefix(prefix) for record in told), key=_number) == [
    "1: is no tf.train.Example",
    "2, field label: 2 is not in [0, 2)",
    "3, field label: -1 is not in [0, 2)",
    "4, field features: value 1 is nan, expected a finite number",
    "5, field features: holds 1 values, expected 2",
    "6, field features: holds int64, expected float",
    "7, field label: holds float, expected int64",
    "8, field features: is missing",
    "9, field label: is missing",
    "11, field serialized_example_proto: is the same as row 10 of this client",
    "12, field serialized_example_proto: is the same as row 10 of this client",
  ]
  with pytest.raises(InputError, match=r"'ann' row .*; mend it, or leave such out"):
    list(dataset.read("train", examples.fail_on_bad_record))


def _number(told):
  return int(told.split(",")[0].split(":")[0])


def test_bad_pixels(tmp_path):
  rows = [("train", "a", serialized(0, pixels=[0, last])) for last in (255, 256, -1)]
  write(tmp_path / "x.sqlite", rows)
  describe(tmp_path, [2], {"train": ["x.sqlite"]})
  features, _, _, told = read(open_file(tmp_path))
  assert features == [[0, 255]]
  assert [record.split("row ")[1] for record in told] == [
    "2, field pixels: value 1 is 256, expected 0 to 255",
    "3, field pixels: value 1 is -1, expected 0 to 255",
  ]


def test_many_rows_come_in_batches(tmp_path):
  rows = [
    ("train", f"{n % 3}", serialized(0, features=[float(n)])) for n in range(2500)
  ]
  rows[1200] = ("train", "1", b"\xff")
  write(tmp_path / "x.sqlite", rows)
  describe(tmp_path, [1], {"train": ["x.sqlite"]})
  dataset = open_file(tmp_path, test_share=0.0)
  sizes = [len(batch.labels) for batch in dataset.read("train", lambda bad: None)]
  assert sum(sizes) == 2499
  assert max(sizes) <= 1000
  features = [f[0] for f in read(dataset)[0]]
  order = sorted((n % 3, n) for n in range(2500) if n != 1200)
  assert features == [n for _, n in order]


def test_files_that_are_missing_or_hold_nothing(tmp_path):
  with pytest.raises(
    InputError, match=r"client_sqlite needs --data_dir: a folder with"
  ):
    client_sqlite.open_client_sqlite(SourceOptions())
  with pytest.raises(
    InputError, match=r"dataset client_sqlite: .*/dataset.json not found"
  ):
    open_file(tmp_path)
  write(
    tmp_path / "x.sqlite",
    [("train", "a", serialized(0, other=1)), ("train", "b", b"?")],
  )
  describe(tmp_path, [1], {"train": ["x.sqlite"]})
  message = "x.sqlite: no record .* one of the fields .*; found are 'label', 'other'$"
  with pytest.raises(InputError, match=message):
    open_file(tmp_path)


def _toy(features, has_clients=True):
  info = DatasetInfo(
    "toy", features.shape[1:], features.dtype.name, ("a", "b"),
    Preprocessing(1.0, (0.0,), (1.0,)),
  )  # fmt: skip
  labels = np.arange(len(features)) % 2
  clients = np.array(["zoe", "ann", "zoe", "bob"])[: len(features)]

  def read(split, on_bad_record):
    del on_bad_record
    half = len(features) // 2
    chosen = slice(half) if split == "test" else slice(half, None)
    yield Batch(
      features[chosen], labels[chosen], clients[chosen] if has_clients else None
    )

  return Dataset(info, read, has_clients)


@pytest.mark.parametrize(
  ("shape", "kind"),
  [((2, 3, 3), np.uint8), ((2, 3, 1), np.uint8), ((2, 2), np.float32)],
)
def test_what_is_written_is_read_again_by_us_and_by_tff(tmp_path, shape, kind):
  features = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(kind)
  dataset = _toy(features)
  path = tmp_path / "data.sqlite"
  rows = [
    (split, client, serialized)
    for split in ("train", "test")
    for client, serialized in client_sqlite.rows(dataset, split)
  ]
  write(path, rows)
  connection = sqlite3.connect(path)
  clients = {(client, split, 1) for split, client, _ in rows}
  connection.executemany(sqlite_files.INSERT_CLIENT, sorted(clients))
  connection.commit()
  connection.close()

  describe(tmp_path, list(shape), {"train": ["data.sqlite"]})
  again = open_file(path)
  assert again.info.feature_type == np.dtype(kind).name
  found = read(again)
  # Ordered by client: bob's is the last of four, zoe's the third.
  assert found[0] == [features[3].tolist(), features[2].tolist()]
  assert found[1:] == ([1, 0], ["bob", "zoe"], [])
  assert read(again, "test")[2] == ["ann", "zoe"]

  theirs = tff.simulation.datasets.SqlClientData(str(path), "train")
  assert theirs.client_ids == ["bob", "zoe"]
  (record,) = theirs.create_tf_dataset_for_client("zoe").as_numpy_iterator()
  assert record == rows[0][2]


def test_examples_without_owners_are_not_written():
  features = np.zeros([4, 1], np.float32)
  with pytest.raises(InputError, match="toy does not say whose its examples are, as"):
    list(client_sqlite.rows(_toy(features, has_clients=False), "train"))
