"""DS-CNN of MLPerf Tiny: layers, sizes and blocks."""

import pytest

from tests.fedtiny_tff.models import support


@pytest.mark.parametrize(
  ("shape", "positions"),
  # 49x10 MFCC features; 39x40 log-mel features. The stem halves, rounding up.
  [((49, 10, 1), 25 * 5), ((39, 40, 1), 20 * 20)],
)
def test_parameters_and_multiply_accumulates(shape, positions):
  profile = support.profile("ds_cnn", shape, 12)
  assert profile.prunable == (4096, 4096, 4096, 4096, 768)
  # Stem 10*4*64, four depthwise kernels 9*64, nine batch norms, twelve biases.
  assert profile.unpruned_parameters == 2560 + 4 * 576 + 9 * 128 + 12
  assert profile.dense_macs == (2560 + 4 * 576) * positions
  assert profile.macs == profile.dense_macs + 4 * 4096 * positions + 768


def test_blocks():
  assert support.blocks(support.get_model("ds_cnn", (49, 10, 1), 12)) == (
    ("unit1_pointwise", "unit2_pointwise"),
    ("unit3_pointwise",),
    ("unit4_pointwise", "logits"),
  )


def test_width():
  weights = support.sizes(support.get_model("ds_cnn", (49, 10, 1), 12, 2.5))
  assert (weights["unit1_pointwise"], weights["logits"]) == (160 * 160, 160 * 12)
