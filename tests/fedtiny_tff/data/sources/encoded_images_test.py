"""Images are decoded in batches as they are one by one."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.sources import encoded_images
from fedtiny_tff.data.sources.batch_decoding import UnusableRecord
from fedtiny_tff.data.sources.encoded_images import ImageForm
from tests.fedtiny_tff.data.sources import records

_ENCODERS = {
  "png": tf.io.encode_png,
  "jpeg": tf.io.encode_jpeg,
}
# One black and one white pixel of 24 bits each; rows are filled up to 4 bytes.
_BMP = (
  b"BM\x3e\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\1\0\0\0\1\0\x18\0"
  + bytes(24) + bytes(3) + b"\xff\xff\xff" + bytes(2)
)  # fmt: skip


def _images(count=3, height=5, width=4, channels=3):
  generator = np.random.default_rng(0)
  pixels = generator.integers(0, 256, (count, height, width, channels))
  return pixels.astype(np.uint8)


def _both_ways(encoded, form):
  together = encoded_images.decoder(form)(tf.constant(encoded)).numpy()
  single = np.stack([encoded_images.decode_one(each, form) for each in encoded])
  np.testing.assert_array_equal(together, single)
  assert together.dtype == single.dtype == np.uint8
  return together


@pytest.mark.parametrize("kind", _ENCODERS)
def test_both_ways_agree(kind):
  images = _images()
  encoded = [_ENCODERS[kind](image).numpy() for image in images]
  found = _both_ways(encoded, ImageForm(5, 4, 3))
  if kind == "png":
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("kind", _ENCODERS)
def test_both_ways_agree_on_grey(kind):
  images = _images(channels=1)
  encoded = [_ENCODERS[kind](image).numpy() for image in images]
  found = _both_ways(encoded, ImageForm(5, 4, 1))
  if kind == "png":
    np.testing.assert_array_equal(found, images)


def test_both_ways_agree_on_another_size():
  encoded = [records.png(image) for image in (*_images(), *_images(2, 9, 7))]
  _both_ways(encoded, ImageForm(3, 6, 3, resize=True))


def test_an_image_of_the_wanted_size_is_left_alone():
  images = _images()
  encoded = [records.png(image) for image in images]
  found = _both_ways(encoded, ImageForm(5, 4, 3, resize=True))
  np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize(
  ("encoded", "form"),
  [
    (_BMP, ImageForm(1, 2, 3)),
    (records.png(_images(1)[0]), ImageForm(5, 4, 1, makes_grey=True)),
  ],
)
def test_what_a_batch_cannot_tell_is_decoded_alone(encoded, form):
  with pytest.raises(tf.errors.InvalidArgumentError):
    encoded_images.decoder(form)(tf.constant([encoded]))
  assert encoded_images.decode_one(encoded, form).shape == form.shape


def test_colours_where_grey_is_declared_are_refused():
  encoded = records.png(_images(1)[0])
  with pytest.raises(UnusableRecord, match="is in colour, expected grey"):
    encoded_images.decode_one(encoded, ImageForm(5, 4, 1))


@pytest.mark.parametrize(
  ("form", "extraction"),
  [
    (ImageForm(5, 4, 3), NO_EXTRACTION),
    (ImageForm(5, 4, 1), NO_EXTRACTION),
    (ImageForm(5, 4, 3, resize=True), Resize(5, 4)),
    (ImageForm(5, 4, 1, makes_grey=True), Resize(5, 4, grey=True)),
  ],
)
def test_what_is_done_is_declared(form, extraction):
  assert form.extraction == extraction


def test_a_bmp_file_is_read():
  found = encoded_images.decode_one(_BMP, ImageForm(1, 2, 3))
  assert found.tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
  ("encoded", "reason"),
  [
    (b"", "empty"),
    (b"text", "no PNG"),
    (
      tf.io.encode_png(_images(1)[0].astype(np.uint16)).numpy(),
      "has 16 bits a channel",
    ),
    (records.png(_images(1)[0])[:40], "damaged"),
    (records.png(_images(1, 4, 5)[0]), "is 4x5 pixels, expected 5x4; .*--image_size"),
  ],
)
def test_both_ways_refuse_the_same(encoded, reason):
  form = ImageForm(5, 4, 3)
  with pytest.raises(tf.errors.InvalidArgumentError):
    encoded_images.decoder(form)(tf.constant([encoded]))
  with pytest.raises(UnusableRecord, match=reason) as error:
    encoded_images.decode_one(encoded, form)
  assert error.value.field == "image"


def test_large_images_come_in_smaller_batches():
  # 64 MiB in all: 1,024 of 64 KiB, 64 of 1 MiB, never none.
  assert encoded_images.batch_size(1) == 1024
  assert encoded_images.batch_size(1 << 20) == 64
  assert encoded_images.batch_size(1 << 30) == 1
