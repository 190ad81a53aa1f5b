"""Tables on disk, batch by batch: CSV and Parquet."""

import codecs
import collections
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Optional

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError

# A row must fit into a block, and there are rows of thousands of columns.
_CSV_BLOCK_BYTES = 8 * 2**20
_PARQUET_BATCH_CELLS = 2**20
_LONGEST_HEADER_BYTES = 2**20
_OTHER_SEPARATORS = {b";": "semicolons", b"\t": "tabs", b"|": "bars"}
_NOT_UTF_8 = "is not UTF-8 text; save it as UTF-8"


@dataclasses.dataclass(frozen=True)
class TableFile:
  """A table that can be streamed any number of times.

  Attributes:
    path: Where it lies, as messages show it.
    types: Arrow type of each column by name, in the file's order.
    first_row: Number of the first row of data: 2 in CSV, where the header is row 1
      (blank lines do not count), and 1 in Parquet.
    batches: Streams the named columns, in batches of any size.
    index: Columns that are the index of the pandas frame that was written.
  """

  path: str
  types: Mapping[str, pa.DataType]
  first_row: int
  batches: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
  index: frozenset[str] = frozenset()


@contextlib.contextmanager
def _explained(path: str, ragged: Optional[list[str]] = None) -> Iterator[None]:
  """Turns what pyarrow raises into one line that names the file."""
  try:
    yield
  except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
    if ragged:
      reason = ragged[0]
    elif isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
      reason = _NOT_UTF_8
    else:
      reason = f"cannot be read: {texts.one_line(str(error).splitlines()[0])}"
    raise InputError(f"{path}: {reason}") from error


def _named_once(path: str, schema: pa.Schema) -> dict[str, pa.DataType]:
  names = schema.names
  twice = sorted(
    name for name, count in collections.Counter(names).items() if count > 1
  )
  if twice:
    raise InputError(
      f"{path}: column {texts.value(twice[0])} occurs more than once; rename it"
    )
  return dict(zip(names, schema.types, strict=True))


def open_csv(path: pathlib.Path) -> TableFile:
  """Opens text with commas and one line of column names; all columns are text.

  Raises:
    InputError: When there is no such table; later, when rows differ in length or the
      text is not UTF-8.
  """
  shown = texts.one_line(str(path))
  ragged: list[str] = []

  def note(row: "pyarrow.csv.InvalidRow") -> str:
    ragged.append(
      f"row {row.number} (the header is row 1) has {row.actual_columns} cells, expected "
      f"{row.expected_columns}"
    )
    return "error"

  def reader(names: Sequence[str]) -> "pyarrow.csv.CSVStreamingReader":
    return pyarrow.csv.open_csv(
      path,
      # Rows have numbers only where one thread reads them.
      pyarrow.csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
      pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
      pyarrow.csv.ConvertOptions(
        include_columns=list(names),
        column_types={name: pa.string() for name in names},
        strings_can_be_null=False,
      ),
    )

  def batches(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with _explained(shown, ragged), reader(names) as rows:
      yield from rows

  with _explained(shown, ragged):
    _refuse_other_forms(path, shown)
    with reader(()) as header:
      types = _named_once(shown, header.schema)
  return TableFile(shown, dict.fromkeys(types, pa.string()), 2, batches)


def _refuse_other_forms(path: pathlib.Path, shown: str) -> None:
  """Names what spreadsheets write instead of UTF-8 with commas."""
  with path.open("rb") as file:
    start = file.readline(_LONGEST_HEADER_BYTES)
  if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
    raise InputError(f"{shown}: {_NOT_UTF_8}")
  for separator, called in _OTHER_SEPARATORS.items():
    if separator in start and b"," not in start:
      raise InputError(
        f"{shown}: cells are separated by {called}; write it with commas between them, "
        "and with points in numbers"
      )


def open_parquet(path: pathlib.Path) -> TableFile:
  """Opens a Parquet file.

  Raises:
    InputError: When it is none; later, when it is damaged.
  """
  shown = texts.one_line(str(path))

  def batches(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    rows = max(_PARQUET_BATCH_CELLS // max(len(names), 1), 1)
    with _explained(shown), pyarrow.parquet.ParquetFile(path) as file:
      for batch in file.iter_batches(min(rows, 2**16), columns=list(names)):
        # Text that is no UTF-8 would come up later, where nobody knows the file.
        batch.validate(full=True)
        yield batch

  with _explained(shown), pyarrow.parquet.ParquetFile(path) as file:
    types = _named_once(shown, file.schema_arrow)
    index = _index_of_pandas(file.schema_arrow)
  return TableFile(shown, types, 1, batches, index)


def _index_of_pandas(schema: pa.Schema) -> frozenset[str]:
  """Returns the columns that pandas says are its index; none where it says nothing.

  Format: https://pandas.pydata.org/docs/development/developer.html
  """
  try:
    stated = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    named = stated["index_columns"]
    # What counts rows only is an object, without a column.
    return frozenset(name for name in named if isinstance(name, str))
  except (LookupError, RecursionError, TypeError, ValueError):
    return frozenset()  # Not pandas, whose notes are no part of the table.
