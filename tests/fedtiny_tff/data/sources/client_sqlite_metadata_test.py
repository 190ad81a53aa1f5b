"""The table of clients, which must agree with the examples where there is one."""

import sqlite3

import pytest

from fedtiny_tff.data.sources import (
  client_sqlite_metadata,
  sqlite_files,
)
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources.made_sqlite import (
  describe,
  open_file,
  serialized,
  write,
)
from tests.fedtiny_tff.data.sources.whole_splits import read

# Ann has two training examples, of which one is a twin; bob one, and one to test on.
_OWNED = [
  ("train", "ann", serialized(0, features=[1.0])),
  ("train", "ann", serialized(0, features=[1.0])),
  ("train", "bob", serialized(1, features=[2.0])),
  ("test", "bob", serialized(1, features=[3.0])),
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
  write(path, _OWNED, listed)
  describe(tmp_path, [1], {"train": ["x.sqlite"]})
  _, _, clients, bad = read(open_file(path))
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
  write(path, _OWNED, listed)
  describe(tmp_path, [1], {"train": ["x.sqlite"]})
  with pytest.raises(InputError) as caught:
    open_file(path)
  rest = "or drop table client_metadata, which only TFF needs"
  assert str(caught.value) == f"{path}: table client_metadata {message}{rest}"
  connection = sqlite3.connect(path)
  connection.execute("DROP TABLE client_metadata")
  connection.close()
  assert read(open_file(path))[2] == ["ann", "bob"]


def test_a_client_that_cannot_be_used_is_a_bad_row_not_a_missing_one(tmp_path):
  path = tmp_path / "x.sqlite"
  write(path, [*_OWNED, ("train", "", serialized(0, features=[4.0]))], _LISTED)
  describe(tmp_path, [1], {"train": ["x.sqlite"]})
  _, _, clients, bad = read(open_file(path))
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
  write(path, _OWNED)
  connection = sqlite3.connect(path)
  connection.execute("DROP TABLE client_metadata")
  connection.execute(statement)
  connection.close()
  describe(tmp_path, [1], {"train": ["x.sqlite"]})
  with pytest.raises(InputError, match=message):
    open_file(path)


def test_clients_that_are_numbers(tmp_path):
  path = tmp_path / "x.sqlite"
  connection = sqlite3.connect(path)
  connection.execute(
    "CREATE TABLE examples (split_name, client_id, serialized_example_proto)"
  )
  connection.execute(
    "CREATE TABLE client_metadata (client_id, split_name, num_examples)"
  )
  rows = [("train", client, serialized(0, features=[1.0])) for client in (7, "8")]
  connection.executemany(sqlite_files.INSERT_EXAMPLE, rows)
  listed = [("7", "train", 1), (8, "train", 1)]
  connection.executemany(sqlite_files.INSERT_CLIENT, listed)
  connection.commit()
  connection.close()
  describe(tmp_path, [1], {"train": ["x.sqlite"]})
  assert read(open_file(path))[2] == ["7", "8"]


def test_examples_are_counted_by_their_index_alone(tmp_path):
  path = tmp_path / "x.sqlite"
  write(path, _OWNED)
  connection = sqlite3.connect(path)
  query = f"EXPLAIN QUERY PLAN {client_sqlite_metadata._COUNTS}"
  (step,) = connection.execute(query, ("train",)).fetchall()
  connection.close()
  assert "USING COVERING INDEX idx_examples_client_id_split" in step[-1]
