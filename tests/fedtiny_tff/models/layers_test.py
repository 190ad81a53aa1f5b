"""Rounding of channels, padding, and how depthwise kernels start."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.models import layers

_SPARSE_READY = layers.Style(symmetric=True, relu_limit=6.0)


@pytest.mark.parametrize(
  ("channels", "width", "expected"),
  [
    (64, 1.0, 64),
    (32, 0.25, 8),
    # 33.5 and 34.5: half goes up, also to odd numbers.
    (67, 0.5, 34),
    (69, 0.5, 35),
    # 9.92, 19.84.
    (32, 0.31, 10),
    (64, 0.31, 20),
    (64, 2.0, 128),
    (64, 1e-9, 1),
  ],
)
def test_channels_are_rounded_half_up_and_never_zero(channels, width, expected):
  assert layers.scaled(channels, width) == expected


@pytest.mark.parametrize("side", range(1, 8))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("style", [layers.Style(), _SPARSE_READY])
def test_both_paddings_give_the_same_size(side, stride, style):
  with tf.Graph().as_default():
    image = tf.keras.Input((side, 1, 2))
    x = layers.convolution_unit(image, 3, 3, stride, "conv", style)
    y = layers.depthwise_unit(image, stride, "depthwise", style)
  assert tuple(x.shape) == (None, -(-side // stride), 1, 3)
  assert tuple(y.shape) == (None, -(-side // stride), 1, 2)


def test_symmetric_padding_starts_a_pixel_outside():
  image = tf.keras.Input((4, 4, 1))
  model = tf.keras.Model(image, layers.convolution(image, 1, 3, 2, "c", _SPARSE_READY))
  model.get_layer("c").set_weights([np.ones((3, 3, 1, 1))])
  found = model(tf.ones((1, 4, 4, 1)))[0, :, :, 0]
  # Windows start at -1 and at 1: two of three rows and columns, then all three.
  np.testing.assert_array_equal(found, [[4, 6], [6, 9]])


def test_same_padding_starts_inside():
  image = tf.keras.Input((4, 4, 1))
  model = tf.keras.Model(image, layers.convolution(image, 1, 3, 2, "c"))
  model.get_layer("c").set_weights([np.ones((3, 3, 1, 1))])
  found = model(tf.ones((1, 4, 4, 1)))[0, :, :, 0]
  # Windows start at 0 and at 2, where the border is at the far end.
  np.testing.assert_array_equal(found, [[9, 6], [6, 4]])


def test_outputs_end_at_six_where_the_style_says_so():
  image = tf.keras.Input((1, 1, 3))
  model = tf.keras.Model(image, layers.relu(image, "a", _SPARSE_READY))
  found = model(tf.constant([[[[-1.0, 5.0, 9.0]]]]))
  np.testing.assert_array_equal(found, [[[[0, 5, 6]]]])


def test_depthwise_kernels_start_by_their_own_nine_inputs():
  image = tf.keras.Input((3, 3, 4000))
  model = tf.keras.Model(image, layers.depthwise_unit(image, 1, "d"))
  kernel = model.get_layer("d").depthwise_kernel.numpy()
  # Variance 2 / 9; 36,000 draws know it within a few percent.
  assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.03)


def test_layers_bear_their_convolutions_name():
  with tf.Graph().as_default():
    image = tf.keras.Input((4, 4, 1))
    output = layers.convolution_unit(image, 2, 3, 2, "first", _SPARSE_READY)
    names = [x.name for x in tf.keras.Model(image, output).layers[1:]]
  assert names == ["first_pad", "first", "first_batch_norm", "first_relu"]
