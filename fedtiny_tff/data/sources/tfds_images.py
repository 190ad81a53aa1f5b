"""Labelled images from tensorflow_datasets, which need not be installed."""

import contextlib
import dataclasses
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import (
  TEST,
  TRAIN,
  BadRecord,
  Batch,
  Dataset,
  DatasetInfo,
  OnBadRecord,
)
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import encoded_images, holdout, record_files, texts
from fedtiny_tff.data.sources.batch_decoding import Decoder
from fedtiny_tff.data.sources.encoded_images import ImageForm
from fedtiny_tff.data.sources.options import TFDS_PREFIX, SourceOptions
from fedtiny_tff.errors import InputError

# Name, perhaps configuration and version; no namespace, whose code would be fetched:
# https://www.tensorflow.org/datasets/api_docs/python/tfds/builder
_NAME = re.compile(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?", re.ASCII)
_LABEL_BATCH = 1 << 16
_LONGEST_CAUSE = 120


def _ignore(record: BadRecord) -> None:
  """Leaves it to the pass that reads the images themselves."""


@dataclasses.dataclass(frozen=True)
class _Split:
  """A split of ours.

  Attributes:
    name: What tensorflow_datasets calls it.
    chosen: bool [n], which of its examples belong to it; None = all.
  """

  name: str
  chosen: Optional[Array] = None


@dataclasses.dataclass(frozen=True)
class _Source:
  """A prepared set of images.

  Attributes:
    builder: Its `tfds.core.DatasetBuilder`.
    image: Name of the field that holds the image.
    label: Name of the field that holds the class.
  """

  builder: Any
  image: str
  label: str

  def records(self, split: str, with_images: bool) -> tf.data.Dataset:
    """Returns labels, or encoded images and labels, in a fixed order."""
    import tensorflow_datasets as tfds  # noqa: PLC0415 - optional

    fields = {self.label: True}
    if with_images:
      fields[self.image] = True
    skip = {self.image: tfds.decode.SkipDecoding()} if with_images else None
    records = self.builder.as_dataset(
      split=split,
      shuffle_files=False,
      decoders=tfds.decode.PartialDecoding(fields, decoders=skip),
      read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
    )
    if not with_images:
      return records.map(lambda fields: fields[self.label])
    return records.map(lambda fields: (fields[self.image], fields[self.label]))

  def labels(self, split: str) -> Array:
    """Returns all labels of a split, as far as it can be read; int64 [n]."""
    batches = record_files.read_dataset(
      split, self.records(split, with_images=False), _LABEL_BATCH, _ignore
    )
    found = [batch.columns[0].numpy() for batch in batches]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def open_known(
  name: str, info: DatasetInfo, form: ImageForm, options: SourceOptions
) -> Optional[Dataset]:
  """Opens a set of which everything is known.

  Args:
    name: What tensorflow_datasets calls it.
    info: What is known.
    form: What images are to be.
    options: `data_dir`: where it is, or is put; None = the package's own folder.

  Returns:
    None where the package is not installed.

  Raises:
    InputError: When the set is not there and cannot be fetched.
  """
  builder = _builder(name, info.name, options)
  if builder is None:
    return None
  splits = {TRAIN: _Split("train"), TEST: _Split("test")}
  source = _Source(builder, "image", "label")
  return Dataset(info, functools.partial(_read, source, info, form, splits))


def open_tfds(name: str, options: SourceOptions) -> Dataset:
  """Opens any set of labelled images.

  The test split is its `test`, else its `validation`, else a share of each class.

  Args:
    name: What tensorflow_datasets calls it, perhaps with a configuration and a
      version: `name/configuration:1.0.0`.
    options: `data_dir`: where it is, or is put; `image_size`; `image_channels`, where
      the set leaves them open.

  Raises:
    InputError: When the package is missing, the set is not there and cannot be
      fetched, or is not one of labelled images.
  """
  shown = TFDS_PREFIX + texts.one_line(name)
  if not _NAME.fullmatch(name):
    raise InputError(
      f"--dataset={shown} must be {TFDS_PREFIX}NAME, {TFDS_PREFIX}NAME/CONFIGURATION or either "
      "with :1.0.0 for a version"
    )
  builder = _builder(name, shown, options)
  if builder is None:
    raise InputError(f"dataset {shown} needs tensorflow_datasets: pip install it")
  source = _labelled_images(shown, builder)
  form = _form(shown, builder.info.features[source.image], options)
  class_names = tuple(builder.info.features[source.label].names)
  info = DatasetInfo(
    name=shown,
    shape=form.shape,
    feature_type="uint8",
    class_names=class_names,
    preprocessing=Preprocessing(1 / 255, (0.0,), (1.0,), form.extraction),
  )
  splits = _splits(shown, source, options.test_share)
  read = functools.partial(_read, source, info, form, splits)
  return Dataset(info, read, measures_inputs=True)


def _builder(name: str, shown: str, options: SourceOptions) -> Optional[Any]:
  """Returns the builder of a set that is prepared; None without the package."""
  try:
    import tensorflow_datasets as tfds  # noqa: PLC0415 - optional
  except ImportError:
    return None
  try:
    # A version that is named, be it any, is taken from files that are there already.
    versioned = name if ":" in name else f"{name}:*.*.*"
    builder = tfds.builder(versioned, data_dir=options.data_dir or None)
    # It prints what it fetches, where a report may be expected.
    with contextlib.redirect_stdout(sys.stderr):
      builder.download_and_prepare()
  # It is code of many authors, and anything can come out of it.
  except Exception as error:
    cause = texts.one_line(str(error).strip().split("\n")[0])[:_LONGEST_CAUSE]
    raise InputError(
      f"dataset {shown}: tensorflow_datasets has it not in --data_dir and cannot fetch "
      f"it ({type(error).__name__}: {cause}); check its name and the network"
    ) from error
  return builder


def _labelled_images(shown: str, builder: Any) -> _Source:
  """Finds the fields of image and class."""
  import tensorflow_datasets as tfds  # noqa: PLC0415 - optional

  features = builder.info.features
  keys = builder.info.supervised_keys or ("image", "label")
  kinds = (tfds.features.Image, tfds.features.ClassLabel)
  if not (
    isinstance(features, tfds.features.FeaturesDict)
    and len(keys) == len(kinds)
    and all(
      isinstance(key, str) and key in features and isinstance(features[key], kind)
      for key, kind in zip(keys, kinds, strict=True)
    )
  ):
    raise InputError(
      f"dataset {shown}: is no set of images with a class each; choose one"
    )
  return _Source(builder, *keys)


def _form(shown: str, feature: Any, options: SourceOptions) -> ImageForm:
  height, width, channels = feature.shape
  pixel = tf.as_dtype(feature.dtype)
  if pixel != tf.uint8:
    raise InputError(f"dataset {shown}: its pixels are {pixel.name}, expected uint8")
  if options.image_size is not None:
    height, width = options.image_size
  if height is None or width is None:
    raise InputError(
      f"dataset {shown}: its images differ in size; choose one with --image_size"
    )
  # Of four channels one is transparency, which is dropped.
  makes_grey = channels is None and options.image_channels == 1
  channels = min(channels or options.image_channels, 3)
  resize = options.image_size is not None
  return ImageForm(height, width, channels, resize, makes_grey)


def _splits(shown: str, source: _Source, test_share: float) -> Mapping[str, _Split]:
  names = source.builder.info.splits
  if "train" not in names:
    raise InputError(f"dataset {shown}: has no training split, only {', '.join(names)}")
  for test in ("test", "validation"):
    if test in names:
      return {TRAIN: _Split("train"), TEST: _Split(test)}
  is_test, _ = holdout.held_out(None, source.labels("train"), test_share)
  return {TRAIN: _Split("train", ~is_test), TEST: _Split("train", is_test)}


def _read(
  source: _Source,
  info: DatasetInfo,
  form: ImageForm,
  splits: Mapping[str, _Split],
  split: str,
  on_bad_record: OnBadRecord,
) -> Iterator[Batch]:
  """Streams a split."""
  decode = encoded_images.decoder(form)
  decoder = Decoder(
    lambda encoded, labels: (decode(encoded), labels),
    lambda encoded, label: (
      encoded_images.decode_one(encoded, form, source.image),
      np.asarray(label),
    ),
  )
  part = splits[split]
  name = f"{TFDS_PREFIX}{source.builder.info.name}/{part.name}"
  records = source.records(part.name, with_images=True)
  size = encoded_images.batch_size(form.num_bytes)
  # Both splits may be shares of one, whose damage is told of once.
  is_second = split == TEST and part.chosen is not None
  on_bad_frame = _ignore if is_second else on_bad_record
  yield from encoded_images.labelled(
    name,
    record_files.read_dataset(name, records, size, on_bad_frame),
    decoder,
    info.num_classes,
    on_bad_record,
    part.chosen,
  )
