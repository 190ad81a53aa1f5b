"""Encoded images to arrays of bytes."""

import struct
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.arrays import Array
from fedtiny_tff.data import feature_ops

_BMP_HEADER = struct.Struct("<14xI10xH")
_BMP_PALETTE = 14
# A large camera's; decoded they take 200 MB.
_MOST_PIXELS = 1 << 26
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24
_GIF = b"GIF8"
# How files begin, and where and how they say width and height.
_SIZES = (
  (_PNG, struct.Struct(">II"), 16),
  (_GIF, struct.Struct("<HH"), 6),
  (b"BM", struct.Struct("<ii"), 18),
)


class UnusableImage(ValueError):
  """An image that cannot be decoded; the message says why, in one line."""


def decode(
  encoded: bytes,
  channels: int,
  size: Optional[tuple[int, int]] = None,
  *,
  makes_grey: bool = False,
) -> Array:
  """Decodes a PNG, JPEG, BMP or GIF file (of an animation the first picture).

  Transparency is dropped, and so is the orientation that cameras note.

  Args:
    encoded: Content of the file.
    channels: 3, or 1 for grey.
    size: Height and width to resize to, bilinear with antialiasing; None = as it is.
    makes_grey: Whether colours become grey where grey is wanted; they are unusable
      otherwise.

  Returns:
    uint8 [height, width, channels].

  Raises:
    UnusableImage: When it cannot be decoded, or is in colour and must not be.
  """
  _check_palette(encoded)
  _check_depth(encoded)
  _check_size(encoded)
  try:
    image = tf.io.decode_image(encoded, 3, expand_animations=False)
    if channels == 1:
      image = _grey(image, makes_grey)
    if size is not None and tuple(image.shape[:2]) != size:
      image = feature_ops.resized(image[tf.newaxis], *size)[0]
  except tf.errors.OpError as error:
    if not encoded:
      raise UnusableImage("the file is empty") from error
    raise UnusableImage("is damaged, or no PNG, JPEG, BMP or GIF") from error
  pixels: Array = image.numpy()
  return pixels


def _grey(image: tf.Tensor, makes_grey: bool) -> tf.Tensor:
  if not makes_grey and tf.reduce_any(image != image[..., :1]):
    raise UnusableImage("is in colour, expected grey")
  return feature_ops.greyed(image)


def is_modest(encoded: tf.Tensor, most_pixels: int) -> tf.Tensor:
  """Tells in a graph whether an image is a PNG or JPEG of so many pixels at most.

  A PNG of 16 bits a channel is not, whatever its size.

  Args:
    encoded: Scalar string.
    most_pixels: As its header declares them.

  Returns:
    bool scalar; it fails with an error of TensorFlow where such a header is damaged.
  """

  def of_png() -> tf.Tensor:
    is_deep = tf.strings.substr(encoded, _PNG_DEPTH, 1) == b"\x10"
    size = tf.strings.substr(encoded, 16, 8)
    size = tf.io.decode_raw(size, tf.int32, little_endian=False)
    return tf.ensure_shape(tf.where(is_deep, tf.int32.max, size), [2])

  def of_jpeg() -> tf.Tensor:
    return tf.io.extract_jpeg_shape(encoded)[:2]

  def begins(magic: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, len(magic)) == magic

  size = tf.case(
    [(begins(_PNG), of_png), (begins(_JPEG), of_jpeg)],
    default=lambda: tf.fill([2], tf.int32.max),
  )
  # As floating-point numbers, for products of nonsense overflow.
  return tf.reduce_prod(tf.abs(tf.cast(size, tf.float64))) <= most_pixels


def _check_size(encoded: bytes) -> None:
  """Refuses an image that would fill the memory, by the size that it declares."""
  height, width = _declared_size(encoded)
  if height * width > _MOST_PIXELS:
    raise UnusableImage(
      f"is of {height}×{width} pixels, more than {_MOST_PIXELS:,} in all"
    )
  # TensorFlow decodes all pictures of an animation to return the first.
  if encoded.startswith(_GIF) and _animation_pixels(encoded) > _MOST_PIXELS:
    raise UnusableImage(f"is an animation of more than {_MOST_PIXELS:,} pixels in all")


def _animation_pixels(encoded: bytes) -> int:
  """Adds the sizes that a GIF's pictures declare, as far as its blocks go.

  Format: https://www.w3.org/Graphics/GIF/spec-gif89a.txt
  """

  def after_colours(place: int, packed: int) -> int:
    return place + (3 << (packed & 7) + 1 if packed & 0x80 else 0)

  pixels = 0
  try:
    place = after_colours(13, encoded[10])
    while encoded[place] in (0x21, 0x2C):
      if encoded[place] == 0x21:
        place += 2
      else:
        width, height, packed = struct.unpack_from("<HHB", encoded, place + 5)
        pixels += width * height
        place = after_colours(place + 10, packed) + 1
      while encoded[place]:
        place += 1 + encoded[place]
      place += 1
  except (IndexError, struct.error):
    pass  # It ends here, for TensorFlow as well.
  return pixels


def _declared_size(encoded: bytes) -> tuple[int, int]:
  """Returns height and width as a file's header says; (0, 0) where it says nothing."""
  for magic, layout, place in _SIZES:
    if encoded.startswith(magic) and len(encoded) >= place + layout.size:
      width, height = layout.unpack_from(encoded, place)
      return abs(height), abs(width)
  if encoded.startswith(_JPEG):
    try:
      height, width, _ = tf.io.extract_jpeg_shape(encoded).numpy().tolist()
    except tf.errors.OpError:
      return 0, 0
    return height, width
  return 0, 0


def _check_depth(encoded: bytes) -> None:
  """Refuses a PNG of 16 bits a channel, whose lower ones TensorFlow would drop."""
  if encoded.startswith(_PNG) and encoded[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10":
    raise UnusableImage("has 16 bits a channel: save it as 8")


def _check_palette(encoded: bytes) -> None:
  """Refuses a BMP with a palette of colours: TensorFlow takes its indices for grey."""
  if not encoded.startswith(b"BM") or len(encoded) < _BMP_HEADER.size:
    return
  header_bytes, bits = _BMP_HEADER.unpack_from(encoded)
  if bits > 8:
    return
  start = _BMP_PALETTE + header_bytes
  palette = np.frombuffer(encoded[start : start + 1024], np.uint8)
  greys = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 3)
  if len(palette) < 1024 or (palette.reshape(256, 4)[:, :3] != greys).any():
    raise UnusableImage("is a BMP with a palette: save it as PNG")
