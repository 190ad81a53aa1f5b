"""Where each prunable layer sits in the flat vector."""

import numpy as np
import pytest

from fedtiny_tff import spec as spec_lib
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
