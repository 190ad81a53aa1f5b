"""Examples made up on the way: any number of clients, nothing to download."""

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import (
  TEST,
  TRAIN,
  Batch,
  Dataset,
  DatasetInfo,
  OnBadRecord,
)
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

NAME = "synthetic"
_MIDDLE = 127.5
# A classifier that knows the prototypes is right about nine times in ten.
_PROTOTYPE_DEVIATION = 24.0
_NOISE_DEVIATION = 60.0
# Randomness is drawn for so many examples at a time, whatever is made of them: more
# clients change nothing for the first ones.
_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class SyntheticOptions:
  """What to make up.

  Attributes:
    clients: Number of clients.
    train_examples: Training examples of each client.
    test_examples: Test examples of each client.
    classes: Number of classes, which are equally likely everywhere.
    shape: Shape of an example.
    seed: Everything comes from it.
  """

  clients: int = 100
  train_examples: int = 20
  test_examples: int = 5
  classes: int = 10
  shape: tuple[int, ...] = (8, 8, 1)
  seed: int = 0


def open_synthetic(options: SourceOptions) -> Dataset:
  """Images of 8x8 grey pixels in ten classes, owned by clients.

  Of all examples of a client, `test_share` are its test examples, at least one.

  Args:
    options: `synthetic_clients`, `synthetic_examples_per_client`, `test_share`.

  Raises:
    InputError: When a number is not positive.
  """
  if options.synthetic_clients < 1:
    raise InputError(
      f"--synthetic_clients must be at least 1, got {options.synthetic_clients}"
    )
  train = options.synthetic_examples_per_client
  if train < 1:
    raise InputError(f"--synthetic_examples_per_client must be at least 1, got {train}")
  test = max(round(train * options.test_share / (1 - options.test_share)), 1)
  return make(SyntheticOptions(options.synthetic_clients, train, test))


def make(options: SyntheticOptions) -> Dataset:
  """Returns a dataset of Gaussian prototypes, one per class, plus noise per example.

  Args:
    options: What to make up; numbers are positive.
  """
  info = DatasetInfo(
    name=NAME,
    shape=options.shape,
    feature_type="uint8",
    class_names=tuple(str(label) for label in range(options.classes)),
    preprocessing=Preprocessing(
      scale=1 / 255,
      mean=(_MIDDLE / 255,),
      deviation=(math.hypot(_PROTOTYPE_DEVIATION, _NOISE_DEVIATION) / 255,),
    ),
  )
  return Dataset(info, functools.partial(_read, options), has_clients=True)


def _read(
  options: SyntheticOptions, split: str, on_bad_record: OnBadRecord
) -> Iterator[Batch]:
  """Streams a split, client after client."""
  del on_bad_record  # There are none.
  each = {TRAIN: options.train_examples, TEST: options.test_examples}[split]
  size = math.prod(options.shape)
  generator = seeds.generator(options.seed, "synthetic prototypes")
  drawn = generator.standard_normal((options.classes, size), np.float32)
  prototypes = _MIDDLE + _PROTOTYPE_DEVIATION * drawn
  total = options.clients * each
  for first in range(0, total, _BLOCK):
    generator = seeds.generator(options.seed, f"synthetic {split}", first // _BLOCK)
    labels = generator.integers(0, options.classes, _BLOCK)
    values = generator.standard_normal((_BLOCK, size), np.float32)
    values *= np.float32(_NOISE_DEVIATION)
    values += prototypes[labels]
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    count = min(_BLOCK, total - first)
    pixels = values[:count].astype(np.uint8).reshape(count, *options.shape)
    yield Batch(pixels, labels[:count], _owners(first, count, each))


def _owners(first: int, count: int, each: int) -> Array:
  """Returns the clients of examples in a row, of which each has `each`."""
  numbers = np.arange(first, first + count) // each
  names = [f"client{number:06d}" for number in range(numbers[0], numbers[-1] + 1)]
  clients: Array = np.array(names, np.str_)[numbers - numbers[0]]
  return clients
