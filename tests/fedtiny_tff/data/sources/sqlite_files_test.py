"""SQLite files of TFF's layout: order, splits, bad rows and files that are none."""

import sqlite3

import numpy as np
import pytest
import tensorflow_federated as tff
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.examples import BadRecord
from fedtiny_tff.data.sources import sqlite_files
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_LOOSE = (
  "CREATE TABLE examples (split_name, client_id, serialized_example_proto)",
  "CREATE TABLE client_metadata (client_id, split_name, num_examples)",
)


def _write(path, rows, schema=sqlite_files.SCHEMA):
  connection = sqlite3.connect(path)
  connection.execute("PRAGMA synchronous = OFF")
  for statement in schema:
    connection.execute(statement)
  connection.executemany(sqlite_files.INSERT_EXAMPLE, rows)
  connection.commit()
  connection.close()
  return path


def _read(path, split="train", **options):
  bad: list[BadRecord] = []
  rows = list(sqlite_files.rows(path, split, bad.append, **options))
  return rows, [str(record).removeprefix(f"{path}, record ") for record in bad]


def _refused(message, function, *arguments):
  with pytest.raises(InputError, match=message) as caught:
    list(function(*arguments))
  assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("schema", [sqlite_files.SCHEMA, _LOOSE])
def test_rows_are_ordered_by_client_and_row(tmp_path, schema):
  path = _write(
    tmp_path / "a b#?.sqlite",
    [
      ("train", "zoe", b"1"),
      ("test", "adam", b"2"),
      ("train", "adam", b"3"),
      ("train", "zoe", b"0"),
      ("train", "B", b"4"),
    ],
    schema,
  )
  rows, bad = _read(path)
  assert [(row.client, row.serialized) for row in rows] == [
    ("B", b"4"), ("adam", b"3"), ("zoe", b"1"), ("zoe", b"0"),
  ]  # fmt: skip
  assert rows[1].key == "'adam' row 3"
  assert bad == []
  assert sqlite_files.clients(path, "train") == ["B", "adam", "zoe", "zoe"]
  chosen = np.array([True, False, False, True])
  assert [r.serialized for r in _read(path, chosen=chosen)[0]] == [b"4", b"0"]
  assert [row.client for row in _read(path, "test")[0]] == ["adam"]


def test_bad_rows(tmp_path):
  rows = [
    ("train", None, b"1"),
    ("train", 5, b"2"),
    ("train", 5.5, b"3"),
    ("train", "a", None),
    ("train", "a", 7),
    ("train", "a\nb", b"5"),
    ("train", b"a", b"6"),
    ("train", "a", "text"),
  ]
  found, bad = _read(_write(tmp_path / "x.sqlite", rows, _LOOSE))
  assert [(r.client, r.serialized) for r in found] == [("5", b"2"), ("a", b"text")]
  assert bad == [
    "None row 1, field client_id: is empty",
    "5.5 row 3, field client_id: is float 5.5, expected text",
    "'a' row 4, field serialized_example_proto: is NULL, expected bytes",
    "'a' row 5, field serialized_example_proto: is the number 7, expected bytes",
    r"'a\nb' row 6, field client_id: has characters that no name may have: 'a\nb'",
    "b'a' row 7, field client_id: is bytes b'a', expected text",
  ]


def test_a_client_that_is_no_utf8_is_a_bad_row(tmp_path):
  path = _write(tmp_path / "x.sqlite", [])
  connection = sqlite3.connect(path)
  connection.execute(
    "INSERT INTO examples VALUES ('train', CAST(x'61FF' AS TEXT), x'00')"
  )
  connection.commit()
  connection.close()
  assert _read(path)[0] == []
  assert "field client_id: has characters that no name may have" in _read(path)[1][0]


def test_twins_of_one_client_are_bad_rows(tmp_path):
  rows = [
    ("train", c, content)
    for c, content in [("a", b"1"), ("b", b"1"), ("a", b"2"), ("a", b"1"), ("b", b"3")]
  ]
  path = _write(tmp_path / "x.sqlite", rows)
  found, bad = _read(path)
  assert [(r.client, r.serialized) for r in found] == [
    ("a", b"1"), ("a", b"2"), ("b", b"1"), ("b", b"3"),
  ]  # fmt: skip
  assert bad == [
    "'a' row 4, field serialized_example_proto: is the same as row 1 of this client"
  ]
  assert len(_read(path, refuse_twins=False)[0]) == 5


@support.quick
@given(
  st.lists(
    st.tuples(st.sampled_from(["train", "test"]), st.sampled_from("abc"), st.binary()),
    unique=True,
  )
)
def test_what_is_written_is_read_and_opened_by_tff(tmp_path_factory, rows):
  path = _write(tmp_path_factory.mktemp("sqlite") / "x.sqlite", rows)
  for split in ("train", "test"):
    own = sorted((c, n) for n, (s, c, _) in enumerate(rows) if s == split)
    found, bad = _read(path, split)
    assert [(row.client, row.serialized) for row in found] == [
      (client, rows[number][2]) for client, number in own
    ]
    assert bad == []
  tff.simulation.datasets.SqlClientData(str(path), "train")


def test_the_split_to_read(tmp_path):
  both = _write(tmp_path / "a", [("train", "a", b""), ("test", "a", b"")])
  only = _write(tmp_path / "b", [("everything", "a", b"")])
  assert sqlite_files.split_names(both) == ("test", "train")
  assert sqlite_files.choose_split(both, "test", "train") == "test"
  assert sqlite_files.choose_split(only, "test", "train") == "everything"
  choose = sqlite_files.choose_split
  _refused(
    "no rows with split_name 'all'; its splits are 'test', 'train'$",
    choose,
    both,
    "all",
    "test",
  )
  _refused(
    "no rows with split_name 'all'; its splits are 'everything'$", choose, only, "all"
  )
  # The training rows must not be tested on.
  train = _write(tmp_path / "c", [("train", "a", b"")])
  _refused(
    "no rows with split_name 'test'; its splits are 'train'$",
    choose,
    train,
    "test",
    "train",
  )
  _refused(
    "table examples has no rows", choose, _write(tmp_path / "d", []), "train", "test"
  )
  many = _write(tmp_path / "e", [(f"s{n:02}", "a", b"") for n in range(20)])
  _refused("its splits are 's00', .*, 's07', ...$", choose, many, "train", "test")


@pytest.mark.parametrize(
  ("name", "shown"), [(None, "NULL"), ("", "''"), (b"x", "b'x'")]
)
def test_a_row_of_no_split_is_refused(tmp_path, name, shown):
  path = _write(tmp_path / "x", [("train", "a", b""), (name, "a", b"")], _LOOSE)
  _refused(
    f"column split_name of table examples holds {shown}; write a name there$",
    sqlite_files.split_names,
    path,
  )


def test_files_that_are_none(tmp_path):
  path = tmp_path / "x.sqlite"
  names = sqlite_files.split_names
  _refused("x.sqlite not found; check --data_dir", names, path)
  _refused("not found; check --data_dir", names, tmp_path)
  path.write_bytes(b"")
  _refused("x.sqlite: has no table examples; check --data_dir$", names, path)
  path.write_bytes(b"no database, but long enough for a header" * 50)
  _refused("x.sqlite: is no SQLite database$", names, path)
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ("statement", "message"),
  [
    ("CREATE TABLE other (x)", "has no table examples"),
    ("CREATE TABLE examples (client_id)", "examples has no column split_name"),
    (
      "CREATE VIEW examples AS SELECT 'train' AS split_name, 'a' AS client_id, "
      "x'00' AS serialized_example_proto",
      "examples is a view; copy it into a table",
    ),
    (
      "CREATE TABLE examples (split_name, client_id TEXT PRIMARY KEY, "
      "serialized_example_proto) WITHOUT ROWID",
      "cannot be read: no such column: rowid",
    ),
  ],
)
def test_other_layouts(tmp_path, statement, message):
  connection = sqlite3.connect(tmp_path / "x.sqlite")
  connection.execute(statement)
  connection.close()
  _refused(message, _read, tmp_path / "x.sqlite")


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off(tmp_path, keep):
  rows = [("train", f"{n % 7}", bytes([n % 256]) * 900 + b"%d" % n) for n in range(200)]
  path = _write(tmp_path / "x.sqlite", rows)
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * keep)])
  _refused("x.sqlite: cannot be read: ", _read, path)


def test_noise_in_a_file(tmp_path):
  rows = [("train", f"{n % 7}", bytes(900) + b"%d" % n) for n in range(200)]
  path = _write(tmp_path / "x.sqlite", rows)
  content = bytearray(path.read_bytes())
  content[4096:] = np.random.default_rng(0).bytes(len(content) - 4096)
  path.write_bytes(content)
  _refused("x.sqlite: cannot be read: ", _read, path)


def test_reading_leaves_the_file_as_it_is(tmp_path):
  path = _write(tmp_path / "x.sqlite", [("train", "a", b"1")])
  before = path.read_bytes()
  path.chmod(0o400)
  _read(path)
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]
