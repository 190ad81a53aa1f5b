"""Tables of numbers: CSV and Parquet files, each row or window of rows an example."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

import numpy as np

from fedtiny_tff.data.examples import (
  TEST,
  TRAIN,
  Batch,
  Dataset,
  DatasetInfo,
  OnBadRecord,
)
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import (
  table_columns,
  table_files,
  table_parts,
  table_rows,
  texts,
  unsafe,
)
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.data.sources.table_columns import SPLIT_COLUMN, Columns
from fedtiny_tff.data.sources.table_files import TableFile
from fedtiny_tff.data.sources.table_parts import Part
from fedtiny_tff.data.sources.table_rows import Classes, Rows
from fedtiny_tff.errors import InputError

_SHOWN_COLUMNS = 6

OpenFile = Callable[[pathlib.Path], TableFile]


def open_csv(options: SourceOptions) -> Dataset:
  """Examples from CSV: UTF-8, commas, column names in the first row.

  What rows become is told at `open_tables`. Messages count the header as row 1, and no
  blank lines.

  Raises:
    InputError: When the files are no such tables.
  """
  return open_tables("csv", table_files.open_csv, options)


def open_parquet(options: SourceOptions) -> Dataset:
  """Examples from Parquet; see `open_tables`. Messages count rows from 1.

  Raises:
    InputError: When the files are no such tables.
  """
  return open_tables("parquet", table_files.open_parquet, options)


def open_tables(kind: str, open_file: OpenFile, options: SourceOptions) -> Dataset:
  """Opens one table, or two: a file, or a folder with train.* and perhaps test.*.

  Each row is an example; or each window of `window_rows` consecutive rows of one
  client and label is one. Windows begin every `window_stride_rows` rows; rows at the
  end of such a run that make no whole window are left out. A window that touches a bad
  row is left out too.

  The test split is the second table; or the rows that the column `split` calls so; or
  a share that is held out, so that no row is in both splits. Classes are the labels of
  the training split.

  Raises:
    InputError: When the files are no such tables.
  """
  train_path, test_path = _paths(kind, options)
  table = open_file(train_path)
  columns = table_columns.choose(table, options)
  shape = _shape(options, columns.features)
  rows = table_rows.read_rows(table, columns)
  classes = _classes(table, columns, rows)
  training = table_parts.whole(table, columns, rows, classes, options)
  if test_path is not None:
    test = _test_table(open_file(test_path), columns, classes, options)
    parts = {TRAIN: training, TEST: test}
    if columns.split is not None:
      raise _two_splits(table, test_path)
  elif columns.split is not None:
    parts = table_parts.by_column(training, rows.in_test)
  else:
    parts = table_parts.held_out(training, options)
  _check(parts, columns.split is not None or test_path is not None, options)
  info = DatasetInfo(
    name=kind,
    shape=shape,
    feature_type="float32",
    class_names=classes.names,
    preprocessing=Preprocessing(1.0, (0.0,), (1.0,)),
    columns=columns.features,
  )
  has_clients = columns.client is not None

  def read(split: str, on_bad_record: OnBadRecord) -> Iterator[Batch]:
    return table_parts.read(parts[split], shape, has_clients, on_bad_record)

  return Dataset(
    info,
    read,
    has_clients,
    measures_inputs=True,
    overlap=table_parts.overlap(options),
    notes=(table_columns.told(table, columns),),
  )


def _paths(
  kind: str, options: SourceOptions
) -> tuple[pathlib.Path, Optional[pathlib.Path]]:
  """Returns the table to train on and perhaps one to test on."""
  if not options.data_dir:
    raise InputError(
      f"dataset {kind} needs --data_dir: a .{kind} file, or a folder with "
      f"train.{kind} and perhaps test.{kind}"
    )
  path = pathlib.Path(options.data_dir)
  train = path / f"train.{kind}" if path.is_dir() else path
  if path.is_file() or not train.is_file():
    unsafe.refuse_pickles(path)
  if not train.is_file():
    raise InputError(
      f"dataset {kind}: {texts.one_line(str(train))} not found; check --data_dir"
    )
  test = path / f"test.{kind}"
  return train, test if path.is_dir() and test.exists() else None


def _shape(options: SourceOptions, names: Sequence[str]) -> tuple[int, ...]:
  """Returns the shape of an example of some columns."""
  columns = len(names)
  for flag, value in (
    ("--window_rows", options.window_rows),
    ("--window_stride_rows", options.window_stride_rows),
  ):
    if value < 0:
      raise InputError(f"{flag} must be 0 or more, got {value}")
  if options.window_stride_rows and not options.window_rows:
    raise InputError(
      f"--window_stride_rows={options.window_stride_rows}: there are no windows without "
      "--window_rows; give that as well, or leave this out"
    )
  natural = (options.window_rows, columns) if options.window_rows else (columns,)
  shape = options.feature_shape or natural
  if math.prod(shape) != math.prod(natural):
    wanted = ",".join(map(str, shape))
    rows = f"{options.window_rows} rows of " if options.window_rows else ""
    raise InputError(
      f"--feature_shape={wanted} holds {math.prod(shape)} numbers, but an example is "
      f"{rows}{columns} columns ({_listed(names)}): {math.prod(natural)}; choose columns "
      "with --feature_columns, or give a shape of as many"
    )
  return shape


def _classes(table: TableFile, columns: Columns, rows: Rows) -> Classes:
  """Returns the classes of the training split."""
  codes = np.unique(rows.labels[~rows.in_test & (rows.labels >= 0)])
  try:
    classes = Classes(rows.label_names[code] for code in codes)
  except ValueError as error:
    column = texts.value(columns.label)
    raise InputError(f"{table.path}: column {column}: labels {error}") from error
  if len(classes.names) > 1:
    return classes
  found = f"{texts.value(classes.names[0])} only" if classes.names else "nothing usable"
  bad = next(iter(rows.bad_records.values()), None)
  left_out = f"; left out: {bad}" if bad else ""
  raise InputError(
    f"{table.path}: column {texts.value(columns.label)} holds {found} in the training "
    f"split, but training needs two classes{left_out}"
  )


def _test_table(
  table: TableFile, columns: Columns, classes: Classes, options: SourceOptions
) -> Part:
  """Makes examples of a second table, with the columns of the first."""
  same = dataclasses.replace(options, feature_columns=columns.features)
  own = table_columns.choose(table, same)
  if own.split is not None:
    raise _two_splits(table, table.path)
  rows = table_rows.read_rows(table, own)
  return table_parts.whole(table, own, rows, classes, options)


def _two_splits(table: TableFile, test: pathlib.Path | str) -> InputError:
  return InputError(
    f"{table.path}: has a column {SPLIT_COLUMN}, but there is a file "
    f"{texts.one_line(str(test))} too; keep one of the two"
  )


def _check(parts: dict[str, Part], test_is_given: bool, options: SourceOptions) -> None:
  """Refuses splits without examples."""
  for split, part in parts.items():
    if len(part.windows) or (split == TEST and not test_is_given):
      continue
    rows = options.window_rows
    window = f": no {rows} rows on end are of one client and label" if rows else ""
    raise InputError(
      f"{part.table.path}: has no example to {split} on{window}; add rows"
    )


def _listed(names: Sequence[str]) -> str:
  """Names some columns, and counts the others."""
  shown = ", ".join(texts.one_line(name) for name in names[:_SHOWN_COLUMNS])
  more = len(names) - _SHOWN_COLUMNS
  return f"{shown} and {more} more" if more > 0 else shown
