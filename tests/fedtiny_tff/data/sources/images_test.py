"""Encoded images to bytes: formats, grey, resizing, damage."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.sources import images
from tests.fedtiny_tff import support

_COLOURS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10


def _png(pixels) -> bytes:
  return tf.io.encode_png(np.asarray(pixels, np.uint8)).numpy()


def _bmp(pixels: np.ndarray, palette: bytes = b"") -> bytes:
  """Writes rows from the bottom up, each padded to four bytes."""
  height, width, channels = pixels.shape
  rows = [row[:, ::-1].tobytes() for row in pixels[::-1]]
  body = b"".join(row + bytes(-len(row) % 4) for row in rows)
  start = 54 + len(palette)
  header = struct.pack("<2sIII", b"BM", start + len(body), 0, start)
  header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8 * channels, *[0] * 6)
  return header + palette + body


def test_png_and_bmp_are_read_as_they_are():
  np.testing.assert_array_equal(images.decode(_png(_COLOURS), 3), _COLOURS)
  np.testing.assert_array_equal(images.decode(_bmp(_COLOURS), 3), _COLOURS)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_is_refused(channels):
  encoded = tf.io.encode_png(np.full([2, 3, channels], 300, np.uint16)).numpy()
  with pytest.raises(images.UnusableImage, match="has 16 bits a channel: save it as 8"):
    images.decode(encoded, 3)


def test_jpeg_is_read():
  encoded = tf.io.encode_jpeg(np.full([8, 8, 3], 90, np.uint8), quality=100).numpy()
  assert np.abs(images.decode(encoded, 3).astype(int) - 90).max() <= 1


def test_colour_becomes_grey_by_luma():
  pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
  # 0.299, 0.587 and 0.114 times 255: 76.245, 149.685 and 29.07.
  made = images.decode(_png(pixels), 1, makes_grey=True)
  assert made.tolist() == [[[76], [150], [29]]]
  with pytest.raises(images.UnusableImage, match="is in colour, expected grey"):
    images.decode(_png(pixels), 1)


def test_what_is_decoded_is_what_is_declared():
  pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
  for size in ((9, 7), (4, 5)):
    declared = Resize(*size, grey=True)
    np.testing.assert_array_equal(
      images.decode(_png(pixels), 1, size, makes_grey=True),
      declared.apply(tf.constant(pixels[np.newaxis]))[0],
    )


@support.quick
@given(st.lists(st.integers(0, 255), min_size=1, max_size=20))
def test_grey_stays_exactly_as_it_is(values):
  grey = np.array(values, np.uint8)[np.newaxis, :, np.newaxis]
  np.testing.assert_array_equal(images.decode(_png(grey), 1), grey)
  np.testing.assert_array_equal(
    images.decode(_png(grey), 3), np.repeat(grey, 3, axis=-1)
  )


def test_transparency_is_dropped():
  see_through = np.concatenate([_COLOURS, np.zeros([2, 3, 1], np.uint8)], axis=-1)
  np.testing.assert_array_equal(images.decode(_png(see_through), 3), _COLOURS)


def test_resizing_averages():
  # A quarter of each 2x2 square is white: 63.75.
  square = np.zeros([8, 8, 1], np.uint8)
  square[::2, ::2] = 255
  small = images.decode(_png(square), 1, (1, 1))
  assert small.shape == (1, 1, 1)
  assert abs(int(small[0, 0, 0]) - 64) <= 2
  assert images.decode(_png(np.full([3, 5, 1], 200)), 3, (7, 2)).shape == (7, 2, 3)
  assert set(images.decode(_png(np.full([3, 5, 1], 200)), 1, (7, 2)).ravel()) == {200}


def test_a_bmp_with_a_palette_of_greys_is_read_and_one_of_colours_is_refused():
  pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
  greys = b"".join(bytes([level, level, level, 0]) for level in range(256))
  np.testing.assert_array_equal(images.decode(_bmp(pixels, greys), 1), pixels)
  reds = greys[:-4] + bytes([0, 0, 255, 0])
  with pytest.raises(images.UnusableImage, match="BMP with a palette: save it as PNG"):
    images.decode(_bmp(pixels, reds), 1)


@pytest.mark.parametrize(
  ("encoded", "message"),
  [
    (b"", "^the file is empty$"),
    (b"no image at all", "^is damaged, or no PNG, JPEG, BMP or GIF$"),
    (_png(_COLOURS)[:-20], "is damaged"),
    (_bmp(_COLOURS)[:-5], "is damaged"),
    (b"BM", "is damaged"),
    (b"\x89PNG\r\n\x1a\n", "is damaged"),
  ],
)
def test_damage(encoded, message):
  with pytest.raises(images.UnusableImage, match=message):
    images.decode(encoded, 3)


@support.quick
@given(st.binary(max_size=60), st.integers(0, 60))
def test_whatever_the_bytes_there_is_an_image_or_one_error(noise, cut):
  for encoded in (noise, _png(_COLOURS)[:cut] + noise, _bmp(_COLOURS)[:cut] + noise):
    try:
      assert images.decode(encoded, 3).dtype == np.uint8
    except images.UnusableImage as error:
      assert len(str(error).splitlines()) == 1


def _sized(height, width):
  """The headers of files that declare a size and hold nothing else."""
  yield (
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(5)
  )
  yield b"GIF89a" + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + bytes(9)
  yield b"BM" + bytes(12) + struct.pack("<IiiHH", 40, width, -height, 1, 24) + bytes(24)


def test_images_that_would_fill_the_memory_are_refused_by_their_headers():
  for encoded in _sized(16_000, 15_000):
    with pytest.raises(
      images.UnusableImage, match="is of 16000×15000 pixels, more than"
    ):
      images.decode(encoded, 3)
  # A JPEG's size stands behind other segments.
  jpeg = bytearray(tf.io.encode_jpeg(np.zeros([8, 8, 3], np.uint8)).numpy())
  frame = jpeg.index(b"\xff\xc0")
  jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 16_000, 15_000)
  with pytest.raises(images.UnusableImage, match="is of 16000×15000 pixels, more than"):
    images.decode(bytes(jpeg), 3)
  for encoded in _sized(8, 8):
    with pytest.raises(images.UnusableImage, match="is damaged"):
      images.decode(encoded, 3)
