"""TensorFlow Federated's own federations, from the files that TFF publishes."""

import dataclasses
import pathlib
import shlex
import string
from collections.abc import Mapping

import tensorflow as tf

from fedtiny_tff.data.examples import TEST, TRAIN, Dataset, DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import sqlite_examples, sqlite_files, texts
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.data.sources.sqlite_examples import Content, Source
from fedtiny_tff.data.sources.standard_images import STANDARD_IMAGES
from fedtiny_tff.errors import InputError

_PACKED = ".lzma"
# https://github.com/google-parfait/tensorflow-federated, in
# tensorflow_federated/python/simulation/datasets/{emnist,cifar100}.py
_ORIGIN = "https://storage.googleapis.com/tff-datasets-public/"


@dataclasses.dataclass(frozen=True)
class _Federation:
  """A federation as TFF publishes it.

  Attributes:
    info: What examples are.
    file_name: File, which is published packed.
    splits: Names of the splits in it.
    content: Where features stand.
    client_prefixes: What stands before a split's client ids, of some splits.
    measures_inputs: Whether mean and deviation are still to be measured.
  """

  info: DatasetInfo
  file_name: str
  splits: Mapping[str, str]
  content: Content
  client_prefixes: Mapping[str, str]
  measures_inputs: bool


# Paper is 1 and ink 0, the other way round than in MNIST. Labels:
# https://www.tensorflow.org/federated/api_docs/python/tff/simulation/datasets/emnist/load_data
_EMNIST = _Federation(
  info=DatasetInfo(
    name="emnist",
    shape=(28, 28, 1),
    feature_type="float32",
    class_names=tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase),
    preprocessing=Preprocessing(1.0, (0.0,), (1.0,)),
  ),
  file_name="emnist_all.sqlite",
  splits={TRAIN: "all_train", TEST: "all_test"},
  content=Content("pixels", tf.float32),
  client_prefixes={},
  measures_inputs=True,
)

_CIFAR100 = _Federation(
  info=DatasetInfo(
    name="cifar100_natural",
    shape=(32, 32, 3),
    feature_type="uint8",
    class_names=STANDARD_IMAGES["cifar100"].class_names,
    preprocessing=Preprocessing(
      1 / 255, STANDARD_IMAGES["cifar100"].mean, STANDARD_IMAGES["cifar100"].deviation
    ),
  ),
  file_name="cifar100.sqlite",
  splits={TRAIN: "train", TEST: "test"},
  content=Content("image", tf.int64),
  # Clients 0 to 99 of the test split are others than clients 0 to 99 of training.
  client_prefixes={TEST: "test "},
  measures_inputs=False,
)


def open_emnist(options: SourceOptions) -> Dataset:
  """EMNIST by writer, 62 classes: 3,400 clients, 28x28 grey pixels from 0 to 1.

  Pixels are as TFF gives them: 1 is paper and 0 is ink.

  Raises:
    InputError: When the file is missing or not what it should be.
  """
  return _open(_EMNIST, options)


def open_cifar100_natural(options: SourceOptions) -> Dataset:
  """CIFAR-100 in TFF's partition: 500 clients to train on and 100 others to test on.

  Raises:
    InputError: When the file is missing or not what it should be.
  """
  return _open(_CIFAR100, options)


def _open(federation: _Federation, options: SourceOptions) -> Dataset:
  if options.image_size is not None:
    raise InputError(
      f"--image_size: images of dataset {federation.info.name} are used as they are; "
      "leave the flag out"
    )
  path = _path(federation, options)
  sources = {
    split: [Source(path, sqlite_files.choose_split(path, name))]
    for split, name in federation.splits.items()
  }
  decoder = sqlite_examples.decoder(federation.info, federation.content, False)
  reader = sqlite_examples.Reader(
    federation.info, decoder, sources, False, federation.client_prefixes
  )
  return Dataset(federation.info, reader.read, True, federation.measures_inputs)


def _path(federation: _Federation, options: SourceOptions) -> pathlib.Path:
  """Finds the file; where it is missing, says where it comes from."""
  name, file_name = federation.info.name, federation.file_name
  packed_name = file_name + _PACKED
  unpack = "xz --decompress --keep"
  origin = f"TFF publishes it as {_ORIGIN}{packed_name}; unpack that with {unpack} {packed_name}"
  if not options.data_dir:
    raise InputError(
      f"dataset {name} needs --data_dir: the folder of {file_name}; {origin}"
    )
  path = pathlib.Path(options.data_dir)
  if path.is_dir():
    path = path / file_name
  packed = path if path.suffix == _PACKED else path.with_name(packed_name)
  if path.is_file() and path != packed:
    return path
  if packed.is_file():
    command = f"{unpack} {shlex.quote(str(packed))}"
    raise InputError(
      f"dataset {name}: {texts.one_line(str(packed))} is packed; unpack it first: "
      f"{texts.one_line(command)}"
    )
  raise InputError(f"dataset {name}: {texts.one_line(str(path))} not found; {origin}")
