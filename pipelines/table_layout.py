"""The columns of a run's table, for those who give the model what a sensor gives."""

import pathlib

from fedtiny_tff.data.sources.options import SourceOptions


def columns(dataset: str, options: SourceOptions) -> tuple[str, ...]:
  """Returns the columns whose numbers, row after row, are a raw example.

  Args:
    dataset: Key of `SOURCES`.
    options: What it was opened with.

  Returns:
    Their names in order; empty where examples come from no table.

  Raises:
    InputError: When the table is none.
  """
  if dataset not in ("csv", "parquet") or not options.data_dir:
    return ()
  # Where there are no tables, pyarrow need not be loaded.
  from fedtiny_tff.data.sources import table_columns, table_files

  openers = {"csv": table_files.open_csv, "parquet": table_files.open_parquet}
  path = pathlib.Path(options.data_dir)
  train = path / f"train.{dataset}" if path.is_dir() else path
  return table_columns.choose(openers[dataset](train), options).features
