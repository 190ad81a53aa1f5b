"""Gradients in builtin operators equal TensorFlow's own, and TFLite has all of them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.support import quick
from tflite_export.device_training import builtin_gradients


def both(function, *shapes, levels=None):
  """Returns a function's gradients by its inputs: TensorFlow's own, and the builtin ones.

  Args:
    function: From tensors to a tensor.
    *shapes: Of the inputs, which are drawn.
    levels: From how many values; few of them make equal ones.
  """
  generator = np.random.default_rng(0)
  values = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
  if levels:
    values = [np.round(value * levels) / levels for value in values]
  found = []
  for is_builtin in (False, True):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      inputs = [tf.constant(value) for value in values]
      if is_builtin:
        with builtin_gradients.builtin_gradients():
          output = function(*inputs)
      else:
        output = function(*inputs)
      factors = tf.constant(
        np.random.default_rng(1).normal(size=output.shape).astype(np.float32)
      )
      gradients = tf.gradients(tf.reduce_sum(output * factors), inputs)
      found.append(session.run(gradients))
      operators = {o.type for o in tf.compat.v1.get_default_graph().get_operations()}
  assert not {o for o in operators if "Backprop" in o or o.endswith("Grad")} - {
    "BiasAddGrad",
    "Conv2DBackpropInput",  # What TFLite's transposed convolution is made from.
  }
  return zip(*found, strict=True)


def check(function, *shapes, levels=None):
  for own, builtin in both(function, *shapes, levels=levels):
    np.testing.assert_allclose(builtin, own, rtol=1e-4, atol=1e-4 * np.abs(own).max())


@quick
@given(
  side=st.tuples(st.integers(1, 9), st.integers(1, 9)),
  window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
  stride=st.integers(1, 3),
  dilation=st.integers(1, 2),
  padding=st.sampled_from(["SAME", "VALID"]),
  channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_convolutions(side, window, stride, dilation, padding, channels):
  # TensorFlow's own has no gradient for both at once.
  stride = 1 if dilation > 1 else stride
  if padding == "VALID":
    side = tuple(
      max(s, (w - 1) * dilation + 1) for s, w in zip(side, window, strict=True)
    )
  check(
    lambda images, kernel: tf.nn.conv2d(
      images, kernel, stride, padding, dilations=dilation
    ),
    (2, *side, channels[0]),
    (*window, *channels),
  )
  check(
    lambda images, kernel: tf.nn.depthwise_conv2d(
      images, kernel, [1, stride, stride, 1], padding, dilations=[dilation] * 2
    ),
    (2, *side, channels[0]),
    (*window, *channels),
  )


@quick
@given(
  side=st.tuples(st.integers(3, 9), st.integers(3, 9)),
  window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
  stride=st.integers(1, 3),
  padding=st.sampled_from(["SAME", "VALID"]),
)
def test_poolings(side, window, stride, padding):
  shape = (2, *side, 3)
  check(lambda images: tf.nn.avg_pool2d(images, window, stride, padding), shape)
  # With equal values, the first of which gets all.
  check(
    lambda images: tf.nn.max_pool2d(images, window, stride, padding), shape, levels=1
  )


@pytest.mark.parametrize(
  "function",
  [tf.nn.relu, tf.nn.relu6, lambda x: tf.nn.leaky_relu(x, 0.3)],
  ids=["relu", "relu6", "leaky_relu"],
)
def test_activations(function):
  check(lambda x: function(4 * x), (5, 7), levels=2)


def test_a_convolution_by_hand():
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    images = tf.reshape(tf.constant([1.0, 2.0, 3.0]), [1, 1, 3, 1])
    kernel = tf.reshape(tf.constant([10.0, 20.0]), [1, 2, 1, 1])
    with builtin_gradients.builtin_gradients():
      output = tf.nn.conv2d(images, kernel, 1, "VALID")
    by_images, by_kernel = session.run(tf.gradients(output, [images, kernel]))
  # Two outputs: 10 + 40 and 20 + 60.
  assert by_kernel.reshape(-1).tolist() == [1 + 2, 2 + 3]
  assert by_images.reshape(-1).tolist() == [10, 10 + 20, 20]


@pytest.mark.parametrize(
  ("function", "message"),
  [
    (
      lambda x: tf.nn.conv2d(x, tf.zeros([1, 1, 2, 4]), 1, "VALID"),
      "convolution in groups",
    ),
    (
      lambda x: tf.nn.max_pool2d(x, 2, 1, "VALID", data_format="NCHW"),
      "channels_last",
    ),
  ],
)
def test_what_cannot_be_trained_is_refused(function, message):
  with tf.Graph().as_default():
    images = tf.zeros([1, 4, 4, 4])
    with builtin_gradients.builtin_gradients():
      output = function(images)
    with pytest.raises(InputError, match=message):
      tf.gradients(output, images)
