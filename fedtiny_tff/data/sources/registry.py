"""The datasets by name; each is imported when it is opened."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fedtiny_tff import suggestions
from fedtiny_tff.data.sources.options import TFDS_PREFIX, SourceOptions
from fedtiny_tff.errors import InputError
from fedtiny_tff.plugins import Deferred

if TYPE_CHECKING:  # TensorFlow takes seconds to import and command lines read this.
  from fedtiny_tff.data.examples import Dataset


class Source(NamedTuple):
  """Where examples come from.

  Attributes:
    open: From options to the dataset; raises `InputError` when files are missing or
      not what they are said to be.
    reads: Fields of `SourceOptions` that it has a use for.
  """

  open: Callable[[SourceOptions], "Dataset"]
  reads: frozenset[str] = frozenset()


_FILES = frozenset({"data_dir"})
_IMAGES = _FILES | {"image_size"}
_FOLDERS = frozenset({"client_separator"})
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

_STANDARD = Deferred("fedtiny_tff.data.sources.image_records:open_standard")
_OPEN_TFDS = Deferred("fedtiny_tff.data.sources.tfds_images:open_tfds")

SOURCES: dict[str, Source] = {
  "digits": Source(Deferred("fedtiny_tff.data.sources.digits:open_digits")),
  **{
    name: Source(functools.partial(_STANDARD, name), _TFDS)
    for name in ("cifar10", "cifar100", "svhn", "cinic10")
  },
  "client_tfrecord": Source(
    Deferred("fedtiny_tff.data.sources.client_records:open_client_tfrecord"),
    _IMAGES | _SPLIT | _SIGNALS,
  ),
  "client_sqlite": Source(
    Deferred("fedtiny_tff.data.sources.client_sqlite:open_client_sqlite"),
    _IMAGES | _SPLIT | _SIGNALS,
  ),
  "image_folder": Source(
    Deferred("fedtiny_tff.data.sources.image_folder:open_image_folder"),
    _TFDS | _FOLDERS,
  ),
  "audio_folder": Source(
    Deferred("fedtiny_tff.data.sources.audio_folder:open_audio_folder"),
    _SPLIT | _SIGNALS | _FOLDERS | {"feature_shape"},
  ),
  "csv": Source(Deferred("fedtiny_tff.data.sources.tables:open_csv"), _TABLES),
  "parquet": Source(Deferred("fedtiny_tff.data.sources.tables:open_parquet"), _TABLES),
  "emnist": Source(
    Deferred("fedtiny_tff.data.sources.tff_federations:open_emnist"), _FILES
  ),
  "cifar100_natural": Source(
    Deferred("fedtiny_tff.data.sources.tff_federations:open_cifar100_natural"), _IMAGES
  ),
  "synthetic": Source(
    Deferred("fedtiny_tff.data.sources.synthetic:open_synthetic"), _SYNTHETIC
  ),
}


def is_tfds(name: str) -> bool:
  """Tells whether a name asks for a dataset of tensorflow-datasets."""
  return name.startswith(TFDS_PREFIX) and name != TFDS_PREFIX


def _find(name: str) -> Source:
  if is_tfds(name):
    wanted = name.removeprefix(TFDS_PREFIX)
    return Source(functools.partial(_OPEN_TFDS, wanted), _TFDS)
  if name not in SOURCES:
    raise InputError(
      f"unknown dataset {name!r}: choose one of {', '.join(SOURCES)}, or "
      f"{TFDS_PREFIX}NAME{suggestions.question(name, SOURCES)}"
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
      if field.name == "extraction":
        raise InputError(
          f"--feature_extraction: of dataset {name} no spectra can be made; leave the flag "
          "out, or read recordings as audio_folder (docs/own_data.md, Audio)"
        )
      raise InputError(
        f"--{field.name}: dataset {name} has no use for it; leave the flag out"
      )


def load(name: str, options: SourceOptions) -> "Dataset":
  """Opens a dataset.

  Args:
    name: Key of `SOURCES`, or `tfds:NAME`.
    options: Where its files are and how they are to be read.

  Raises:
    InputError: When the name is unknown, an option does not concern the dataset, or
      files are missing or not what they are said to be.
  """
  from fedtiny_tff.data.sources import signals  # noqa: PLC0415

  source = _find(name)
  refuse_unread(name, source.reads, options)
  return signals.with_extraction(source.open(options), options)
