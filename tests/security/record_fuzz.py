"""What the product does with TFRecord files of others, and damaged ones to try it on."""

import json
import pathlib
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds
from fedtiny_tff.data.examples import TEST, TRAIN, BadRecord
from fedtiny_tff.data.sources import registry
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import records
from tests.security.mutations import mutated

_PIXELS = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
_LABELS = (0, 1, -1, 2, 2**31, 2**63 - 1, -(2**63))
_CLIENTS = (b"", b"a" * 300, b"\xff\xfe", b"\0", b"../../x", b"\x1b[2J", "é".encode())


class Kind(NamedTuple):
  """A dataset that is read from TFRecord files.

  Attributes:
    dataset: Its name.
    options: How it is opened, but for the folder.
    records: Whole records.
  """

  dataset: str
  options: dict
  records: Sequence[bytes]


def _image_files() -> list[bytes]:
  grey = np.repeat(_PIXELS[:, :, :1], 3, axis=2)
  return [
    records.png(_PIXELS),
    tf.io.encode_jpeg(_PIXELS).numpy(),
    tf.io.encode_jpeg(grey[:, :, :1], format="grayscale", progressive=True).numpy(),
    records.png(grey[:, :, :1]),
    b"GIF89a\x08\0\x08\0\x80\0\0" + bytes(3) + b"\xff\xff\xff,\0\0\0\0\x08\0\x08\0\0"
    b"\x02\x07\x84\x8f\xa9\xcb\xed\x0f\x63\0;",
    b"BM" + struct.pack("<IIIIiiHHIIIIII", 246, 0, 54, 40, 8, 8, 1, 24, 0, 192, 0, 0, 0, 0)
    + _PIXELS.tobytes(),
  ]  # fmt: skip


def kinds() -> list[Kind]:
  """Returns features, images of a fixed size, resized images, and a standard set."""
  made = []
  for floats in ([0.5] * 4, [1e30, -1e-30, 0.0, 3.0]):
    made.append(records.example(client_id=b"ann", label=1, features=floats))
  images = _image_files()
  owned = [
    records.example(client_id=b"bo", label=each % 2, image=image)
    for each, image in enumerate(images)
  ]
  unowned = [records.example(label=0, image=image) for image in images]
  return [
    Kind("client_tfrecord", {}, made),
    Kind("client_tfrecord", {}, owned),
    Kind("client_tfrecord", {"image_size": (6, 6)}, owned),
    Kind("cifar10", {"image_size": (6, 6)}, unowned),
  ]


def _framed(content: bytes, length: int | None = None) -> bytes:
  """Puts a record into its frame, whose checksums are right."""
  stated = struct.pack("<Q", len(content) if length is None else length)
  return b"".join(
    (
      stated,
      struct.pack("<I", records.checksum(stated)),
      content,
      struct.pack("<I", records.checksum(content)),
    )
  )


def _damaged_record(
  record: bytes, others: Sequence[bytes], generator: np.random.Generator
) -> bytes:
  """Damages the message, or one of its fields."""
  way = generator.integers(4)
  if way == 0:
    return mutated(record, others, generator)
  example = tf.train.Example.FromString(record)
  fields = example.features.feature
  if way == 1:
    fields["label"].int64_list.value[:] = [
      _LABELS[place]
      for place in generator.integers(0, len(_LABELS), generator.integers(3))
    ]
    fields["client_id"].bytes_list.value[:] = [_CLIENTS[generator.integers(7)]]
  elif way == 2:
    name = sorted(fields)[generator.integers(len(fields))]
    other = sorted(fields)[generator.integers(len(fields))]
    fields[name].CopyFrom(fields[other])
    if generator.integers(2):
      del fields[name]
  elif "image" in fields:
    image = fields["image"].bytes_list.value[0]
    images = [tf.train.Example.FromString(each) for each in others]
    kept = [each.features.feature["image"].bytes_list.value[0] for each in images]
    fields["image"].bytes_list.value[:] = [mutated(image, kept, generator)]
  else:
    size = (0, 1, 3, 5, 1000)[generator.integers(5)]
    values = (np.nan, np.inf, -np.inf, 3e38, 0.0)
    fields["features"].float_list.value[:] = [values[generator.integers(5)]] * size
  return example.SerializeToString()


def damaged(kind: Kind, number: int) -> bytes:
  """Returns the damaged file of a number, the same every time."""
  generator = seeds.generator(0, "fuzz records", number)
  chosen = [
    kind.records[place] for place in generator.integers(0, len(kind.records), 4)
  ]
  way = generator.integers(3)
  if way == 0:
    whole = b"".join(map(_framed, chosen))
    return mutated(whole, [whole], generator)
  if way == 1:
    length = (0, 1, 2**31, 2**32, 2**40, 2**63, 2**64 - 1)[generator.integers(7)]
    frames = [_framed(each) for each in chosen]
    frames[generator.integers(4)] = _framed(chosen[0], length)
    return b"".join(frames)
  place = generator.integers(4)
  chosen[place] = _damaged_record(chosen[place], kind.records, generator)
  return b"".join(map(_framed, chosen))


def prepare(kind: Kind, folder: pathlib.Path) -> None:
  """Writes what lies beside a damaged training file."""
  records.write(folder / "test.tfrecord", list(kind.records))
  shape = [4] if b"features" in kind.records[0] else [8, 8, 3]
  splits = {TRAIN: ["train.tfrecord"], TEST: ["test.tfrecord"]}
  document = {"shape": shape, "classes": ["a", "b"], "splits": splits}
  (folder / "dataset.json").write_text(json.dumps(document))


def try_one(kind: Kind, content: bytes, folder: pathlib.Path) -> tuple[int, int]:
  """Reads a file as training split; returns how many examples and bad records it has.

  Raises:
    Exception: Anything but an `InputError` of one line.
  """
  (folder / "train.tfrecord").write_bytes(content)
  bad: list[BadRecord] = []
  examples = 0
  try:
    dataset = registry.load(
      kind.dataset, SourceOptions(data_dir=str(folder), **kind.options)
    )
    for batch in dataset.read(TRAIN, bad.append):
      examples += len(batch.labels)
      assert batch.features.shape[1:] == dataset.info.shape
      assert ((batch.labels >= 0) & (batch.labels < dataset.info.num_classes)).all()
      assert np.isfinite(batch.features).all()
  except InputError as error:
    assert str(error).isprintable()
    return 0, len(bad)
  assert all(str(each).isprintable() for each in bad)
  return examples, len(bad)


def try_numbers(
  every: Sequence[Kind], numbers: Iterable[int], folder: pathlib.Path
) -> tuple[int, int]:
  """Tries damaged files, the kinds in turn; returns examples and bad records in all."""
  for place, kind in enumerate(every):
    (folder / str(place)).mkdir(exist_ok=True)
    prepare(kind, folder / str(place))
  found = np.zeros(2, int)
  for number in numbers:
    place = number % len(every)
    kind = every[place]
    found += try_one(kind, damaged(kind, number), folder / str(place))
  return int(found[0]), int(found[1])
