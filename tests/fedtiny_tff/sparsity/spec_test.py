"""Where each prunable layer sits in the flat vector."""

import numpy as np
import pytest

from fedtiny_tff.sparsity import spec as spec_lib
from tests.fedtiny_tff import support

_SPEC = spec_lib.PrunableSpec(
  (
    spec_lib.LayerSpec("conv", (3, 3, 2, 4)),
    spec_lib.LayerSpec("hidden", (4, 2)),
    spec_lib.LayerSpec("logits", (2, 3)),
  ),
  ((0,), (1, 2)),
)


def test_layout_by_hand():
  # 3*3*2*4 = 72, 4*2 = 8, 2*3 = 6: together 86.
  assert _SPEC.sizes == (72, 8, 6)
  assert _SPEC.offsets == (0, 72, 80, 86)
  assert _SPEC.size == 86
  assert [_SPEC.slice(i) for i in range(3)] == [
    slice(0, 72),
    slice(72, 80),
    slice(80, 86),
  ]


def test_counts_and_masks_by_layer():
  mask = np.zeros(86, dtype=bool)
  mask[[0, 71, 72, 80, 81, 85]] = True
  assert _SPEC.active_counts(mask) == (2, 1, 3)
  by_layer = _SPEC.masks_by_layer(mask)
  assert list(by_layer) == ["conv", "hidden", "logits"]
  assert by_layer["conv"].shape == (3, 3, 2, 4)
  assert by_layer["conv"][0, 0, 0, 0]
  assert by_layer["conv"][2, 2, 1, 3]
  # Row-major: flat index 85 - 80 = 5 of a 2x3 kernel is row 1, column 2.
  assert by_layer["logits"].tolist() == [[True, True, False], [False, False, True]]


def test_other_blocks_leave_the_layers():
  regrouped = _SPEC.with_blocks([[2], [0, 1]])
  assert regrouped.blocks == ((2,), (0, 1))
  assert regrouped.layers == _SPEC.layers


def test_a_model_without_prunable_layers_is_refused():
  with pytest.raises(ValueError, match="at least one prunable layer, got none"):
    spec_lib.PrunableSpec((), ())


@pytest.mark.parametrize(
  "blocks",
  [(), ((0,), (1,)), ((0, 1), (1, 2)), ((0, 1, 2, 3),), ((0, 1, 2), ()), ((-1, 0, 1),)],
)
def test_blocks_must_hold_each_layer_once(blocks):
  with pytest.raises(ValueError, match="each of the 3 layers exactly once, got"):
    _SPEC.with_blocks(blocks)


def test_a_helper_spec_has_one_block_per_layer():
  assert support.spec_of_sizes(4, 6).blocks == ((0,), (1,))


class TestChannelBlocks:
  def test_a_layer_without_has_groups_of_one(self):
    assert _SPEC.channel_blocks == (1, 1, 1)
    assert [layer.groups for layer in _SPEC.layers] == [72, 8, 6]

  def test_groups_by_hand(self):
    pairs = _SPEC.with_channel_block(2)
    # 4 and 2 output channels make pairs; 3 do not.
    assert pairs.channel_blocks == (2, 2, 1)
    assert [layer.groups for layer in pairs.layers] == [36, 4, 6]
    assert pairs.sizes == _SPEC.sizes
    assert pairs.blocks == _SPEC.blocks

  def test_channels_that_four_does_not_divide_make_pairs(self):
    assert _SPEC.with_channel_block(4).channel_blocks == (4, 2, 1)
    # The last word counts, also back to single weights.
    assert _SPEC.with_channel_block(4).with_channel_block(1) == _SPEC

  def test_a_group_is_neighbouring_outputs_at_one_input(self):
    layer = spec_lib.LayerSpec("dense", (2, 4), 2)
    spec = spec_lib.PrunableSpec((layer,), ((0,),))
    mask = np.zeros(8, dtype=bool)
    # Group 3 is weights 6 and 7: input 1, outputs 2 and 3.
    mask[6:8] = True
    assert spec.masks_by_layer(mask)["dense"].tolist() == [
      [False] * 4,
      [False, False, True, True],
    ]

  @pytest.mark.parametrize("block", [0, -2, 3, 8])
  def test_a_block_must_divide_the_channels(self, block):
    with pytest.raises(ValueError, match=f"its 4 output channels, got {block}"):
      spec_lib.LayerSpec("conv", (1, 1, 2, 4), block)


class TestRestriction:
  def test_by_hand(self):
    found = _SPEC.restricted_to({"conv", "logits", "stem"})
    assert [layer.name for layer in found.layers] == ["conv", "logits"]
    assert found.blocks == ((0,), (1,))
    assert found.offsets == (0, 72, 78)

  def test_an_empty_block_is_dropped(self):
    found = _SPEC.restricted_to(["logits", "hidden"])
    assert [layer.name for layer in found.layers] == ["hidden", "logits"]
    assert found.blocks == ((0, 1),)

  def test_blocks_keep_their_own_order(self):
    spec = _SPEC.with_blocks([[2, 0], [1]])
    assert spec.restricted_to(["conv", "logits"]).blocks == ((1, 0),)

  def test_nothing_left_is_refused(self):
    with pytest.raises(ValueError, match="at least one prunable layer, got none"):
      _SPEC.restricted_to(["stem"])
