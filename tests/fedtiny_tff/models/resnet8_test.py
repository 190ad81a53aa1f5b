"""ResNet-8 of MLPerf Tiny: layers, sizes and blocks."""

import pytest

from fedtiny_tff import cost
from fedtiny_tff.models import definition, resnet8


@pytest.fixture(name="found", scope="module")
def _found():
  return definition.define_model(
    "resnet8", lambda: resnet8.build((32, 32, 3), 10), resnet8.BLOCK_LAYERS
  )


def test_sizes_by_hand(found):
  assert {layer.name: layer.size for layer in found.spec.layers} == {
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


def test_blocks_are_the_units_with_their_shortcuts(found):
  names = [layer.name for layer in found.spec.layers]
  blocks = [tuple(names[i] for i in block) for block in found.spec.blocks]
  assert tuple(blocks) == resnet8.BLOCK_LAYERS


def test_parameters_and_multiply_accumulates(found):
  profile = cost.profile_model(found)
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


def test_it_adapts_to_other_data():
  model = resnet8.build((16, 16, 1), 3)
  assert model.output_shape == (None, 3)
