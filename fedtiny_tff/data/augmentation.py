"""Random changes to training images, vectorised over the batch.

Each is a function of images and a seed: the same seed changes the same batch in the
same way. Images are float32 [n, height, width, channels], already preprocessed, so
that a filled-in 0 is the mean colour.
"""

from collections.abc import Callable

import tensorflow as tf

from fedtiny_tff.errors import InputError

# Shares of each side, where published figures are of 4 and 16 pixels at 32×32: smaller
# images keep three quarters of their pixels too.
_SIDES_PER_PADDING = 8
_SIDES_PER_CUTOUT = 2


def _offsets(seed: tf.Tensor, images: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
  count = tf.shape(images)[0]
  return tf.random.stateless_uniform([count], seed, 0, limit, tf.int32)


def crop(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Pads by an eighth on every side and crops back to size at a random place.

  That is 4 pixels at 32×32; sides below 8 pixels stay.
  """
  fold_in = tf.random.experimental.stateless_fold_in
  height, width = tf.shape(images)[1], tf.shape(images)[2]
  rows_around, columns_around = (
    height // _SIDES_PER_PADDING,
    width // _SIDES_PER_PADDING,
  )
  around = [[0, 0], [rows_around] * 2, [columns_around] * 2, [0, 0]]
  padded = tf.pad(images, around)
  top = _offsets(fold_in(seed, 0), images, 2 * rows_around + 1)
  left = _offsets(fold_in(seed, 1), images, 2 * columns_around + 1)
  rows = tf.gather(padded, top[:, tf.newaxis] + tf.range(height), axis=1, batch_dims=1)
  cropped = tf.gather(rows, left[:, tf.newaxis] + tf.range(width), axis=2, batch_dims=1)
  return tf.ensure_shape(cropped, images.shape)


def flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Mirrors every second image, on average, left to right."""
  mirrored = _offsets(seed, images, tf.constant(2)) > 0
  chosen = mirrored[:, tf.newaxis, tf.newaxis, tf.newaxis]
  return tf.where(chosen, tf.reverse(images, axis=[2]), images)


def cutout(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Fills a rectangle around a random pixel with 0 (arXiv 1708.04552).

  Its sides are half of the image's, 16×16 pixels at 32×32, less what lies outside.
  """
  fold_in = tf.random.experimental.stateless_fold_in
  inside = []
  for axis in (1, 2):
    size = tf.shape(images)[axis]
    center = _offsets(fold_in(seed, axis), images, size)[:, tf.newaxis]
    side = size // _SIDES_PER_CUTOUT
    start = center - side // 2
    places = tf.range(size)[tf.newaxis]
    inside.append(tf.logical_and(places >= start, places < start + side))
  blank = tf.logical_and(inside[0][:, :, tf.newaxis], inside[1][:, tf.newaxis, :])
  return tf.where(blank[..., tf.newaxis], 0.0, images)


Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

AUGMENTATIONS: dict[str, Augmentation] = {"crop": crop, "flip": flip, "cutout": cutout}


def augment(images: tf.Tensor, names: tuple[str, ...], seed: tf.Tensor) -> tf.Tensor:
  """Applies named augmentations one after another.

  Args:
    images: float32 [n, height, width, channels].
    names: Keys of `AUGMENTATIONS`.
    seed: int32 [2]; each augmentation draws from a seed of its own.

  Raises:
    InputError: When the examples are not images.
  """
  if names and len(images.shape) != 4:
    raise InputError(
      f"augmentation {', '.join(names)} needs images [height, width, channels], the "
      f"dataset's examples have shape {images.shape[1:]}"
    )
  for number, name in enumerate(names):
    own = tf.random.experimental.stateless_fold_in(seed, number)
    images = AUGMENTATIONS[name](images, own)
  return images
