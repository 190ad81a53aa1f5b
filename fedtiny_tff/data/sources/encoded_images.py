"""Encoded images inside records, decoded many at a time."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data import feature_ops
from fedtiny_tff.data.examples import Batch, OnBadRecord
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.extraction_base import Extraction, Resize
from fedtiny_tff.data.sources import batch_decoding, images
from fedtiny_tff.data.sources.batch_decoding import Decoder, UnusableRecord
from fedtiny_tff.data.sources.record_files import RecordBatch

_BATCH = 1024
_BATCH_BYTES = 64 << 20
# Decoded side by side; larger pictures come one at a time.
_BATCHED_PIXELS = 1 << 24
_THREADS = min(os.cpu_count() or 1, 8)


@dataclasses.dataclass(frozen=True)
class ImageForm:
  """What images are to be.

  Attributes:
    height: In pixels.
    width: In pixels.
    channels: 3, or 1 for grey.
    resize: Whether images of another size are brought to this one; they are bad
      records otherwise.
    makes_grey: Whether colours become grey where grey is wanted; they are bad records
      otherwise.
  """

  height: int
  width: int
  channels: int
  resize: bool = False
  makes_grey: bool = False

  @property
  def shape(self) -> tuple[int, int, int]:
    """Shape of a decoded image."""
    return self.height, self.width, self.channels

  @property
  def extraction(self) -> Extraction:
    """What makes such an image of a raw one."""
    if self.resize or self.makes_grey:
      return Resize(self.height, self.width, self.makes_grey)
    return NO_EXTRACTION

  @property
  def num_bytes(self) -> int:
    """Memory that a decoded image takes."""
    return math.prod(self.shape)


def batch_size(example_bytes: int) -> int:
  """Returns how many examples of a size are decoded at a time: about a thousand."""
  return min(max(_BATCH_BYTES // example_bytes, 1), _BATCH)


@functools.cache
def decoder(form: ImageForm) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns what decodes batches of images, side by side and in their order.

  It fails with an error of TensorFlow for all that only `decode_one` can tell: an
  image that is bad or very large, a BMP or GIF file, and colours where grey is wanted.
  """
  most_pixels = _BATCHED_PIXELS if form.resize else form.height * form.width

  def decode(encoded: tf.Tensor) -> tf.Tensor:
    # Asked before anything is decoded: a few bytes can declare gigabytes.
    is_modest = images.is_modest(encoded, most_pixels)
    with tf.control_dependencies([tf.debugging.Assert(is_modest, ["too large"])]):
      image = tf.io.decode_image(encoded, 3, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, 3])
    if form.resize:
      image = feature_ops.resized(image[tf.newaxis], form.height, form.width)[0]
    image = tf.ensure_shape(image, [form.height, form.width, 3])
    if form.channels == 1:
      grey = image[..., :1]
      is_grey = tf.reduce_all(image == grey)
      with tf.control_dependencies([tf.debugging.Assert(is_grey, ["colours"])]):
        image = tf.identity(grey)
    return image

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
  def decode_all(encoded: tf.Tensor) -> tf.Tensor:
    one_by_one = tf.data.Dataset.from_tensor_slices(encoded)
    decoded = one_by_one.map(decode, _THREADS, deterministic=True)
    return decoded.batch(tf.size(encoded, tf.int64)).get_single_element()

  decoder: Callable[[tf.Tensor], tf.Tensor] = decode_all
  return decoder


def decode_one(encoded: bytes, form: ImageForm, field: str = "image") -> Array:
  """Decodes one image.

  Returns:
    uint8 [height, width, channels].

  Raises:
    UnusableRecord: When it cannot be decoded, or has another size.
  """
  size = (form.height, form.width) if form.resize else None
  try:
    image = images.decode(encoded, form.channels, size, makes_grey=form.makes_grey)
  except images.UnusableImage as error:
    raise UnusableRecord(field, str(error)) from error
  if image.shape != form.shape:
    height, width = image.shape[:2]
    raise UnusableRecord(
      field,
      f"is {height}x{width} pixels, expected {form.height}x{form.width}; images are "
      "resized with --image_size",
    )
  return image


def labelled(
  name: str,
  batches: Iterable[RecordBatch],
  decoder_of_records: Decoder,
  num_classes: int,
  on_bad_record: OnBadRecord,
  chosen: Optional[Array] = None,
) -> Iterator[Batch]:
  """Decodes records that are images and labels.

  Args:
    name: What messages call the file.
    batches: Its records.
    decoder_of_records: Makes images and labels of them.
    num_classes: Labels are in [0, classes); others make a record bad.
    on_bad_record: Told of bad records.
    chosen: bool [records of the file], which to look at; None = all.
  """
  for batch in batches:
    for found in batch_decoding.decoded(
      name, batch, decoder_of_records, on_bad_record, chosen
    ):
      pixels, labels = found.columns
      flaws = batch_decoding.label_flaws(labels, num_classes)
      right = batch_decoding.usable(name, found.numbers, flaws, on_bad_record)
      if not flaws:
        yield Batch(pixels, labels)
      elif right.any():
        yield Batch(pixels[right], labels[right])
