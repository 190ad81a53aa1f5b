"""The small dense competitors and the digits network: layers, sizes and blocks."""

import pytest

from tests.fedtiny_tff.models import support

_DIGITS = ((8, 8, 1), 10)
_CIFAR = ((32, 32, 3), 10)


@pytest.mark.parametrize(
  ("width", "channels", "thousands"),
  [
    (0.31, (10, 20, 40), 10),
    (0.63, (20, 40, 81), 38),
    (0.875, (28, 56, 112), 73),
    (1.05, (34, 67, 134), 105),
  ],
)
def test_the_four_documented_small_networks(width, channels, thousands):
  a, b, c = channels
  profile = support.profile("small_cnn", *_CIFAR, width)
  assert profile.prunable == (9 * a * b, 9 * b * c, 10 * c)
  assert profile.parameters == (
    27 * a + 9 * a * b + 9 * b * c + 2 * (a + b + c) + 10 * c + 10
  )
  assert profile.parameters == pytest.approx(1000 * thousands, rel=0.02)
  assert profile.macs == 27 * a * 1024 + 9 * a * b * 256 + 9 * b * c * 64 + 10 * c


def test_blocks_of_the_small_network():
  found = support.get_model("small_cnn", *_CIFAR, 0.31)
  assert support.blocks(found) == (("conv2",), ("conv3", "logits"))


def test_digits_sizes_by_hand():
  found = support.get_model("digits_cnn", *_DIGITS)
  assert support.sizes(found) == {
    "conv2": 9 * 16 * 32,
    "conv3": 9 * 32 * 32,
    "conv4": 9 * 32 * 64,
    "dense1": 64 * 64,
    "logits": 64 * 10,
  }
  assert found.spec.blocks == ((0,), (1, 2), (3, 4))


def test_digits_parameters_and_multiply_accumulates():
  profile = support.profile("digits_cnn", *_DIGITS)
  # Prunable 36,992; stem 144; batch norm 2 * 144; biases 64 + 10.
  assert profile.parameters == 4608 + 9216 + 18432 + 4096 + 640 + 144 + 288 + 74
  # Two convolutions at 8x8, two at 4x4.
  assert profile.macs == (144 + 4608) * 64 + (9216 + 18432) * 16 + 4096 + 640


def test_digits_width_covers_the_hidden_layer():
  weights = support.sizes(support.get_model("digits_cnn", *_DIGITS, 0.5))
  assert (weights["conv4"], weights["dense1"]) == (9 * 16 * 32, 32 * 32)
