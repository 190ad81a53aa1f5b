"""What XNNPACK's sparse inference asks of a single operator.

Mirrors `xnn_check_nchw_compatibility` in XNNPACK's src/subgraph.c, and the fusion of
padding in `xnn_subgraph_fusion` there, on the operators that TFLite's delegate hands
over (`VisitNode` in tensorflow/lite/delegates/xnnpack/xnnpack_delegate.cc). Sparse
kernels work on channel-first images (NCHW): an operator can stand inside such a part
of the graph, at its entry or at its exit, or nowhere in it.
https://github.com/google/XNNPACK/blob/master/src/subgraph.c
"""

import dataclasses
import enum
from collections.abc import Sequence

from tflite_export.xnnpack.graph import Graph, Operator
from tflite_export.xnnpack.xnnpack_operators import (
  BINARY,
  SUMS,
  UNARY,
  delegated,
  is_dilated,
  kernel_of,
  padding_of,
  shape_of,
  strides_of,
)


class Place(enum.Flag):
  """Where in a channel-first part of the graph an operator can stand."""

  NOWHERE = 0
  INSIDE = enum.auto()
  ENTRY = enum.auto()
  EXIT = enum.auto()


@dataclasses.dataclass(frozen=True)
class Fit:
  """What the rules say of an operator.

  Attributes:
    place: Where it can stand.
    reason: The rule that fails, empty if none.
    mend: What to change in the model, empty if nothing helps.
  """

  place: Place
  reason: str = ""
  mend: str = ""


_VALID = "use ZeroPadding2D of half the kernel on every side, then padding='valid'"
_SEPARATE = "use a depthwise convolution followed by a 1×1 convolution"
_STEM = (
  "as the first layer use a 3×3 convolution of stride 2 on 3 channels after "
  "ZeroPadding2D(1), with padding='valid'; elsewhere a depthwise and a 1×1 convolution"
)
_STRIDE_BEFORE = "give the stride to a depthwise 3×3 convolution before it"
_STRIDED = "use a depthwise 3×3 convolution of stride 2"
_RELU = "use ReLU or hard-swish"
_MEND_BY_TYPE = {
  "AVERAGE_POOL_2D": _STRIDED,
  "MAX_POOL_2D": _STRIDED,
  "CONCATENATION": "add the tensors instead of joining them",
  "SUB": "negate one side in the layer before and add",
  "PRELU": _RELU,
  "SOFTMAX": "move it behind the global average pooling",
  "RESIZE_NEAREST_NEIGHBOR": "resize bilinearly",
  "RESHAPE": "end in GlobalAveragePooling2D instead of Flatten",
  "TRANSPOSE_CONV": "resize bilinearly, then use a 1×1 convolution",
  "REDUCE_MAX": "end in GlobalAveragePooling2D",
}
_FLOATS = ("float32", "float16")


def fit(graph: Graph, operator: Operator) -> Fit:
  """Returns where XNNPACK's sparse inference can place an operator, and why not."""
  if not delegated(operator):
    name = operator.custom_name or operator.type
    return _unfit(f"TFLite's XNNPACK delegate does not take {name}", operator)
  types = {graph.tensors[index].dtype for index in _values(graph, operator)}
  if not types <= set(_FLOATS):
    kinds = ", ".join(sorted(types - set(_FLOATS)))
    return Fit(
      Place.NOWHERE,
      f"works on {kinds}: only float32 and float16 run sparse",
      "convert to fp32_sparse or fp16_sparse",
    )
  if operator.type == "CONV_2D":
    return _convolution(graph, operator)
  if operator.type == "DEPTHWISE_CONV_2D":
    return _depthwise(graph, operator)
  if operator.type in BINARY:
    return _binary(graph, operator)
  return _other(graph, operator)


def _values(graph: Graph, operator: Operator) -> list[int]:
  """Returns the tensors an operator calculates with: no axes, shapes or paddings."""
  count = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 3}
  inputs = operator.inputs[: count.get(operator.type, 1)]
  if operator.type in BINARY:
    inputs = operator.inputs
  return [index for index in (*inputs, *operator.outputs) if index >= 0]


def _unfit(reason: str, operator: Operator) -> Fit:
  return Fit(Place.NOWHERE, reason, _MEND_BY_TYPE.get(operator.type, ""))


# A rule: whether it fails, what to say then, and the mend.
_Rule = tuple[bool, str, str]


def _judged(place: Place, rules: Sequence[_Rule]) -> Fit:
  """Returns the first rule that fails, or the place if none does."""
  for fails, reason, mend in rules:
    if fails:
      return Fit(Place.NOWHERE, reason, mend)
  return Fit(place)


def _convolution(graph: Graph, operator: Operator) -> Fit:
  """1×1 of stride 1 stands inside; 3×3 of stride 2 on 3 channels is the entry."""
  height, width, channels = kernel_of(graph, operator)
  strides, padding = strides_of(operator), padding_of(graph, operator)
  grouped = shape_of(graph, operator)[-1:] != (channels,)
  common = (
    (grouped, "grouped convolution", "use a convolution without groups"),
    (is_dilated(operator), "dilated convolution", "use dilation 1"),
  )
  if (height, width) == (1, 1):
    inside = (
      *common,
      (strides != (1, 1), "1×1 convolution with a stride", _STRIDE_BEFORE),
      (padding != (0, 0, 0, 0), "1×1 convolution with padding", "pad elsewhere"),
    )
    return _judged(Place.INSIDE, inside)
  entry = (
    *common,
    ((height, width) != (3, 3), f"{height}×{width} convolution", _SEPARATE),
    (strides != (2, 2), "3×3 convolution that has not stride 2", _STEM),
    (channels != 3, f"3×3 convolution on {channels} input channels, not 3", _STEM),
    (padding is None, "stride-2 SAME padding", "use ZeroPadding2D + valid"),
    (padding != (1, 1, 1, 1), "3×3 convolution not padded by 1 all around", _VALID),
  )
  return _judged(Place.ENTRY, entry)


def _depthwise(graph: Graph, operator: Operator) -> Fit:
  """3×3 padded by 1, or 5×5 padded by 2, of stride 1 or 2, stands inside."""
  height, width, channels = kernel_of(graph, operator)
  strides, padding = strides_of(operator), padding_of(graph, operator)
  name, half = f"{height}×{width} depthwise convolution", height // 2
  multiplied = shape_of(graph, operator)[-1:] != (channels,)
  rules = (
    (is_dilated(operator), "dilated depthwise convolution", "use dilation 1"),
    (multiplied, "has a depth multiplier", "use depth multiplier 1"),
    (strides not in ((1, 1), (2, 2)), f"strides {strides}", "use stride 1 or 2"),
    ((height, width) not in ((3, 3), (5, 5)), name, "use a 3×3 or 5×5 kernel"),
    (padding is None, "stride-2 SAME padding", "use ZeroPadding2D + valid"),
    (padding != (half,) * 4, f"{name} not padded by {half} all around", _VALID),
  )
  return _judged(Place.INSIDE, rules)


def _binary(graph: Graph, operator: Operator) -> Fit:
  """ADD and MUL of two images stand inside.

  With a constant second operand XNNPACK counts the sizes above 1 of the first one.
  """
  shapes = [shape_of(graph, operator, position) for position in (0, 1)]
  if any(len(shape) != 4 for shape in shapes):
    mend = "fold it into the convolution before it, or use an activation"
    return Fit(Place.NOWHERE, "an operand has not four dimensions", mend)
  static = any(index in graph.origin for index in operator.inputs)
  if static and sum(size != 1 for size in shapes[0]) > 1:
    mend = "fold the constant into the convolution before it"
    return Fit(Place.NOWHERE, "an operand is constant", mend)
  return Fit(Place.INSIDE)


def _other(graph: Graph, operator: Operator) -> Fit:
  """Activations and bilinear resizing stand inside, means and sums also at the exit."""
  image = shape_of(graph, operator)
  if operator.type == "DEPTH_TO_SPACE":
    return Fit(Place.EXIT)
  if operator.type == "RESIZE_BILINEAR" and min(image[1:3], default=0) > 1:
    return Fit(Place.INSIDE)
  if operator.type in UNARY and len(image) == 4:
    return Fit(Place.INSIDE)
  if operator.type in SUMS and len(image) == 4:
    return Fit(Place.INSIDE | Place.EXIT)
  if operator.type == "FULLY_CONNECTED":
    return Fit(Place.NOWHERE, "dense layers have no sparse kernel")
  reason = f"{operator.type} is not among the operators of sparse inference"
  return _unfit(reason, operator)
