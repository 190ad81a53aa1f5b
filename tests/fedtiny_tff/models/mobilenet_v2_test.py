"""MobileNetV2 for XNNPACK: layers, sizes and blocks."""

from tests.fedtiny_tff.models import support

# Expansion, outputs, units, stride: table 2 of the paper.
_TABLE = (
  (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
  (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def _by_hand(classes, side):
  """Returns (trainable parameters, multiply-accumulates) at width 1."""
  side //= 2
  parameters, macs, inputs = 27 * 32 + 2 * 32, 27 * 32 * side**2, 32
  for expansion, outputs, units, first_stride in _TABLE:
    for unit in range(units):
      inner = expansion * inputs
      if expansion > 1:
        parameters += inputs * inner + 2 * inner
        macs += inputs * inner * side**2
      side //= first_stride if unit == 0 else 1
      parameters += 9 * inner + 2 * inner + inner * outputs + 2 * outputs
      macs += (9 * inner + inner * outputs) * side**2
      inputs = outputs
  parameters += 320 * 1280 + 2 * 1280 + 1280 * classes + classes
  macs += 320 * 1280 * side**2 + 1280 * classes
  return parameters, macs


def test_the_papers_size():
  assert _by_hand(1000, 224) == (3_504_872, 300_774_272)
  profile = support.profile("mobilenet_v2_sparse", (96, 96, 3), 2)
  assert (profile.parameters, profile.macs) == _by_hand(2, 96)


def test_blocks_are_stages_of_growing_width():
  blocks = support.blocks(support.get_model("mobilenet_v2_sparse", (96, 96, 3), 2))
  # Units of stages 1 to 4, two kernels each but one in the first unit.
  assert [len(block) for block in blocks] == [2 * 10 - 1, 6, 6, 4]
  assert blocks[0][:2] == ("stage1_unit1_project", "stage2_unit1_expand")
  assert blocks[1][0] == "stage5_unit1_expand"
  assert blocks[2][-1] == "stage6_unit3_project"
  assert blocks[3] == ("stage7_unit1_expand", "stage7_unit1_project", "last", "logits")


def test_units_add_their_input_where_shapes_agree():
  model = support.graph_model("mobilenet_v2_sparse", (96, 96, 3), 2)
  added = [layer.name for layer in model.layers if layer.name.endswith("_add")]
  assert added == [
    f"stage{stage}_unit{unit}_add"
    for stage, (_, _, units, _) in enumerate(_TABLE, start=1)
    for unit in range(2, units + 1)
  ]


def test_width_covers_the_last_convolution():
  found = support.get_model("mobilenet_v2_sparse", (9, 5, 2), 3, 0.1)
  weights = support.sizes(found)
  # 24 -> 2.4 and 16 -> 1.6 both become 2, so the inner width is 12.
  assert weights["stage2_unit1_expand"] == 2 * 12
  assert weights["last"] == 32 * 128
  assert weights["logits"] == 128 * 3
