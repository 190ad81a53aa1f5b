"""The data flags, checked, as the libraries want them."""

import pathlib
from typing import Any, Optional

from absl import flags

from fedtiny_tff import suggestions
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.partitioners import PARTITIONERS
from fedtiny_tff.data.signal_extraction import LogMel, Mfcc
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from pipelines.settings import choices

PREPARED = choices.PREPARED
_LARGEST_SIDE = 1 << 14
# Signals are longer than images are wide: half an hour at 8 kHz.
_LONGEST_EXAMPLE = 1 << 24
_MOST_PIXELS = 1 << 22
# Python refuses to read numbers of thousands of digits.
_MOST_DIGITS = 9
FEATURE_EXTRACTIONS = (NO_EXTRACTION.kind, LogMel.kind, Mfcc.kind)


# Flags that decide who gets what; of prepared data that was decided before.
ASSIGNMENT = (
  "partitioner", "dirichlet_alpha", "shards_per_client", "quantity_sigma",
  "partition_file", "public_samples_per_class", "on_bad_record",
)  # fmt: skip


def check_assignment(
  values: dict[str, Any], prepared: dict[str, Any], folder: pathlib.Path
) -> None:
  """Makes sure that nobody asks for another assignment than prepared data have.

  Args:
    values: Flag name to value.
    prepared: The flags of `ASSIGNMENT` they were prepared with.
    folder: Where they are.

  Raises:
    InputError: Naming a flag that was given and says something else.
  """
  for name in ASSIGNMENT:
    default = flags.FLAGS[name].default
    before = prepared.get(name, default)
    if values[name] not in (default, before):
      raise InputError(
        f"--{name}={values[name]}: the data in {folder} were prepared with {before}; "
        "leave the flag out, or prepare them again"
      )


def check_saved_clients(values: dict[str, Any], saved: int) -> None:
  """Makes sure that nobody asks for other clients than a partition file has.

  Raises:
    InputError: When `--num_clients` was given and says something else.
  """
  asked = values["num_clients"]
  if asked not in (0, flags.FLAGS["num_clients"].default, saved):
    raise InputError(
      f"--num_clients={asked}, but --partition_file has {saved} clients; leave the flag "
      "out"
    )


def check(values: dict[str, Any]) -> None:
  """Checks the flags that no table of choices or ranges covers.

  Args:
    values: Flag name to value.

  Raises:
    InputError: Naming the flag, the value found and what is allowed.
  """
  name = values["dataset"]
  if name not in (*sources.SOURCES, PREPARED) and not sources.is_tfds(name):
    known = ", ".join([*sources.SOURCES, PREPARED])
    raise InputError(
      f"--dataset must be one of {known}, or tfds:NAME, got {name!r}"
      f"{suggestions.question(name, choices.OPEN['dataset'])}"
    )
  partitioner = values["partitioner"]
  if partitioner is not None:
    choices.check("partitioner", partitioner, PARTITIONERS)
  if not 0.0 < values["test_share"] < 1.0:
    raise InputError(f"--test_share must be in (0, 1), got {values['test_share']:g}")
  if values["image_channels"] not in (1, 3):
    raise InputError(f"--image_channels must be 1 or 3, got {values['image_channels']}")
  if values["quantity_sigma"] < 0.0:
    raise InputError(
      f"--quantity_sigma must be at least 0, got {values['quantity_sigma']:g}"
    )
  separator = values["client_separator"]
  if separator != separator.rstrip() or not separator.isprintable():
    raise InputError(
      f"--client_separator={separator!r:.60}: ends in white space or cannot be printed, "
      "which no file of flags keeps; rename the files, or choose another"
    )
  choices.check("feature_extraction", values["feature_extraction"], FEATURE_EXTRACTIONS)
  size = _image_size(values["image_size"])
  if size is not None and size[0] * size[1] > _MOST_PIXELS:
    raise InputError(
      f"--image_size={values['image_size']}: more than {_MOST_PIXELS:,} pixels an image; "
      "choose a smaller one"
    )
  _feature_shape(values["feature_shape"])


def source_options(values: dict[str, Any]) -> SourceOptions:
  """Returns how a dataset is to be read."""
  return SourceOptions(
    data_dir=values["data_dir"],
    image_size=_image_size(values["image_size"]),
    image_channels=values["image_channels"],
    client_separator=values["client_separator"],
    feature_shape=_feature_shape(values["feature_shape"]),
    label_column=values["label_column"],
    client_column=values["client_column"],
    feature_columns=tuple(values["feature_columns"]),
    window_rows=values["window_rows"],
    window_stride_rows=values["window_stride_rows"],
    extraction=values["feature_extraction"],
    sample_rate_hz=values["sample_rate_hz"],
    test_share=values["test_share"],
    synthetic_clients=values["synthetic_clients"],
    synthetic_examples_per_client=values["synthetic_examples_per_client"],
  )


def _sizes(flag: str, texts: list[str], most: int, example: str) -> tuple[int, ...]:
  if not all(
    text.isascii()
    and text.isdigit()
    and len(text) <= _MOST_DIGITS
    and 0 < int(text) <= most
    for text in texts
  ):
    raise InputError(
      f"--{flag} must be whole numbers from 1 to {most} like {example}, got "
      f"{','.join(texts)!r:.80}"
    )
  return tuple(int(text) for text in texts)


def _image_size(text: Optional[str]) -> Optional[tuple[int, int]]:
  if not text:
    return None
  sides = text.split("x")
  if len(sides) != 2:
    raise InputError(f"--image_size must be HEIGHTxWIDTH like 32x32, got {text!r}")
  height, width = _sizes("image_size", sides, _LARGEST_SIDE, "32x32")
  return height, width


def _feature_shape(texts: list[str]) -> tuple[int, ...]:
  sides = [text.strip() for text in texts]
  return _sizes("feature_shape", sides, _LONGEST_EXAMPLE, "128,1,3")
