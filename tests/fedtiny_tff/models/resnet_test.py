"""ResNet18 of the paper and ResNet-8 of MLPerf Tiny: layers, sizes and blocks."""

import pytest

from tests.fedtiny_tff.models import support

_CIFAR = ((32, 32, 3), 10)


def test_resnet18_is_the_papers():
  profile = support.profile("resnet18", *_CIFAR)
  assert profile.parameters == 11_173_962
  assert profile.macs == 555_422_720
  # Stem 9*3*64, batch norm 2*4800, ten biases.
  assert profile.unpruned_parameters == 1_728 + 9_600 + 10
  assert profile.dense_macs == 1_728 * 1024


def test_resnet18_blocks_are_the_papers():
  found = support.get_model("resnet18", *_CIFAR)

  def unit(stage, number):
    shortcut = ["shortcut"] if stage > 1 and number == 1 else []
    return [f"stage{stage}_unit{number}_{x}" for x in ("conv1", "conv2", *shortcut)]

  assert [list(block) for block in support.blocks(found)] == [
    [*unit(1, 1), *unit(1, 2)],
    [*unit(2, 1), *unit(2, 2)],
    [*unit(3, 1), *unit(3, 2)],
    unit(4, 1),
    [*unit(4, 2), "logits"],
  ]
  weights = support.sizes(found)
  shares = [sum(weights[x] for x in block) for block in support.blocks(found)]
  # 3x3 kernels in units of 9*64*64 = 36,864, and 1x1 shortcuts.
  kernel = 36_864
  assert shares == [
    4 * kernel,
    (2 + 3 * 4) * kernel + 64 * 128,
    (8 + 3 * 16) * kernel + 128 * 256,
    (32 + 64) * kernel + 256 * 512,
    2 * 64 * kernel + 512 * 10,
  ]


def test_resnet18_for_odd_images():
  profile = support.profile("resnet18", (17, 23, 2), 7)
  # One channel less in the stem, three classes less.
  assert profile.parameters == 11_173_962 - 9 * 64 - 3 * 513
  # Halved, rounding up: 9x12, 5x6, 3x3 positions.
  kernel = 36_864
  assert profile.macs == (
    (9 * 2 * 64 + 4 * kernel) * 17 * 23
    + (14 * kernel + 64 * 128) * 9 * 12
    + (56 * kernel + 128 * 256) * 5 * 6
    + (224 * kernel + 256 * 512) * 3 * 3
    + 512 * 7
  )


@pytest.mark.parametrize(("width", "channels"), [(0.5, 32), (0.25, 16), (1 / 128, 1)])
def test_resnet18_width(width, channels):
  weights = support.sizes(support.get_model("resnet18", (8, 8, 1), 2, width))
  assert weights["stage1_unit1_conv1"] == 9 * channels**2
  assert weights["stage4_unit2_conv2"] == 9 * (8 * channels if channels > 1 else 4) ** 2


def test_resnet8_sizes_by_hand():
  assert support.sizes(support.get_model("resnet8", *_CIFAR)) == {
    "unit1_conv1": 9 * 16 * 16,
    "unit1_conv2": 9 * 16 * 16,
    "unit2_conv1": 9 * 16 * 32,
    "unit2_conv2": 9 * 32 * 32,
    "unit2_shortcut": 16 * 32,
    "unit3_conv1": 9 * 32 * 64,
    "unit3_conv2": 9 * 64 * 64,
    "unit3_shortcut": 32 * 64,
    "logits": 640,
  }


def test_resnet8_blocks_are_the_units_with_their_shortcuts():
  assert support.blocks(support.get_model("resnet8", *_CIFAR)) == (
    ("unit1_conv1", "unit1_conv2"),
    ("unit2_conv1", "unit2_conv2", "unit2_shortcut"),
    ("unit3_conv1", "unit3_conv2", "unit3_shortcut", "logits"),
  )


def test_resnet8_parameters_and_multiply_accumulates():
  profile = support.profile("resnet8", *_CIFAR)
  # Prunable 76,928; stem 432; batch norm 2 * (16 * 3 + 32 * 2 + 64 * 2) = 480;
  # ten biases.
  assert sum(profile.prunable) == 76_928
  assert profile.parameters == 76_928 + 432 + 480 + 10
  # Stem and unit 1 at 32x32, unit 2 at 16x16, unit 3 at 8x8.
  assert profile.dense_macs == 432 * 1024
  assert profile.macs == (
    (432 + 2 * 2304) * 1024 + (4608 + 9216 + 512) * 256 + (18432 + 36864 + 2048) * 64
    + 640
  )  # fmt: skip
