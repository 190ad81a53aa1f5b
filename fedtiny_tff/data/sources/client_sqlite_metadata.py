"""What SQLite files of TFF's layout say of clients beside their examples."""

import collections
import pathlib
from typing import Any

from fedtiny_tff.data.sources import sqlite_files, texts
from fedtiny_tff.errors import InputError

_TABLE = "client_metadata"
_COLUMNS = ("client_id", "split_name", "num_examples")
# The one pass over all examples; an index of split and client answers it, if there is.
_COUNTS = (
  "SELECT client_id, count(*) FROM examples WHERE split_name = ? "
  "GROUP BY client_id ORDER BY client_id"
)
_LISTED = (
  "SELECT client_id, num_examples FROM client_metadata WHERE split_name = ? "
  "ORDER BY client_id"
)
_OR = f"or drop table {_TABLE}, which only TFF needs"


def check(path: pathlib.Path, split: str) -> None:
  """Compares the table `client_metadata` with the examples of a split.

  A file without such a table, or whose table says nothing of the split, passes. A
  client may be listed with no examples. Rows whose client cannot be used are left to
  whoever reads them.

  Args:
    path: The file.
    split: Value of `split_name`.

  Raises:
    InputError: When the file cannot be read, or the table lacks a column; or a client
      is listed twice, or not at all, or with another number of examples than it has.
  """
  with sqlite_files.opened(path) as connection:
    if not sqlite_files.has_table(connection, path, _TABLE, _COLUMNS):
      return
    listed = [
      (sqlite_files.client_of(client), count)
      for client, count in connection.execute(_LISTED, (split,))
    ]
    if not listed:
      return
    held: collections.Counter[Any] = collections.Counter()
    for client, count in connection.execute(_COUNTS, (split,)):
      held[sqlite_files.client_of(client)] += count
  problem = _problem(listed, held, split)
  if problem:
    raise InputError(f"{texts.one_line(str(path))}: table {_TABLE} {problem}")


def _problem(
  listed: list[tuple[Any, Any]], held: collections.Counter[Any], split: str
) -> str:
  """Tells the first thing that is wrong; empty where nothing is."""

  def named(client: Any) -> str:
    return f"client {texts.value(client)} of split {texts.value(split)}"

  times = collections.Counter(client for client, _ in listed)
  for client, count in times.items():
    if count > 1:
      return f"lists {named(client)} {count} times; keep one row, {_OR}"
  for client, count in listed:
    if count != held[client]:
      return (
        f"says that {named(client)} has {texts.value(count)} examples, but table "
        f"examples holds {held[client]}; mend num_examples, {_OR}"
      )
  for client, count in held.items():
    if client not in times and texts.problem_of_name(client) is None:
      return (
        f"does not list {named(client)}, of whom table examples holds {count}; add a "
        f"row, {_OR}"
      )
  return ""
