"""Your own clients' examples, from TFRecord files and a `dataset.json` beside them."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import (
  TEST,
  TRAIN,
  Batch,
  Dataset,
  DatasetInfo,
  OnBadRecord,
)
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import (
  batch_decoding,
  client_description,
  client_keys,
  encoded_images,
  example_fields,
  record_files,
  texts,
  unsafe,
)
from fedtiny_tff.data.sources.batch_decoding import Decoded, Decoder, UnusableRecord
from fedtiny_tff.data.sources.client_description import FILE_NAME, ClientDescription
from fedtiny_tff.data.sources.encoded_images import ImageForm
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

NAME = "client_tfrecord"
IMAGE = "image"
FEATURES = "features"
_PEEK_BATCH = 64
_GZIP = b"\x1f\x8b"


def open_client_tfrecord(options: SourceOptions) -> Dataset:
  """Records of `tf.train.Example`: client_id, label, and image or features.

  Whether they hold `image` (encoded bytes) or `features` (floats, row-major), shows
  in the first record that holds either. A test split that `dataset.json` leaves out
  or empty is `test_share` of each client's examples.

  Args:
    options: `data_dir`, `test_share`, and `image_size`, which resizes images.

  Raises:
    InputError: When `dataset.json` is missing or wrong, or there is no such record.
  """
  if not options.data_dir:
    raise InputError(
      f"dataset {NAME} needs --data_dir: a folder with {FILE_NAME} and the TFRecord "
      "files that it names"
    )
  folder = pathlib.Path(options.data_dir)
  if not (folder / FILE_NAME).is_file():
    unsafe.refuse_pickles(folder)
    path = texts.one_line(str(folder / FILE_NAME))
    raise InputError(f"dataset {NAME}: {path} not found; check --data_dir")
  said = client_description.read(folder)
  form = _image_form(folder, said.shape, options) if _holds_images(said) else None
  if form is None and options.image_size is not None:
    raise InputError(
      f"--image_size: the examples in {texts.one_line(str(folder))} are no images; "
      "leave the flag out"
    )
  scale, extraction = (
    (1.0, NO_EXTRACTION) if form is None else (1 / 255, form.extraction)
  )
  preprocessing = said.preprocessing or Preprocessing(scale, (0.0,), (1.0,))
  if extraction != NO_EXTRACTION:
    preprocessing = dataclasses.replace(preprocessing, extraction=extraction)
  info = DatasetInfo(
    name=NAME,
    shape=said.shape if form is None else form.shape,
    feature_type="float32" if form is None else "uint8",
    class_names=said.class_names,
    preprocessing=preprocessing,
  )
  decoder = _features_decoder(info) if form is None else _image_decoder(form)
  reader = _Reader(info, said, decoder, options.test_share)
  return Dataset(info, reader.read, True, measures_inputs=not said.is_measured)


def _image_form(
  folder: pathlib.Path, shape: tuple[int, ...], options: SourceOptions
) -> ImageForm:
  if len(shape) != 3 or shape[2] not in (1, 3):
    path = texts.one_line(str(folder / FILE_NAME))
    raise InputError(
      f"{path}: shape of images must be [height, width, 1 or 3], got {list(shape)}"
    )
  height, width = options.image_size or shape[:2]
  return ImageForm(height, width, shape[2], resize=options.image_size is not None)


def _holds_images(said: ClientDescription) -> bool:
  """Tells images from features by the first record that has either."""
  for path in said.files[TRAIN]:
    for batch in record_files.read_file(path, _PEEK_BATCH, client_keys.ignore):
      for record in batch.columns[0].numpy():
        try:
          names = example_fields.features_of(record)
        except UnusableRecord:
          continue
        if IMAGE in names or FEATURES in names:
          return IMAGE in names
  path = said.files[TRAIN][0]
  with path.open("rb") as file:
    start = file.read(len(_GZIP))
  reason = (
    f"no record of the training split that can be read has a field {IMAGE!r} or "
    f"{FEATURES!r}; is it a TFRecord file of tf.train.Example messages?"
  )
  if start == _GZIP:
    reason = "is compressed; unpack it first"
  raise InputError(f"{texts.one_line(str(path))}: {reason}")


def _decoder(
  fields: example_fields.Fields,
  content: str,
  decode: Callable[[tf.Tensor], tf.Tensor],
  decode_one: Callable[[Any], Array],
) -> Decoder:
  """Returns what makes client ids, labels and contents of records."""

  def decode_all(records: tf.Tensor) -> tuple[tf.Tensor, ...]:
    found = example_fields.parse_many(records, fields)
    keys = found[client_keys.CLIENT_ID], found[client_keys.LABEL]
    return *keys, decode(found[content])

  def decode_single(record: bytes) -> tuple[Array, ...]:
    found = example_fields.parse_one(record, fields)
    client = np.array(found[client_keys.CLIENT_ID], object)
    label = np.asarray(found[client_keys.LABEL], np.int64)
    return client, label, decode_one(found[content])

  return Decoder(decode_all, decode_single)


def _image_decoder(form: ImageForm) -> Decoder:
  return _decoder(
    {**client_keys.FIELDS, IMAGE: tf.io.FixedLenFeature([], tf.string)},
    IMAGE,
    encoded_images.decoder(form),
    lambda encoded: encoded_images.decode_one(encoded, form),
  )


def _features_decoder(info: DatasetInfo) -> Decoder:
  length = math.prod(info.shape)
  return _decoder(
    {**client_keys.FIELDS, FEATURES: tf.io.FixedLenFeature([length], tf.float32)},
    FEATURES,
    lambda features: tf.reshape(features, [-1, *info.shape]),
    lambda features: np.array(features, np.float32).reshape(info.shape),
  )


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Streams the examples of a split.

  Attributes:
    info: What they are.
    said: Where they lie.
    decoder: Makes client ids, labels and features of records.
    test_share: Share of each client's examples that is held out.
  """

  info: DatasetInfo
  said: ClientDescription
  decoder: Decoder
  test_share: float

  def read(self, split: str, on_bad_record: OnBadRecord) -> Iterator[Batch]:
    """Streams a split, file after file."""
    holds_out = not self.said.files[TEST]
    feature_bytes = np.dtype(self.info.feature_type).itemsize
    size = encoded_images.batch_size(math.prod(self.info.shape) * feature_bytes)
    # Both splits may come from the same files, whose damage is told of once.
    is_second = holds_out and split == TEST
    on_bad_frame = client_keys.ignore if is_second else on_bad_record
    for path in self.said.files[TRAIN if holds_out else split]:
      chosen = None
      if holds_out:
        chosen = self._held_out[path] if is_second else ~self._held_out[path]
      name = texts.one_line(str(path))
      for batch in record_files.read_file(path, size, on_bad_frame):
        for found in batch_decoding.decoded(
          name, batch, self.decoder, on_bad_record, chosen
        ):
          yield from self._batch(name, found, on_bad_record)

  def _batch(
    self, name: str, found: Decoded, on_bad_record: OnBadRecord
  ) -> Iterator[Batch]:
    """Makes a batch of what is usable, if anything is."""
    encoded, labels, features = found.columns
    clients = [client_keys.client_of(each) for each in encoded]
    # Of several flaws of a record the last one counts.
    flaws = _feature_flaws(features)
    flaws |= batch_decoding.label_flaws(labels, self.info.num_classes)
    for place, (_, problem) in enumerate(clients):
      if problem is not None:
        flaws[place] = (client_keys.CLIENT_ID, problem)
    right = batch_decoding.usable(name, found.numbers, flaws, on_bad_record)
    if right.any():
      ids = np.array([client for client, _ in clients], np.str_)
      yield Batch(features[right], labels[right], ids[right])

  @functools.cached_property
  def _held_out(self) -> dict[pathlib.Path, Array]:
    """Of each file, which of its records are test examples."""
    return client_keys.held_out(
      self.said.files[TRAIN], self.info.num_classes, self.test_share
    )


def _feature_flaws(features: Array) -> batch_decoding.Flaws:
  """Returns what is wrong with features [n, ...] that are not finite."""
  if features.dtype != np.float32:
    return {}
  rows = features.reshape(len(features), -1)
  flaws: batch_decoding.Flaws = {}
  for place in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
    at = int(np.flatnonzero(~np.isfinite(rows[place]))[0])
    flaws[int(place)] = (FEATURES, f"value {at} is {rows[place, at]}")
  return flaws
