"""Own clients' SQLite files that are written, described and opened."""

import json
import pathlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from fedtiny_tff.data.examples import Dataset
from fedtiny_tff.data.sources import client_sqlite, sqlite_files
from fedtiny_tff.data.sources.options import SourceOptions


def serialized(label: int | float, **fields: Any) -> bytes:
  """Serializes an example; fields are floats, integers or bytes by their type."""
  features = {}
  for name, values in {"label": label, **fields}.items():
    listed = values if isinstance(values, list) else [values]
    feature = tf.train.Feature()
    kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    getattr(feature, kind[type(listed[0])]).value.extend(listed)
    features[name] = feature
  return tf.train.Example(
    features=tf.train.Features(feature=features)
  ).SerializeToString()


def write(
  path: pathlib.Path,
  rows: Iterable[tuple[str, str, bytes]],
  listed: Iterable[tuple[str, str, Any]] = (),
) -> None:
  """Writes (split, client, record), and what the table of clients says."""
  connection = sqlite3.connect(path)
  connection.execute("PRAGMA synchronous = OFF")
  for statement in sqlite_files.SCHEMA:
    connection.execute(statement)
  connection.executemany(sqlite_files.INSERT_EXAMPLE, rows)
  connection.executemany(sqlite_files.INSERT_CLIENT, listed)
  connection.commit()
  connection.close()


def describe(
  folder: pathlib.Path,
  shape: Sequence[int],
  splits: Mapping[str, Sequence[str]],
  **more: Any,
) -> None:
  """Writes the `dataset.json` of two classes."""
  document = {"shape": shape, "classes": ["a", "b"], "splits": splits, **more}
  (folder / "dataset.json").write_text(json.dumps(document))


def open_file(path: pathlib.Path, **options: Any) -> Dataset:
  """Opens a file, or the folder with its description."""
  return client_sqlite.open_client_sqlite(SourceOptions(data_dir=str(path), **options))
