"""The standard sets of labelled images, from TFRecord files."""

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import SPLITS, Batch, Dataset, DatasetInfo, OnBadRecord
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import (
  encoded_images,
  example_fields,
  record_files,
  standard_images,
  texts,
  tfds_images,
  unsafe,
)
from fedtiny_tff.data.sources.batch_decoding import Decoder
from fedtiny_tff.data.sources.encoded_images import ImageForm
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

_FIELDS = {
  "image": tf.io.FixedLenFeature([], tf.string),
  "label": tf.io.FixedLenFeature([], tf.int64),
}
_WANTED = (
  "a folder with train.tfrecord and test.tfrecord (features image: encoded bytes, "
  "label: int64), or shards train-*.tfrecord and test-*.tfrecord"
)


def open_standard(name: str, options: SourceOptions) -> Dataset:
  """Opens CIFAR-10, CIFAR-100, SVHN or CINIC-10.

  Examples come from `train.tfrecord` and `test.tfrecord` in `--data_dir`, or from
  shards `train-*.tfrecord` in the order of their names; where there are none, from
  tensorflow_datasets, if it is installed and has the set or can fetch it.

  Args:
    name: Key of `STANDARD_IMAGES`.
    options: `data_dir`, and perhaps `image_size`.

  Raises:
    InputError: When there is nothing to read.
  """
  if options.image_channels != standard_images.SHAPE[-1]:
    raise InputError(f"dataset {name} is in colour: --image_channels must be 3")
  known = standard_images.STANDARD_IMAGES[name]
  height, width = options.image_size or standard_images.SHAPE[:2]
  form = ImageForm(height, width, 3, resize=options.image_size is not None)
  info = DatasetInfo(
    name=name,
    shape=form.shape,
    feature_type="uint8",
    class_names=known.class_names,
    preprocessing=Preprocessing(1 / 255, known.mean, known.deviation, form.extraction),
  )
  files = _record_files(name, options.data_dir)
  if files is not None:
    return Dataset(info, functools.partial(_read, info, form, files))
  if known.prepared_name is None:
    raise InputError(_nothing_to_read(name, options))
  prepared = tfds_images.open_known(known.prepared_name, info, form, options)
  if prepared is None:
    raise InputError(
      f"{_nothing_to_read(name, options)}; or pip install tensorflow-datasets, which "
      "fetches it where there is a network"
    )
  return prepared


def _nothing_to_read(name: str, options: SourceOptions) -> str:
  if not options.data_dir:
    return f"dataset {name} needs --data_dir: {_WANTED}"
  folder = texts.one_line(options.data_dir)
  return f"dataset {name}: {folder} holds no such file; --data_dir must be {_WANTED}"


def _record_files(
  name: str, data_dir: Optional[str]
) -> Optional[Mapping[str, Sequence[pathlib.Path]]]:
  """Returns each split's files, or None where there is none of either."""
  if not data_dir:
    return None
  folder = pathlib.Path(data_dir)
  shown = texts.one_line(data_dir)
  if not folder.is_dir():
    raise InputError(f"dataset {name}: {shown} is no folder; check --data_dir")
  files = {}
  for split in SPLITS:
    whole = folder / f"{split}.tfrecord"
    shards = sorted(
      path for path in folder.glob(f"{split}-*.tfrecord") if path.is_file()
    )
    if whole.is_file() and shards:
      raise InputError(
        f"dataset {name}: {shown} has {whole.name} and "
        f"{texts.one_line(shards[0].name)}; remove one or the other"
      )
    files[split] = [whole] if whole.is_file() else shards
  if not any(files.values()):
    unsafe.refuse_pickles(folder)
    return None
  for split, found in files.items():
    if not found:
      raise InputError(
        f"dataset {name}: {shown}/{split}.tfrecord not found; check --data_dir"
      )
  return files


def _read(
  info: DatasetInfo,
  form: ImageForm,
  files: Mapping[str, Sequence[pathlib.Path]],
  split: str,
  on_bad_record: OnBadRecord,
) -> Iterator[Batch]:
  """Streams a split, file after file."""

  def decode(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    fields = example_fields.parse_many(records, _FIELDS)
    return encoded_images.decoder(form)(fields["image"]), fields["label"]

  def decode_one(record: bytes) -> tuple[Array, Array]:
    fields = example_fields.parse_one(record, _FIELDS)
    pixels = encoded_images.decode_one(fields["image"], form)
    return pixels, np.asarray(fields["label"], np.int64)

  size = encoded_images.batch_size(form.num_bytes)
  for path in files[split]:
    yield from encoded_images.labelled(
      texts.one_line(str(path)),
      record_files.read_file(path, size, on_bad_record),
      Decoder(decode, decode_one),
      info.num_classes,
      on_bad_record,
    )
