"""The datasets by name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

from fedtiny_tff.data.examples import Dataset
from fedtiny_tff.data.sources import (
  client_records,
  client_sqlite,
  digits,
  image_folder,
  image_records,
  signals,
  standard_images,
  synthetic,
  tables,
  tfds_images,
  tff_federations,
)
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError


class Source(NamedTuple):
  """Where examples come from.

  Attributes:
    open: From options to the dataset; raises `InputError` when files are missing or
      not what they are said to be.
    reads: Fields of `SourceOptions` that it has a use for.
  """

  open: Callable[[SourceOptions], Dataset]
  reads: frozenset[str] = frozenset()


_FILES = frozenset({"data_dir"})
_IMAGES = _FILES | {"image_size"}
_SPLIT = _FILES | {"test_share"}
_SIGNALS = frozenset({"extraction", "sample_rate_hz"})
_TABLES = _SPLIT | _SIGNALS | {
  "feature_shape", "label_column", "client_column", "feature_columns", "window_rows",
  "window_stride_rows",
}  # fmt: skip
_SYNTHETIC = frozenset(
  {"test_share", "synthetic_clients", "synthetic_examples_per_client"}
)
_TFDS = _IMAGES | _SPLIT | {"image_channels"}

SOURCES: dict[str, Source] = {
  "digits": Source(digits.open_digits),
  **{
    name: Source(functools.partial(image_records.open_standard, name), _TFDS)
    for name in standard_images.STANDARD_IMAGES
  },
  client_records.NAME: Source(
    client_records.open_client_tfrecord, _IMAGES | _SPLIT | _SIGNALS
  ),
  client_sqlite.NAME: Source(
    client_sqlite.open_client_sqlite, _IMAGES | _SPLIT | _SIGNALS
  ),
  image_folder.NAME: Source(image_folder.open_image_folder, _TFDS),
  "csv": Source(tables.open_csv, _TABLES),
  "parquet": Source(tables.open_parquet, _TABLES),
  "emnist": Source(tff_federations.open_emnist, _FILES),
  "cifar100_natural": Source(tff_federations.open_cifar100_natural, _IMAGES),
  synthetic.NAME: Source(synthetic.open_synthetic, _SYNTHETIC),
}


def is_tfds(name: str) -> bool:
  """Tells whether a name asks for a dataset of tensorflow-datasets."""
  return name.startswith(tfds_images.PREFIX) and name != tfds_images.PREFIX


def _find(name: str) -> Source:
  if is_tfds(name):
    wanted = name.removeprefix(tfds_images.PREFIX)
    return Source(functools.partial(tfds_images.open_tfds, wanted), _TFDS)
  if name not in SOURCES:
    raise InputError(
      f"unknown dataset {name!r}: choose one of {', '.join(SOURCES)}, or "
      f"{tfds_images.PREFIX}NAME"
    )
  return SOURCES[name]


def refuse_unread(name: str, reads: frozenset[str], options: SourceOptions) -> None:
  """Refuses options that do not concern a dataset.

  Args:
    name: What it is called.
    reads: Fields of `SourceOptions` that it has a use for.
    options: What was given.

  Raises:
    InputError: Naming the flag.
  """
  for field in dataclasses.fields(options):
    is_read = field.name in reads
    if not is_read and getattr(options, field.name) != field.default:
      flag = {"extraction": "feature_extraction"}.get(field.name, field.name)
      raise InputError(
        f"--{flag}: dataset {name} has no use for it; leave the flag out"
      )


def load(name: str, options: SourceOptions) -> Dataset:
  """Opens a dataset.

  Args:
    name: Key of `SOURCES`, or `tfds:NAME`.
    options: Where its files are and how they are to be read.

  Raises:
    InputError: When the name is unknown, an option does not concern the dataset, or
      files are missing or not what they are said to be.
  """
  source = _find(name)
  refuse_unread(name, source.reads, options)
  return signals.with_extraction(source.open(options), options)
