"""Columns of a table: which hold what, and their cells as codes and numbers."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Optional

import numpy as np
import pyarrow as pa
import pyarrow.compute

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.sources import texts
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.data.sources.table_files import TableFile
from fedtiny_tff.errors import InputError

SPLIT_COLUMN = "split"
_ROWS_LOOKED_AT = 1000
_NAMES_SHOWN = 8
_NAMES_TOLD = 12
# How pandas calls the numbers of rows when it reads again what it wrote.
_ROW_NUMBERS = ("", "Unnamed: 0")
# How it calls the columns of an index without a name, which others may copy.
_UNNAMED_INDEX = re.compile(r"__index_level_[0-9]+__")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclasses.dataclass(frozen=True)
class Columns:
  """Which columns of a table hold what.

  Attributes:
    label: What an example shows.
    client: Whose it is; None where the table does not say.
    split: "train" or "test"; None where the table does not say.
    features: Numbers, in the order of an example's features.
  """

  label: str
  client: Optional[str]
  split: Optional[str]
  features: tuple[str, ...]

  @property
  def keys(self) -> list[str]:
    """All that are no features."""
    return [name for name in (self.label, self.client, self.split) if name]


def choose(table: TableFile, options: SourceOptions) -> Columns:
  """Finds a table's columns.

  Where none are named, features are all other columns of numbers, without the index of
  a pandas frame, which tells rows apart. In CSV these are the columns with numbers in
  most of those of the first 1,000 cells that are not empty.

  Raises:
    InputError: When columns are missing or cannot hold what they are to hold.
  """
  client: Optional[str] = options.client_column
  if client not in table.types:
    if client != SourceOptions().client_column:
      raise _missing(table, options.client_column, "--client_column")
    client = None
  if options.label_column not in table.types:
    raise _missing(table, options.label_column, "--label_column")
  split = SPLIT_COLUMN if SPLIT_COLUMN in table.types else None
  keys = Columns(options.label_column, client, split, ()).keys
  _check_keys(table, keys)
  for name in options.feature_columns:
    if name not in table.types:
      raise _missing(table, name, "--feature_columns")
    if name in keys:
      raise InputError(
        f"--feature_columns: {texts.value(name)} holds labels, clients or splits; "
        "leave it out"
      )
    kind = table.types[name]
    if not _is_text(kind) and not _is_numeric(kind):
      raise InputError(
        f"{table.path}: column {texts.value(name)} is of type {kind}, expected numbers; "
        "lists want a column for each value, or --dataset=client_tfrecord"
      )
  features = options.feature_columns or _numeric_columns(table, keys)
  return Columns(options.label_column, client, split, features)


def _check_keys(table: TableFile, keys: Sequence[str]) -> None:
  """Refuses a column in two roles, and one that cannot hold names."""
  for name in keys:
    kind = table.types[name]
    if keys.count(name) > 1:
      raise InputError(
        f"{table.path}: column {texts.value(name)} is to hold two of labels, owners and "
        "splits; name others with --label_column and --client_column"
      )
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
      raise InputError(
        f"{table.path}: column {texts.value(name)} is of type {kind}, expected text, "
        "integers or booleans; write it as one of these"
      )


def told(table: TableFile, columns: Columns) -> str:
  """Says which columns hold what, and which are not used."""

  def names(of: Sequence[str]) -> str:
    shown = [texts.value(name) for name in of[:_NAMES_TOLD]]
    more = f" and {len(of) - _NAMES_TOLD} more" if len(of) > _NAMES_TOLD else ""
    return ", ".join(shown) + more

  used = {*columns.keys, *columns.features}
  left = [name for name in table.types if name not in used]
  parts = [
    f"labels: {texts.value(columns.label)}",
    f"owners: {texts.value(columns.client)}" if columns.client else "owners: nobody",
    f"features: {names(columns.features)}",
  ]
  if left:
    parts.append(f"not used: {names(left)}")
  return f"columns of {table.path}: {'; '.join(parts)}"


def _missing(table: TableFile, name: str, flag: str) -> InputError:
  names = [texts.value(other) for other in table.types]
  more = ", ..." if len(names) > _NAMES_SHOWN else ""
  if any(other != other.strip() for other in table.types):
    more += "; spaces around names count, so remove them"
  return InputError(
    f"{table.path}: has no column {texts.value(name)} ({flag}); its columns are "
    f"{', '.join(names[:_NAMES_SHOWN])}{more}"
  )


def _is_text(kind: pa.DataType) -> bool:
  if pa.types.is_dictionary(kind):
    kind = kind.value_type
  return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_numeric(kind: pa.DataType) -> bool:
  return bool(
    pa.types.is_integer(kind)
    or pa.types.is_floating(kind)
    or pa.types.is_decimal(kind)
    or pa.types.is_boolean(kind)
  )


def _numeric_columns(table: TableFile, keys: Sequence[str]) -> tuple[str, ...]:
  others = [
    name
    for name in table.types
    if name not in keys
    and name not in table.index
    and not _UNNAMED_INDEX.fullmatch(name)
  ]
  found = tuple(name for name in others if _is_numeric(table.types[name]))
  as_text = [name for name in others if pa.types.is_string(table.types[name])]
  if not found and as_text:
    found = tuple(_numeric_by_cells(table, as_text))
  if not found:
    raise InputError(
      f"{table.path}: no column of numbers is left for features; name them with "
      "--feature_columns (lists want a column for each value)"
    )
  unnamed = [name for name in found if name in _ROW_NUMBERS]
  if unnamed:
    raise InputError(
      f"{table.path}: a column of numbers has no name ({unnamed[0]!r}): delete it, for "
      "it may count the rows, or choose columns with --feature_columns"
    )
  return found


def _numeric_by_cells(table: TableFile, names: Sequence[str]) -> list[str]:
  """Returns the columns of text most of whose first cells are numbers."""
  first = next(iter(table.batches(names)), None)
  if first is None or not first.num_rows:
    raise InputError(f"{table.path}: has no rows; add some")
  first = first.slice(0, _ROWS_LOOKED_AT)
  found = []
  for name in names:
    cells = first.column(name)
    numbers = np.count_nonzero(np.isfinite(as_numbers(cells)))
    empty = pyarrow.compute.sum(pyarrow.compute.equal(as_text(cells), "")).as_py() or 0
    if 2 * numbers > len(cells) - empty:
      found.append(name)
  return found


def as_text(cells: pa.Array) -> pa.StringArray:
  """Returns cells as text without spaces around it; nulls stay."""
  return pyarrow.compute.utf8_trim_whitespace(cells.cast(pa.string()))


def as_numbers(cells: pa.Array) -> Array:
  """Returns cells as float64 [n]; NaN for what is empty or no number."""
  if _is_text(cells.type):
    text = as_text(cells)
    # Not by trial and error: the same cell must be the same number whatever others
    # stand in its batch.
    is_number = pyarrow.compute.match_substring_regex(text, _NUMBER)
    cells = pyarrow.compute.if_else(is_number, text, pa.scalar(None, pa.string()))
  elif pa.types.is_boolean(cells.type):
    cells = cells.cast(pa.int8())
  numbers = cells.cast(pa.float64(), safe=False)
  values: Array = numbers.to_numpy(zero_copy_only=False)
  return values


def is_number(text: str) -> bool:
  """Whether a cell's text is a number."""
  return re.fullmatch(_NUMBER, text) is not None


class Codes:
  """Numbers texts from 0 in the order in which they are first seen."""

  def __init__(self) -> None:
    """Knows none yet."""
    self._codes: dict[str, int] = {}

  @property
  def names(self) -> list[str]:
    """All texts, by number."""
    return list(self._codes)

  def of(self, cells: pa.StringArray) -> Array:
    """Returns int32 [n]; -1 for what is no name."""
    encoded = cells.dictionary_encode()
    codes = [
      -1
      if texts.problem_of_name(name)
      else self._codes.setdefault(texts.composed(name), len(self._codes))
      for name in encoded.dictionary.to_pylist()
    ]
    # Nulls stand at the end.
    places = encoded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
    found: Array = np.array([*codes, -1], np.int32)[places]
    return found
