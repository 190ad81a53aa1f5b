"""Examples in SQLite files of TensorFlow Federated's layout.

Layout:
https://www.tensorflow.org/federated/api_docs/python/tff/simulation/datasets/SqlClientData
"""

import contextlib
import hashlib
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import BadRecord, OnBadRecord
from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError

# What `tff.simulation.datasets.SqlClientData` opens. The indices make it fast for both.
SCHEMA = (
  "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
  "serialized_example_proto BLOB NOT NULL)",
  "CREATE INDEX idx_examples_client_id ON examples (client_id)",
  "CREATE INDEX idx_examples_client_id_split ON examples (split_name, client_id)",
  "CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL, "
  "num_examples INTEGER NOT NULL)",
  "CREATE INDEX idx_metadata_client_id ON client_metadata (client_id)",
)
INSERT_EXAMPLE = (
  "INSERT INTO examples (split_name, client_id, serialized_example_proto) "
  "VALUES (?, ?, ?)"
)
INSERT_CLIENT = (
  "INSERT INTO client_metadata (client_id, split_name, num_examples) VALUES (?, ?, ?)"
)

_COLUMNS = ("split_name", "client_id", "serialized_example_proto")
_OF_SPLIT = "FROM examples WHERE split_name = ? ORDER BY client_id, rowid"
_NAMES_SHOWN = 8
_DIGEST_BYTES = 16


class Row(NamedTuple):
  """An example as it stands in a file.

  Attributes:
    key: What messages call it: client and row.
    client: Whose it is.
    serialized: A `tf.train.Example`.
  """

  key: str
  client: str
  serialized: bytes


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
  """Opens a file for reading, and turns its errors into one line that names it.

  Raises:
    InputError: When it cannot be read, or has no table of examples.
  """
  shown = texts.one_line(str(path))
  if not path.is_file():
    raise InputError(f"{shown} not found; check --data_dir")
  uri = f"{path.resolve().as_uri()}?mode=ro"
  try:
    # Whoever reads may do so in another thread, but never in two at a time.
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    with contextlib.closing(connection):
      # Functions and views of a file from elsewhere are not to be trusted.
      connection.execute("PRAGMA trusted_schema = OFF")
      # Text that is no UTF-8 is a bad record, no end of reading.
      connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
      if not has_table(connection, path, "examples", _COLUMNS):
        raise InputError(f"{shown}: has no table examples; check --data_dir")
      yield connection
  except sqlite3.Error as error:
    reason = f"cannot be read: {texts.one_line(str(error))}"
    if "not a database" in str(error):
      reason = "is no SQLite database"
    raise InputError(f"{shown}: {reason}") from error


def has_table(
  connection: sqlite3.Connection,
  path: pathlib.Path,
  table: str,
  columns: Sequence[str],
) -> bool:
  """Tells whether an opened file has a table, and checks it.

  Raises:
    InputError: When it lacks one of the columns, or is no table but a view.
  """
  query = "SELECT name FROM pragma_table_info(?)"
  found = [name for (name,) in connection.execute(query, (table,))]
  if not found:
    return False
  shown = texts.one_line(str(path))
  for name in columns:
    if name not in found:
      raise InputError(f"{shown}: table {table} has no column {name}; add it")
  (kind,) = connection.execute(
    "SELECT type FROM sqlite_master WHERE lower(name) = ?", (table,)
  ).fetchone()
  if kind != "table":
    raise InputError(f"{shown}: {table} is a {kind}; copy it into a table")
  return True


def split_names(path: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of a file's splits, sorted.

  Raises:
    InputError: When it is no such file, or a row is of no split.
  """
  with opened(path) as connection:
    found = connection.execute("SELECT DISTINCT split_name FROM examples").fetchall()
    for (name,) in found:
      if texts.problem_of_name(name):
        raise InputError(
          f"{texts.one_line(str(path))}: column split_name of table examples holds "
          f"{'NULL' if name is None else texts.value(name)}; write a name there"
        )
  return tuple(sorted(name for (name,) in found))


def choose_split(path: pathlib.Path, wanted: str, other: Optional[str] = None) -> str:
  """Finds a file's rows for a split.

  Args:
    path: The file.
    wanted: Name of the split.
    other: Name of the other split; None where no name but the wanted one will do.

  Returns:
    The wanted name; or the only one there is, unless it is that of the other split.

  Raises:
    InputError: When there is no such split.
  """
  names = split_names(path)
  if wanted in names:
    return wanted
  if other is not None and len(names) == 1 and names[0] != other:
    return names[0]
  shown = texts.one_line(str(path))
  if not names:
    raise InputError(f"{shown}: table examples has no rows; check --data_dir")
  found = ", ".join(texts.value(name) for name in names[:_NAMES_SHOWN])
  more = ", ..." if len(names) > _NAMES_SHOWN else ""
  raise InputError(
    f"{shown}: has no rows with split_name {texts.value(wanted)}; its splits are "
    f"{found}{more}"
  )


def clients(path: pathlib.Path, split: str) -> list[str]:
  """Returns whose each row of a split is, in the order of `rows`.

  Raises:
    InputError: When the file cannot be read.
  """
  query = f"SELECT client_id {_OF_SPLIT}"
  with opened(path) as connection:
    return [str(client) for (client,) in connection.execute(query, (split,))]


def client_of(found: Any) -> Any:
  """Returns a client's id as text also where the file calls it a number."""
  return str(found) if isinstance(found, int) else found


def rows(
  path: pathlib.Path,
  split: str,
  on_bad_record: OnBadRecord,
  chosen: Optional[Array] = None,
  refuse_twins: bool = True,
) -> Iterator[Row]:
  """Streams the examples of a split, ordered by client and row.

  Args:
    path: The file.
    split: Value of `split_name`.
    on_bad_record: Told of rows without a client or a content, and of twins.
    chosen: Which of the split's rows to look at, bool [rows]; None = all.
    refuse_twins: Whether an example that its client has already is a bad record.

  Raises:
    InputError: When the file cannot be read.
  """
  query = f"SELECT rowid, client_id, serialized_example_proto {_OF_SPLIT}"
  shown = texts.one_line(str(path))
  twins = _Twins()
  with opened(path) as connection:
    for place, found in enumerate(connection.execute(query, (split,))):
      if chosen is not None and not chosen[place]:
        continue
      number, raw_client, raw_content = found
      client = client_of(raw_client)
      content = _bytes(raw_content)
      problem = texts.problem_of_name(client)
      field = "client_id"
      if problem is None:
        field = "serialized_example_proto"
        if content is None:
          problem = f"is {_kind(raw_content)}, expected bytes"
        elif refuse_twins:
          problem = twins.problem(client, number, content)
      key = f"{texts.value(client)} row {number}"
      if problem is not None or content is None:
        on_bad_record(BadRecord(shown, key, field, str(problem)))
      else:
        yield Row(key, client, content)


class _Twins:
  """Finds examples that a client has twice, where clients come one after another."""

  def __init__(self) -> None:
    self._client: Optional[str] = None
    self._rows: dict[bytes, int] = {}

  def problem(self, client: str, row: int, content: bytes) -> Optional[str]:
    """Tells which earlier row an example is equal to; None for a new one."""
    if client != self._client:
      self._client, self._rows = client, {}
    digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
    twin = self._rows.setdefault(digest, row)
    return None if twin == row else f"is the same as row {twin} of this client"


def _bytes(content: object) -> Optional[bytes]:
  """Returns bytes also where the file calls them text."""
  if isinstance(content, str):
    return content.encode("utf-8", "surrogateescape")
  return content if isinstance(content, bytes) else None


def _kind(content: object) -> str:
  return "NULL" if content is None else f"the number {texts.value(content)}"
