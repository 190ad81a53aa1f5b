"""Own clients' SQLite files: kinds of content, splits, flaws, and writing them."""

import json
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
  client_sqlite_metadata,
  sqlite_files,
)
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError


def _record(label, **fields):
  """Serializes an example; fields are floats, integers or bytes by their type."""
  features = {}
  for name, values in {"label": label, **fields}.items():
    listed = values if isinstance(values, list) else [values]
    feature = tf.train.Feature()
    kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    getattr(feature, kind[type(listed[0])]).value.extend(listed)
    features[name] = feature
  return tf.train.Example(
    features=tf.train.Features(feature=features)
  ).SerializeToString()


def _write(path, rows, listed=()):
  connection = sqlite3.connect(path)
  connection.execute("PRAGMA synchronous = OFF")
  for statement in sqlite_files.SCHEMA:
    connection.execute(statement)
  connection.executemany(sqlite_files.INSERT_EXAMPLE, rows)
  connection.executemany(sqlite_files.INSERT_CLIENT, listed)
  connection.commit()
  connection.close()


def _describe(folder, shape, splits, **more):
  document = {"shape": shape, "classes": ["a", "b"], "splits": splits, **more}
  (folder / "dataset.json").write_text(json.dumps(document))


def _open(path, **options):
  return client_sqlite.open_client_sqlite(SourceOptions(data_dir=str(path), **options))


def _read(dataset, split="train"):
  bad: list[examples.BadRecord] = []
  batches = list(dataset.read(split, bad.append))
  features = [example.tolist() for batch in batches for example in batch.features]
  labels = [int(label) for batch in batches for label in batch.labels]
  clients = [str(client) for batch in batches for client in batch.clients]
  return features, labels, clients, [str(record) for record in bad]


def _floats(path, splits, shape=(2,), extra=(), names=("train",)):
  """Writes a few rows of two floats."""
  rows = [
    (name, client, _record(n % 2, features=[float(n), 0.5]))
    for name in names
    for n, client in enumerate(["bob", "ann", "bob", "ann", "ann", "ann", "ann", "bob"])
  ]
  _write(path, [*rows, *extra])
  _describe(path.parent, list(shape), splits)


def test_floats(tmp_path):
  _floats(tmp_path / "x.sqlite", {"train": ["x.sqlite"]}, (2, 1), names=("all",))
  dataset = _open(tmp_path, test_share=0.0)
  assert dataset.info.shape == (2, 1)
  assert dataset.info.feature_type == "float32"
  assert dataset.info.class_names == ("a", "b")
  assert dataset.info.preprocessing.scale == 1.0
  assert dataset.has_clients
  assert dataset.measures_inputs
  for _ in range(2):
    assert _read(dataset) == (
      [[[float(n)], [0.5]] for n in (1, 3, 4, 5, 6, 0, 2, 7)],
      [1, 1, 0, 1, 0, 0, 0, 1],
      ["ann"] * 5 + ["bob"] * 3,
      [],
    )


def test_a_share_of_each_client_is_held_out_where_there_is_no_test_split(tmp_path):
  _floats(tmp_path / "x.sqlite", {"train": ["x.sqlite"]})
  dataset = _open(tmp_path, test_share=0.4)
  train, test = _read(dataset), _read(dataset, "test")
  # Two of ann's five, none of bob's three.
  assert test[2] == ["ann", "ann"]
  assert sorted(f[0] for f in train[0] + test[0]) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_splits_in_one_file_or_in_several(tmp_path):
  test_rows = [("test", "cem", _record(1, features=[9.0, 9.0]))]
  _floats(tmp_path / "x.sqlite", {"train": ["x.sqlite"]}, extra=test_rows)
  for path in (tmp_path, tmp_path / "x.sqlite"):
    dataset = _open(path)
    assert len(_read(dataset)[0]) == 8
    assert _read(dataset, "test") == ([[9, 9]], [1], ["cem"], [])
  _write(tmp_path / "t.sqlite", [("others", "dan", _record(0, features=[7.0, 7.0]))])
  _describe(tmp_path, [2], {"train": ["x.sqlite"], "test": ["t.sqlite"]})
  assert _read(_open(tmp_path), "test") == ([[7, 7]], [0], ["dan"], [])
  _write(tmp_path / "u.sqlite", [("train", "eva", _record(0, features=[6.0, 6.0]))])
  _describe(tmp_path, [2], {"train": ["x.sqlite", "u.sqlite"], "test": ["t.sqlite"]})
  assert _read(_open(tmp_path))[2][-1] == "eva"
  _describe(tmp_path, [2], {"train": ["x.sqlite"], "test": ["u.sqlite"]})
  with pytest.raises(InputError, match=r"u.sqlite: has no rows with split_name 'test'"):
    _open(tmp_path)


# Ann has two training examples, of which one is a twin; bob one, and one to test on.
_OWNED = [
  ("train", "ann", _record(0, features=[1.0])),
  ("train", "ann", _record(0, features=[1.0])),
  ("train", "bob", _record(1, features=[2.0])),
  ("test", "bob", _record(1, features=[3.0])),
]
_LISTED = [("ann", "train", 2), ("bob", "train", 1), ("bob", "test", 1)]


@pytest.mark.parametrize(
  "listed",
  [
    _LISTED,
    # Somebody who has nothing, in a split of his own, and one that is not read.
    [*_LISTED, ("cem", "train", 0), ("cem", "test", 0), ("ann", "other", 9)],
    # Nobody filled the table, or not for the training split.
    [],
    [("bob", "test", 1)],
  ],
)
def test_clients_that_are_listed_rightly(tmp_path, listed):
  path = tmp_path / "x.sqlite"
  _write(path, _OWNED, listed)
  _describe(tmp_path, [1], {"train": ["x.sqlite"]})
  _, _, clients, bad = _read(_open(path))
  assert clients == ["ann", "bob"]
  assert len(bad) == 1


@pytest.mark.parametrize(
  ("listed", "message"),
  [
    (
      [*_LISTED, ("ann", "train", 2)],
      "lists client 'ann' of split 'train' 2 times; keep one row, ",
    ),
    # Doubled comes first, whatever the numbers say.
    (
      [("ann", "train", 1), ("ann", "train", 1), *_LISTED[1:]],
      "lists client 'ann' of split 'train' 2 times; keep one row, ",
    ),
    (
      [("ann", "train", 3), *_LISTED[1:]],
      "says that client 'ann' of split 'train' has 3 examples, but table examples holds "
      "2; mend num_examples, ",
    ),
    (
      [*_LISTED[:2], ("bob", "test", 2)],
      "says that client 'bob' of split 'test' has 2 examples, but table examples holds "
      "1; mend num_examples, ",
    ),
    (
      [*_LISTED, ("ghost", "train", 1)],
      "says that client 'ghost' of split 'train' has 1 examples, but table examples "
      "holds 0; mend num_examples, ",
    ),
    (
      [*_LISTED, ("li\nne", "train", "many")],
      r"says that client 'li\nne' of split 'train' has 'many' examples, but table "
      "examples holds 0; mend num_examples, ",
    ),
    (
      _LISTED[1:],
      "does not list client 'ann' of split 'train', of whom table examples holds 2; add "
      "a row, ",
    ),
  ],
)
def test_clients_that_are_listed_wrongly(tmp_path, listed, message):
  path = tmp_path / "x.sqlite"
  _write(path, _OWNED, listed)
  _describe(tmp_path, [1], {"train": ["x.sqlite"]})
  with pytest.raises(InputError) as caught:
    _open(path)
  rest = "or drop table client_metadata, which only TFF needs"
  assert str(caught.value) == f"{path}: table client_metadata {message}{rest}"
  connection = sqlite3.connect(path)
  connection.execute("DROP TABLE client_metadata")
  connection.close()
  assert _read(_open(path))[2] == ["ann", "bob"]


def test_a_client_that_cannot_be_used_is_a_bad_row_not_a_missing_one(tmp_path):
  path = tmp_path / "x.sqlite"
  _write(path, [*_OWNED, ("train", "", _record(0, features=[4.0]))], _LISTED)
  _describe(tmp_path, [1], {"train": ["x.sqlite"]})
  _, _, clients, bad = _read(_open(path))
  assert clients == ["ann", "bob"]
  assert "field client_id: is empty" in bad[0]


@pytest.mark.parametrize(
  ("statement", "message"),
  [
    (
      "CREATE TABLE client_metadata (client_id, split_name)",
      "x.sqlite: table client_metadata has no column num_examples; add it$",
    ),
    (
      "CREATE VIEW client_metadata AS SELECT 'ann' AS client_id, 'train' AS "
      "split_name, 2 AS num_examples",
      "x.sqlite: client_metadata is a view; copy it into a table$",
    ),
  ],
)
def test_another_table_of_clients(tmp_path, statement, message):
  path = tmp_path / "x.sqlite"
  _write(path, _OWNED)
  connection = sqlite3.connect(path)
  connection.execute("DROP TABLE client_metadata")
  connection.execute(statement)
  connection.close()
  _describe(tmp_path, [1], {"train": ["x.sqlite"]})
  with pytest.raises(InputError, match=message):
    _open(path)


def test_clients_that_are_numbers(tmp_path):
  path = tmp_path / "x.sqlite"
  connection = sqlite3.connect(path)
  connection.execute(
    "CREATE TABLE examples (split_name, client_id, serialized_example_proto)"
  )
  connection.execute(
    "CREATE TABLE client_metadata (client_id, split_name, num_examples)"
  )
  rows = [("train", client, _record(0, features=[1.0])) for client in (7, "8")]
  connection.executemany(sqlite_files.INSERT_EXAMPLE, rows)
  listed = [("7", "train", 1), (8, "train", 1)]
  connection.executemany(sqlite_files.INSERT_CLIENT, listed)
  connection.commit()
  connection.close()
  _describe(tmp_path, [1], {"train": ["x.sqlite"]})
  assert _read(_open(path))[2] == ["7", "8"]


def test_examples_are_counted_by_their_index_alone(tmp_path):
  path = tmp_path / "x.sqlite"
  _write(path, _OWNED)
  connection = sqlite3.connect(path)
  query = f"EXPLAIN QUERY PLAN {client_sqlite_metadata._COUNTS}"
  (step,) = connection.execute(query, ("train",)).fetchall()
  connection.close()
  assert "USING COVERING INDEX idx_examples_client_id_split" in step[-1]


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
    _write(path, [("train", "a", _record(1, **content))])
    _describe(tmp_path, [2, 2, 3], {"train": ["x.sqlite"]})
    dataset = _open(tmp_path)
    assert dataset.info.feature_type == "uint8"
    assert dataset.info.preprocessing.scale == 1 / 255
    assert _read(dataset)[:2] == ([pixels.tolist()], [1])
  # The last one holds pixels, not a file.
  with pytest.raises(
    InputError, match=r"--image_size: the examples in .* are no encoded"
  ):
    _open(tmp_path, image_size=(4, 4))


def test_encoded_images_are_resized(tmp_path):
  encoded = tf.io.encode_png(np.full([5, 3, 1], 60, np.uint8)).numpy()
  _write(tmp_path / "x.sqlite", [("train", "a", _record(0, image=encoded))])
  _describe(tmp_path, [2, 2, 1], {"train": ["x.sqlite"]})
  assert "is 5x3 pixels, expected 2x2" in _read(_open(tmp_path))[3][0]
  dataset = _open(tmp_path, image_size=(1, 2))
  assert dataset.info.shape == (1, 2, 1)
  assert _read(dataset)[0] == [[[[60], [60]]]]
  _describe(tmp_path, [4], {"train": ["x.sqlite"]})
  with pytest.raises(InputError, match=r"shape of images must be .*, got \[4\]"):
    _open(tmp_path)


def test_what_dataset_json_says_of_preprocessing_holds(tmp_path):
  _floats(tmp_path / "x.sqlite", {})
  said = {"scale": 0.5, "mean": [1.0], "deviation": [2.0]}
  _describe(tmp_path, [2], {"train": ["x.sqlite"]}, preprocessing=said)
  dataset = _open(tmp_path)
  assert dataset.info.preprocessing == Preprocessing(0.5, (1.0,), (2.0,))
  assert not dataset.measures_inputs


def test_bad_rows(tmp_path):
  good = _record(1, features=[1.0, 2.0])
  bad = [
    b"\xff",
    _record(2, features=[1.0, 2.0]),
    _record(-1, features=[1.0, 2.0]),
    _record(0, features=[1.0, float("nan")]),
    _record(0, features=[1.0]),
    _record(0, features=[1, 2]),
    _record(0.5, features=[1.0, 2.0]),
    _record(0, other=1),
    tf.train.Example().SerializeToString(),
    good,
    good,
  ]
  _write(tmp_path / "x.sqlite", [("train", "ann", record) for record in [*bad, good]])
  _describe(tmp_path, [2], {"train": ["x.sqlite"]})
  dataset = _open(tmp_path, test_share=0.0)
  features, labels, clients, told = _read(dataset)
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
  rows = [("train", "a", _record(0, pixels=[0, last])) for last in (255, 256, -1)]
  _write(tmp_path / "x.sqlite", rows)
  _describe(tmp_path, [2], {"train": ["x.sqlite"]})
  features, _, _, told = _read(_open(tmp_path))
  assert features == [[0, 255]]
  assert [record.split("row ")[1] for record in told] == [
    "2, field pixels: value 1 is 256, expected 0 to 255",
    "3, field pixels: value 1 is -1, expected 0 to 255",
  ]


def test_many_rows_come_in_batches(tmp_path):
  rows = [("train", f"{n % 3}", _record(0, features=[float(n)])) for n in range(2500)]
  rows[1200] = ("train", "1", b"\xff")
  _write(tmp_path / "x.sqlite", rows)
  _describe(tmp_path, [1], {"train": ["x.sqlite"]})
  dataset = _open(tmp_path, test_share=0.0)
  sizes = [len(batch.labels) for batch in dataset.read("train", lambda bad: None)]
  assert sum(sizes) == 2499
  assert max(sizes) <= 1000
  features = [f[0] for f in _read(dataset)[0]]
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
    _open(tmp_path)
  _write(
    tmp_path / "x.sqlite", [("train", "a", _record(0, other=1)), ("train", "b", b"?")]
  )
  _describe(tmp_path, [1], {"train": ["x.sqlite"]})
  message = "x.sqlite: no record .* one of the fields .*; found are 'label', 'other'$"
  with pytest.raises(InputError, match=message):
    _open(tmp_path)


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
  _write(path, rows)
  connection = sqlite3.connect(path)
  clients = {(client, split, 1) for split, client, _ in rows}
  connection.executemany(sqlite_files.INSERT_CLIENT, sorted(clients))
  connection.commit()
  connection.close()

  _describe(tmp_path, list(shape), {"train": ["data.sqlite"]})
  again = _open(path)
  assert again.info.feature_type == np.dtype(kind).name
  found = _read(again)
  # Ordered by client: bob's is the last of four, zoe's the third.
  assert found[0] == [features[3].tolist(), features[2].tolist()]
  assert found[1:] == ([1, 0], ["bob", "zoe"], [])
  assert _read(again, "test")[2] == ["ann", "zoe"]

  theirs = tff.simulation.datasets.SqlClientData(str(path), "train")
  assert theirs.client_ids == ["bob", "zoe"]
  (record,) = theirs.create_tf_dataset_for_client("zoe").as_numpy_iterator()
  assert record == rows[0][2]


def test_examples_without_owners_are_not_written():
  features = np.zeros([4, 1], np.float32)
  with pytest.raises(InputError, match="toy does not say whose its examples are, as"):
    list(client_sqlite.rows(_toy(features, has_clients=False), "train"))
