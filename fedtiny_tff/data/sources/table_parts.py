"""The splits of a table and how their examples are read."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import TEST, TRAIN, BadRecord, Batch, OnBadRecord
from fedtiny_tff.data.sources import (
  holdout,
  table_columns,
  table_rows,
  table_windows,
  texts,
)
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.data.sources.table_columns import Columns
from fedtiny_tff.data.sources.table_files import TableFile
from fedtiny_tff.data.sources.table_rows import Classes, Rows
from fedtiny_tff.data.sources.table_windows import Windows


@dataclasses.dataclass(frozen=True)
class Part:
  """A split of a table.

  Attributes:
    table: Where it lies.
    columns: Which columns hold what.
    windows: Its examples.
    labels: Class of each, int32 [examples].
    owners: Client of each, str [examples]; "" where the table has none.
    bad_records: What is wrong with rows that are in no example, by row from 0.
  """

  table: TableFile
  columns: Columns
  windows: Windows
  labels: Array
  owners: Array
  bad_records: Mapping[int, BadRecord]

  def chosen(self, mask: Array, bad_records: Mapping[int, BadRecord]) -> "Part":
    """Returns some of the examples, bool [examples], with these bad records."""
    return dataclasses.replace(
      self,
      windows=self.windows.chosen(mask),
      labels=self.labels[mask],
      owners=self.owners[mask],
      bad_records=bad_records,
    )


def _window(options: SourceOptions) -> tuple[int, int]:
  """Returns the rows of an example, and from one's start to the next one's."""
  rows = options.window_rows or 1
  return rows, options.window_stride_rows or rows


def overlap(options: SourceOptions) -> int:
  """Returns how many of the next windows share rows with one."""
  rows, stride = _window(options)
  return -(-rows // stride) - 1


def whole(
  table: TableFile,
  columns: Columns,
  rows: Rows,
  classes: Classes,
  options: SourceOptions,
) -> Part:
  """Makes examples of all rows that can be used, whatever split they say."""
  # Its last element is that of rows that cannot be used.
  numbers = np.append(classes.numbers(rows.label_names), -1)
  labels = numbers[rows.labels]
  bad = {**rows.bad_records}
  for row in np.flatnonzero((labels < 0) & (rows.labels >= 0)).tolist():
    found = texts.value(rows.label_names[rows.labels[row]])
    reason = f"{found} does not occur in the training split"
    bad[row] = table_rows.record(table, row, columns.label, reason)
  keys = np.stack([labels, rows.owners, rows.in_test], axis=1)
  windows = table_windows.cut(keys, labels >= 0, *_window(options))
  names = np.array(rows.client_names or [""], np.str_)
  owners = names[rows.owners[windows.starts]]
  return Part(table, columns, windows, labels[windows.starts], owners, bad)


def by_column(part: Part, in_test: Array) -> dict[str, Part]:
  """Splits examples by what their rows say: bool [rows]."""
  chosen = in_test[part.windows.starts]
  bad = part.bad_records
  return {
    TRAIN: part.chosen(~chosen, {row: bad[row] for row in bad if not in_test[row]}),
    TEST: part.chosen(chosen, {row: bad[row] for row in bad if in_test[row]}),
  }


def held_out(part: Part, options: SourceOptions) -> dict[str, Part]:
  """Holds a share of the examples out such that no row is in both splits."""
  owners = part.owners if part.columns.client else None
  is_test, in_neither = holdout.held_out(
    owners, part.labels, options.test_share, gap=overlap(options)
  )
  training = part.chosen(~is_test & ~in_neither, part.bad_records)
  return {TRAIN: training, TEST: part.chosen(is_test, {})}


def read(
  part: Part, shape: tuple[int, ...], has_clients: bool, on_bad_record: OnBadRecord
) -> Iterator[Batch]:
  """Streams a split's examples.

  Args:
    part: The split.
    shape: Shape of an example.
    has_clients: Whether to name the owners.
    on_bad_record: Told of each row that cannot be used, in the table's order: of those
      with bad features only where an example of this split needs them.
  """
  columns = len(part.columns.features)
  rows = _feature_rows(part, on_bad_record)
  for numbers, features in table_windows.gather(part.windows, rows, columns):
    if len(numbers):
      owners = part.owners[numbers] if has_clients else None
      labels = part.labels[numbers].astype(np.int64)
      yield Batch(features.reshape(len(numbers), *shape), labels, owners)


def _feature_rows(
  part: Part, on_bad_record: OnBadRecord
) -> Iterator[tuple[Array, Array]]:
  """Streams float32 [n, columns] and which rows have numbers only."""
  names = part.columns.features
  waiting = sorted(part.bad_records.items(), reverse=True)
  first = 0
  for batch in part.table.batches(list(dict.fromkeys(names))):
    numbers = [table_columns.as_numbers(batch.column(name)) for name in names]
    with np.errstate(over="ignore"):
      features = np.stack(numbers, axis=1).astype(np.float32)
    good = np.isfinite(features).all(axis=1)
    bad_rows = np.flatnonzero(~good)
    found = dict.fromkeys((bad_rows[part.windows.touched(bad_rows + first)]).tolist())
    while waiting and waiting[-1][0] < first + len(good):
      row, known = waiting.pop()
      found[row - first] = known
    for row in sorted(found):
      on_bad_record(found[row] or _explain(part, batch, features[row], first, row))
    yield features, good
    first += len(good)


def _explain(
  part: Part, batch: pa.RecordBatch, features: Array, first: int, row: int
) -> BadRecord:
  """Tells which feature of a row is no number."""
  name = part.columns.features[int(np.argmin(np.isfinite(features)))]
  cell = batch.column(name)[row].as_py()
  reason = f"{texts.value(cell)} is no finite float32 number"
  if cell is None or cell == "":
    reason = "is empty"
  return table_rows.record(part.table, first + row, name, reason)
