"""Who and what each row of a table is about: labels, clients and splits, seen once."""

import dataclasses
import itertools
from collections.abc import Iterable
from fractions import Fraction
from typing import Optional

import numpy as np
import pyarrow as pa

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import TEST, TRAIN, BadRecord
from fedtiny_tff.data.sources import table_columns, texts
from fedtiny_tff.data.sources.table_columns import Codes, Columns
from fedtiny_tff.data.sources.table_files import TableFile
from fedtiny_tff.errors import InputError

_UNUSABLE = -1
_MAX_DIGITS = 18


@dataclasses.dataclass
class Rows:
  """The rows of a table, without their features.

  Attributes:
    labels: int32 [rows], index into `label_names`; -1 for a row that cannot be used.
    owners: int32 [rows], index into `client_names`; 0 where the table has none.
    in_test: bool [rows], whether a row says that it is of the test split.
    label_names: Labels as they stand in the table.
    client_names: Clients.
    bad_records: What is wrong with rows that cannot be used, by row from 0.
  """

  labels: Array
  owners: Array
  in_test: Array
  label_names: list[str]
  client_names: list[str]
  bad_records: dict[int, BadRecord]


def record(table: TableFile, row: int, column: str, reason: str) -> BadRecord:
  """Describes a bad cell.

  Args:
    table: Where it stands.
    row: Number of its row, from 0.
    column: Name of its column.
    reason: What is wrong.
  """
  header = " (the header is row 1)" if table.first_row > 1 else ""
  return BadRecord(
    table.path, f"row {row + table.first_row}{header}", texts.one_line(column), reason
  )


def read_rows(table: TableFile, columns: Columns) -> Rows:
  """Reads the columns that hold labels, clients and splits.

  Raises:
    InputError: When the table has no rows or cannot be read.
  """
  labels, clients = Codes(), Codes()
  parts: list[tuple[Array, Array, Array]] = []
  bad: dict[int, BadRecord] = {}
  first = 0
  for batch in table.batches(columns.keys):
    text = {name: table_columns.as_text(batch.column(name)) for name in columns.keys}
    label = labels.of(text[columns.label])
    owner = _owners(text, columns, clients, len(label))
    in_test, no_split = _splits(text, columns, len(label))
    unusable = (label < 0) | (owner < 0) | no_split
    for row in np.flatnonzero(unusable).tolist():
      bad[first + row] = _explain(table, columns, text, row, first)
    label[unusable] = _UNUSABLE
    parts.append((label, owner, in_test))
    first += len(label)
  if not first:
    raise InputError(f"{table.path}: has no rows; add some")
  joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
  return Rows(joined[0], joined[1], joined[2], labels.names, clients.names, bad)


def _owners(
  text: dict[str, pa.StringArray], columns: Columns, clients: Codes, count: int
) -> Array:
  if columns.client is None:
    return np.zeros(count, np.int32)
  return clients.of(text[columns.client])


def _splits(
  text: dict[str, pa.StringArray], columns: Columns, count: int
) -> tuple[Array, Array]:
  """Returns which rows are test rows, and which are of no split, bool [count] each."""
  if columns.split is None:
    return np.zeros(count, bool), np.zeros(count, bool)
  found = np.array(text[columns.split].to_pylist(), object)
  return found == TEST, (found != TEST) & (found != TRAIN)


def _explain(
  table: TableFile,
  columns: Columns,
  text: dict[str, pa.StringArray],
  row: int,
  first: int,
) -> BadRecord:
  """Tells which cell makes a row unusable."""
  for column in (columns.label, columns.client):
    if column is not None:
      problem = texts.problem_of_name(text[column][row].as_py())
      if problem:
        return record(table, first + row, column, problem)
  found = texts.value(text[table_columns.SPLIT_COLUMN][row].as_py())
  return record(
    table,
    first + row,
    table_columns.SPLIT_COLUMN,
    f"is {found}, expected train or test",
  )


class Classes:
  """Numbers of labels.

  Where the training labels are all integers they are sorted as such, and "01" is class
  1; other numbers are sorted as numbers, and keep how they are written; all else is
  sorted as text.

  Attributes:
    names: Name of each class.
  """

  def __init__(self, labels: Iterable[str]):
    """Makes classes of training labels, in any order.

    Raises:
      ValueError: When two labels are one number, but not written alike.
    """
    found = set(labels)
    self._as_integers = all(_integer(label) is not None for label in found)
    names = {self._name(label) for label in found}
    self.names = tuple(_sorted(names))
    self._numbers = {name: number for number, name in enumerate(self.names)}

  def numbers(self, labels: Iterable[str]) -> Array:
    """Returns int32 [n]; -1 for a label that is none of the classes."""
    return np.array(
      [self._numbers.get(self._name(label), -1) for label in labels], np.int32
    )

  def _name(self, label: str) -> str:
    number = _integer(label)
    return label if number is None or not self._as_integers else str(number)


def _sorted(names: set[str]) -> list[str]:
  """Sorts names as numbers where they all are some, otherwise as text."""
  numbers = {name: _number(name) for name in sorted(names)}
  if None in numbers.values():
    return list(numbers)
  ordered = sorted(numbers, key=lambda name: numbers[name] or 0)
  for one, other in itertools.pairwise(ordered):
    if numbers[one] == numbers[other]:
      raise ValueError(
        f"{texts.value(one)} and {texts.value(other)} are the same number; write a label "
        "alike in all rows, and labels that are no numbers with a letter"
      )
  return ordered


def _number(name: str) -> Optional[Fraction]:
  # The exponent is bounded, for the fraction holds all digits.
  plain = len(name) <= _MAX_DIGITS and table_columns.is_number(name)
  return Fraction(name) if plain and "e" not in name.lower() else None


def _integer(label: str) -> Optional[int]:
  digits = label[1:] if label[:1] in ("+", "-") else label
  plain = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
  return int(label) if plain else None
