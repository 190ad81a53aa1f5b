"""Tables that are written and opened, and how they are refused."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from fedtiny_tff.data.examples import Dataset
from fedtiny_tff.data.sources import tables
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

PLAIN = "label,x,y\nup,1,2\ndown,3,4\n"


def made_csv(path: pathlib.Path, text: str | bytes, **options: Any) -> Dataset:
  """Opens a CSV file of a text, all of it to train on."""
  path.write_bytes(text.encode() if isinstance(text, str) else text)
  return tables.open_csv(SourceOptions(data_dir=str(path), test_share=0.0, **options))


def made_parquet(
  path: pathlib.Path, columns: Mapping[str, Any] | pa.Table, **options: Any
) -> Dataset:
  """Opens a Parquet file of columns, all of it to train on."""
  table = columns if isinstance(columns, pa.Table) else pa.table(columns)
  pyarrow.parquet.write_table(table, path)
  return tables.open_parquet(
    SourceOptions(data_dir=str(path), test_share=0.0, **options)
  )


def refused(
  message: str, open_table: Callable[..., Dataset], *arguments: Any, **options: Any
) -> None:
  """Holds that a table is refused, at the latest when it is read, in one line."""
  with pytest.raises(InputError, match=message) as caught:
    list(open_table(*arguments, **options).read("train", lambda bad: None))
  assert len(str(caught.value).splitlines()) == 1
