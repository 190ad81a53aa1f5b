"""Each rule on hand-made operators, at its border and beyond."""

import numpy as np
import pytest

from tests.tflite_export.hand_made_graphs import SAME, graph_of, options, tensor
from tflite_export.xnnpack.xnnpack_operators import block_size, delegate_parts
from tflite_export.xnnpack.xnnpack_rules import Place, fit


def said_of(kind, kernel, image=(1, 8, 8, 3), dtype="float32", pad=None, **given):
  """Returns what is said of a convolution, behind a PAD if there are amounts."""
  tensors = [
    tensor(image, dtype),
    tensor(kernel, dtype, constant=True),
    tensor((1, 4, 4, 8), dtype),
    tensor(image, dtype),
    tensor((4, 2), "int32", constant=True),
  ]
  operators = [(kind, (3 if pad else 0, 1), (2,), options(**given))]
  if pad:
    operators.insert(0, ("PAD", (0, 4), (3,), None))
  graph = graph_of(operators, tensors, {0: pad} if pad else {})
  return fit(graph, graph.operators[-1])


def padded(amount):
  return ((0, 0), (amount, amount), (amount, amount), (0, 0))


STRIDE_2 = {"strideH": 2, "strideW": 2}
STEM, POINTWISE = (8, 3, 3, 3), (8, 1, 1, 3)


class TestConvolution:
  @pytest.mark.parametrize(
    ("kernel", "changes", "place"),
    [
      (POINTWISE, {}, Place.INSIDE),
      (POINTWISE, {"padding": SAME}, Place.INSIDE),
      (STEM, {"pad": padded(1), **STRIDE_2}, Place.ENTRY),
    ],
  )
  def test_fits(self, kernel, changes, place):
    assert said_of("CONV_2D", kernel, **changes).place == place

  @pytest.mark.parametrize(
    ("kernel", "changes", "reason"),
    [
      (POINTWISE, STRIDE_2, "1×1 convolution with a stride"),
      (POINTWISE, {"pad": padded(1)}, "1×1 convolution with padding"),
      (POINTWISE, {"dilationHFactor": 2}, "dilated"),
      (POINTWISE, {"image": (1, 8, 8, 6)}, "grouped"),
      (POINTWISE, {"dtype": "int8"}, "works on int8"),
      (STEM, {"pad": padded(1)}, "has not stride 2"),
      (STEM, {"padding": SAME, **STRIDE_2}, "stride-2 SAME padding"),
      (STEM, STRIDE_2, "not padded by 1"),
      (STEM, {"pad": ((0, 0), (0, 1), (0, 1), (0, 0)), **STRIDE_2}, "not padded by 1"),
      (STEM, {"pad": ((0, 0), (1, 1), (1, 1), (0, 1)), **STRIDE_2}, "not padded by 1"),
      ((8, 3, 3, 4), {"image": (1, 8, 8, 4), **STRIDE_2}, "on 4 input channels"),
      ((8, 5, 5, 3), STRIDE_2, "5×5 convolution"),
    ],
  )
  def test_does_not_fit(self, kernel, changes, reason):
    said = said_of("CONV_2D", kernel, **changes)
    assert said.place == Place.NOWHERE
    assert reason in said.reason
    assert said.mend


class TestDepthwise:
  @pytest.mark.parametrize(
    ("size", "changes"),
    [
      (3, {"padding": SAME}),
      (5, {"padding": SAME}),
      (3, {"pad": padded(1), **STRIDE_2}),
      (5, {"pad": padded(2), **STRIDE_2}),
    ],
  )
  def test_fits(self, size, changes):
    said = said_of("DEPTHWISE_CONV_2D", (1, size, size, 3), **changes)
    assert said.place == Place.INSIDE

  @pytest.mark.parametrize(
    ("kernel", "changes", "reason"),
    [
      ((1, 3, 3, 3), {}, "not padded by 1"),
      ((1, 5, 5, 3), {"pad": padded(1)}, "not padded by 2"),
      ((1, 3, 3, 3), {"padding": SAME, **STRIDE_2}, "stride-2 SAME padding"),
      ((1, 3, 3, 3), {"pad": padded(1), "strideH": 2}, "strides (2, 1)"),
      ((1, 3, 3, 3), {"pad": padded(1), "strideH": 3, "strideW": 3}, "strides"),
      ((1, 3, 3, 6), {"padding": SAME}, "depth multiplier"),
      ((1, 7, 7, 3), {"padding": SAME}, "7×7"),
      ((1, 3, 5, 3), {"padding": SAME}, "3×5"),
      ((1, 3, 3, 3), {"padding": SAME, "dilationWFactor": 2}, "dilated"),
    ],
  )
  def test_does_not_fit(self, kernel, changes, reason):
    said = said_of("DEPTHWISE_CONV_2D", kernel, **changes)
    assert said.place == Place.NOWHERE
    assert reason in said.reason
    assert said.mend


def test_padding_that_another_operator_reads_too_is_not_fused():
  tensors = [tensor((1, 8, 8, 3)), tensor(STEM, constant=True), tensor((1, 4, 4, 8))]
  tensors += [tensor((1, 10, 10, 3)), tensor((4, 2), constant=True), tensor((1,))]
  operators = [
    ("PAD", (0, 4), (3,), None),
    ("CONV_2D", (3, 1), (2,), options(**STRIDE_2)),
    ("RELU", (3,), (5,), None),
  ]
  alone = graph_of(operators[:2], tensors, {0: padded(1)})
  shared = graph_of(operators, tensors, {0: padded(1)})
  assert fit(alone, alone.operators[1]).place == Place.ENTRY
  assert "not padded" in fit(shared, shared.operators[1]).reason


IMAGE = (1, 8, 8, 4)


@pytest.mark.parametrize(
  ("kind", "shapes", "constant", "place"),
  [
    ("ADD", (IMAGE, IMAGE), False, Place.INSIDE),
    ("MUL", (IMAGE, (1, 1, 1, 4)), False, Place.INSIDE),
    ("ADD", (IMAGE, (1, 1, 1, 4)), True, Place.NOWHERE),
    ("ADD", (IMAGE, (4,)), True, Place.NOWHERE),
    ("SUB", (IMAGE, IMAGE), False, Place.NOWHERE),
    ("RELU6", (IMAGE,), False, Place.INSIDE),
    ("RELU6", ((1, 4),), False, Place.NOWHERE),
    ("MEAN", (IMAGE,), False, Place.INSIDE | Place.EXIT),
    ("MEAN", ((1, 8, 4),), False, Place.NOWHERE),
    ("DEPTH_TO_SPACE", (IMAGE,), False, Place.EXIT),
    ("RESIZE_BILINEAR", (IMAGE,), False, Place.INSIDE),
    ("RESIZE_BILINEAR", ((1, 1, 8, 4),), False, Place.NOWHERE),
    ("MAX_POOL_2D", (IMAGE,), False, Place.NOWHERE),
    ("CONCATENATION", (IMAGE, IMAGE), False, Place.NOWHERE),
    ("SOFTMAX", (IMAGE,), False, Place.NOWHERE),
    ("CUSTOM", (IMAGE,), False, Place.NOWHERE),
  ],
)
def test_other_operators(kind, shapes, constant, place):
  tensors = [tensor(shape) for shape in shapes]
  if constant:
    tensors[-1] = tensor(shapes[-1], constant=True)
  tensors.append(tensor(IMAGE))
  count = len(shapes)
  graph = graph_of([(kind, range(count), (count,), None)], tensors)
  said = fit(graph, graph.operators[0])
  assert said.place == place
  assert bool(said.reason) == (place == Place.NOWHERE)


@pytest.mark.parametrize(
  ("used", "block"),
  [
    # Rows of output channels; every block of 4 (2) channels must be 90 % full.
    (np.ones((4, 10), bool), 4),
    (np.repeat(np.eye(2, 10, dtype=bool), 2, axis=0), 2),
    (np.eye(4, 10, dtype=bool), 1),
    (np.repeat([[True], [True], [True], [False]], 10, axis=1), 1),
  ],
)
def test_blocks(used, block):
  tensors = [tensor((1, 2, 2, 10)), tensor((4, 1, 1, 10), constant=True), tensor((1,))]
  nonzero = {1: used.reshape(4, 1, 1, 10)}
  graph = graph_of([("CONV_2D", (0, 1), (2,), options())], tensors, nonzero=nonzero)
  assert block_size(graph, graph.operators[0]) == block


@pytest.mark.parametrize(("missing", "block"), [(4, 4), (5, 1)])
def test_blocks_are_used_when_nine_tenths_full(missing, block):
  used = np.ones((4, 10), bool)
  # One in each column and block of 2, so that those are not full either.
  used[0, :missing] = False
  used[2, 10 - missing :] = missing == 4
  tensors = [tensor((1, 2, 2, 10)), tensor((4, 1, 1, 10), constant=True), tensor((1,))]
  nonzero = {1: used.reshape(4, 1, 1, 10)}
  graph = graph_of([("CONV_2D", (0, 1), (2,), options())], tensors, nonzero=nonzero)
  assert block_size(graph, graph.operators[0]) == block


def test_parts_end_where_the_delegate_does_not_take_an_operator():
  tensors = [tensor(IMAGE) for _ in range(4)]
  operators = [("RELU", (0,), (1,), None), ("CUSTOM", (1,), (2,), None)]
  operators.append(("RELU", (2,), (3,), None))
  assert delegate_parts(graph_of(operators, tensors)) == {0: 0, 1: 1, 2: 2}
