"""Augmentation moves, mirrors and blanks pixels, by seed, image by image."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data import augmentation
from fedtiny_tff.errors import InputError

_SEED = tf.constant([4, 2], tf.int32)


def _images(count, height, width):
  size = count * height * width * 2
  values = np.arange(1, size + 1, dtype=np.float32)
  return values.reshape(count, height, width, 2)


def _is_shifted_copy(original, found):
  """Whether some crop of the original, zero-padded by an eighth, is the found image."""
  height, width, _ = original.shape
  rows, columns = height // 8, width // 8
  padded = np.pad(original, [(rows, rows), (columns, columns), (0, 0)])
  return any(
    np.array_equal(padded[top : top + height, left : left + width], found)
    for top in range(2 * rows + 1)
    for left in range(2 * columns + 1)
  )


@pytest.mark.parametrize(
  ("height", "width", "shifts"), [(32, 32, (4, 4)), (8, 17, (1, 2)), (24, 1, (3, 0))]
)
def test_a_crop_is_a_shifted_copy_and_images_differ(height, width, shifts):
  images = _images(150, height, width)
  found = augmentation.crop(tf.constant(images), _SEED).numpy()
  assert found.shape == images.shape
  assert all(map(_is_shifted_copy, images, found))
  # Zeros are what lies outside; all shifts that there are do occur.
  first = [tuple(np.argwhere(image[..., 0])[0]) for image in found]
  assert tuple(np.max(first, axis=0)) == shifts
  assert tuple(np.min(first, axis=0)) == (0, 0)


def test_a_flip_mirrors_some_images_and_leaves_the_others():
  images = _images(40, 3, 4)
  found = augmentation.flip(tf.constant(images), _SEED).numpy()
  mirrored = [np.array_equal(f, i[:, ::-1]) for i, f in zip(images, found, strict=True)]
  same = [np.array_equal(f, i) for i, f in zip(images, found, strict=True)]
  assert all(a != b for a, b in zip(mirrored, same, strict=True))
  assert 10 <= sum(mirrored) <= 30


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (9, 20), (2, 3)])
def test_a_cutout_blanks_one_rectangle_of_half_of_each_side_at_most(height, width):
  images = _images(40, height, width)
  found = augmentation.cutout(tf.constant(images), _SEED).numpy()
  most = height // 2, width // 2
  for before, after in zip(images, found, strict=True):
    blank = (after == 0.0).all(axis=-1)
    rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
    assert most[0] // 2 <= len(rows) <= most[0]
    assert most[1] // 2 <= len(columns) <= most[1]
    assert blank.sum() == len(rows) * len(columns)
    assert blank.mean() <= 0.25
    np.testing.assert_array_equal(after[~blank], before[~blank])


def test_a_cutout_of_a_single_column_is_none():
  images = _images(8, 32, 1)
  found = augmentation.cutout(tf.constant(images), _SEED)
  np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("name", list(augmentation.AUGMENTATIONS))
def test_the_seed_decides_everything(name):
  images = tf.constant(_images(6, 20, 20))
  change = augmentation.AUGMENTATIONS[name]
  np.testing.assert_array_equal(change(images, _SEED), change(images, _SEED))
  other = change(images, tf.constant([4, 3], tf.int32))
  assert (change(images, _SEED) != other).numpy().any()


def test_names_are_applied_in_order_with_seeds_of_their_own():
  images = tf.constant(_images(6, 8, 8))
  fold_in = tf.random.experimental.stateless_fold_in
  expected = augmentation.flip(
    augmentation.crop(images, fold_in(_SEED, 0)), fold_in(_SEED, 1)
  )
  found = augmentation.augment(images, ("crop", "flip"), _SEED)
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(augmentation.augment(images, (), _SEED), images)


def test_examples_that_are_no_images_are_refused():
  with pytest.raises(InputError, match="augmentation flip needs images"):
    augmentation.augment(tf.zeros([4, 7]), ("flip",), _SEED)
