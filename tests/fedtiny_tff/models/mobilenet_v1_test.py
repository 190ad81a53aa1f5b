"""MobileNetV1 of MLPerf Tiny and for XNNPACK: layers, sizes and blocks."""

import numpy as np
import pytest
import tensorflow as tf

from tests.fedtiny_tff.models import support

# Outputs of the units, and how often the image is halved there.
_OUTPUTS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_HALVINGS = (1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4, 5, 5)
_INPUTS = (32, *_OUTPUTS[:-1])
_WAKE_WORDS = ((96, 96, 3), 2)


def _parameters(divisor, classes):
  ins, outs = ([n // divisor for n in group] for group in (_INPUTS, _OUTPUTS))
  stem, last = 32 // divisor, 1024 // divisor
  kernels = 27 * stem + sum(9 * i + i * o for i, o in zip(ins, outs, strict=True))
  return kernels + 2 * (stem + sum(ins) + sum(outs)) + last * classes + classes


def _macs(divisor, classes, side):
  ins, outs = ([n // divisor for n in group] for group in (_INPUTS, _OUTPUTS))
  total = 27 * (32 // divisor) * (side // 2) ** 2 + 1024 // divisor * classes
  # The depthwise convolution of a unit already has the unit's output size.
  for i, o, halvings in zip(ins, outs, _HALVINGS, strict=True):
    total += (9 * i + i * o) * (side // 2**halvings) ** 2
  return total


def test_the_papers_size_at_full_width():
  assert _parameters(1, 1000) == 4_231_976
  assert _macs(1, 1000, 224) == 568_740_352
  profile = support.profile("mobilenet_v1_sparse", *_WAKE_WORDS)
  assert profile.parameters == 4_231_976 - 998 * 1025
  assert profile.macs == _macs(1, 2, 96)


def test_a_quarter_of_the_channels_for_wake_words():
  profile = support.profile("mobilenet_v1_025", *_WAKE_WORDS)
  assert profile.parameters == _parameters(4, 2) == 213_586
  assert profile.macs == _macs(4, 2, 96) == 7_489_664


def test_both_have_the_same_layers_at_equal_width():
  quarter = support.get_model("mobilenet_v1_sparse", *_WAKE_WORDS, 0.25)
  assert quarter.spec == support.get_model("mobilenet_v1_025", *_WAKE_WORDS).spec


def test_width_multiplies_the_quarter():
  weights = support.sizes(support.get_model("mobilenet_v1_025", (8, 8, 1), 2, 2.0))
  assert weights["unit13_pointwise"] == 512 * 512


def test_blocks():
  def units(*numbers):
    return tuple(f"unit{number}_pointwise" for number in numbers)

  assert support.blocks(support.get_model("mobilenet_v1_025", *_WAKE_WORDS)) == (
    units(1, 2, 3, 4, 5),
    units(6, 7, 8),
    units(9, 10, 11),
    units(12),
    (*units(13), "logits"),
  )


@pytest.mark.slow
def test_the_converter_keeps_to_the_sparse_paths_operators():
  model = support.get_model("mobilenet_v1_sparse", (32, 32, 3), 4, 0.05).build()
  content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
  interpreter = tf.lite.Interpreter(
    model_content=content,
    experimental_op_resolver_type=(
      tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    ),
  )
  names = [op["op_name"] for op in interpreter._get_ops_details()]
  assert names[:3] == ["PAD", "CONV_2D", "DEPTHWISE_CONV_2D"]
  assert names[-2:] == ["MEAN", "FULLY_CONNECTED"]
  assert set(names[2:-2]) == {"PAD", "CONV_2D", "DEPTHWISE_CONV_2D"}
  # Padding for the stem and four strided units only: batch norm and ReLU6 fuse.
  assert (names.count("PAD"), len(names)) == (5, 5 + 1 + 2 * 13 + 2)


def test_grey_images_have_three_channels_before_the_sparse_stem():
  grey = support.get_model("mobilenet_v1_sparse", (8, 8, 1), 10, 0.25)
  colour = support.get_model("mobilenet_v1_sparse", (8, 8, 3), 10, 0.25)
  assert grey.spec == colour.spec
  model, image = grey.build(), np.random.default_rng(0).normal(size=(2, 8, 8, 1))
  assert model.get_layer("stem").kernel.shape == (3, 3, 3, 8)
  # The same weights give the same logits for the image that is grey in three channels.
  other = colour.build()
  other.set_weights(model.get_weights())
  np.testing.assert_array_equal(model(image), other(np.repeat(image, 3, axis=-1)))


@pytest.mark.parametrize(
  ("name", "channels", "read"),
  [
    ("mobilenet_v1_sparse", 2, 2),
    ("mobilenet_v1_025", 1, 1),
    ("mobilenet_v2_sparse", 1, 3),
    ("mobilenet_v2_sparse", 3, 3),
  ],
)
def test_channels_that_the_stem_reads(name, channels, read):
  model = support.graph_model(name, (8, 8, channels), 10, 0.25)
  assert model.get_layer("stem").kernel.shape[2] == read
