"""What TFLite's XNNPACK delegate makes of operators: which it takes, and their padding.

Sources: `VisitNode` in tensorflow/lite/delegates/xnnpack/xnnpack_delegate.cc;
`xnn_define_convolution_2d` in src/subgraph/convolution-2d.c and `xnn_subgraph_fusion`
in src/subgraph.c of https://github.com/google/XNNPACK.
"""

from typing import Optional

from tflite_export.xnnpack.graph import Graph, Operator

UNARY = frozenset((
  "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU",
  "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT",
  "SQUARE", "TANH",
))  # fmt: skip
BINARY = ("ADD", "MUL")
SUMS = ("MEAN", "SUM")
# Operators the delegate takes besides; others end the part of the graph it works on.
_OTHER_DELEGATED = frozenset((
  "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D",
  "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "EXPAND_DIMS", "FULLY_CONNECTED", "MAXIMUM",
  "MAX_POOL_2D", "MINIMUM", "PAD", "PRELU", "QUANTIZE", "RESHAPE", "RESIZE_BILINEAR", "SLICE",
  "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB",
  "TRANSPOSE", "TRANSPOSE_CONV",
))  # fmt: skip
_PADDING_SAME = 0
_NO_PADDING = (0, 0, 0, 0)


def delegated(operator: Operator) -> bool:
  """Returns whether TFLite's XNNPACK delegate takes operators of this type."""
  types = (*BINARY, *SUMS)
  return operator.type in types or operator.type in UNARY | _OTHER_DELEGATED


def is_pointwise(graph: Graph, operator: Operator) -> bool:
  """Returns whether an operator is a convolution with a constant 1×1 kernel."""
  weight = graph.weight(operator)
  if operator.type != "CONV_2D" or weight is None:
    return False
  shape = graph.tensors[weight].shape
  return len(shape) == 4 and shape[1:3] == (1, 1)


def fused_padding(graph: Graph, operator: Operator) -> Optional[int]:
  """Returns the PAD that XNNPACK makes part of a convolution, None without one.

  It pads height and width only, with zeros, for this convolution alone, which itself
  has padding "valid" (`xnn_subgraph_fusion`).
  """
  if operator.type not in ("CONV_2D", "DEPTHWISE_CONV_2D") or not operator.inputs:
    return None
  image = operator.inputs[0]
  producer = graph.producer.get(image)
  alone = graph.consumers.get(image) == (operator.index,) and image not in graph.outputs
  if producer is None or not alone or operator.option("padding") == _PADDING_SAME:
    return None
  pad = graph.operators[producer]
  amounts = graph.paddings.get(pad.index)
  if pad.type != "PAD" or amounts is None or len(amounts) != 4:
    return None
  batch, _, _, channels = amounts
  return None if any((*batch, *channels)) else pad.index


def shape_of(graph: Graph, operator: Operator, position: int = 0) -> tuple[int, ...]:
  """Returns the shape of an input, empty if there is none."""
  indices = operator.inputs[position : position + 1]
  return graph.tensors[indices[0]].shape if indices and indices[0] >= 0 else ()


def kernel_of(graph: Graph, operator: Operator) -> tuple[int, int, int]:
  """Returns height, width and last size of a kernel, zeros if it is not constant."""
  weight = graph.weight(operator)
  shape = () if weight is None else graph.tensors[weight].shape
  return (shape[1], shape[2], shape[3]) if len(shape) == 4 else (0, 0, 0)


def strides_of(operator: Operator) -> tuple[int, int]:
  """Returns the strides down and to the right."""
  return operator.option("strideH"), operator.option("strideW")


def is_dilated(operator: Operator) -> bool:
  """Returns whether a kernel has holes."""
  factors = operator.option("dilationHFactor"), operator.option("dilationWFactor")
  return factors != (1, 1)


def padding_of(graph: Graph, operator: Operator) -> Optional[tuple[int, ...]]:
  """Returns top, bottom, left and right; None for "same" at a stride above 1.

  At stride 1 `xnn_define_convolution_2d` writes "same" out in numbers.
  """
  if operator.option("padding") == _PADDING_SAME:
    if strides_of(operator) != (1, 1):
      return None
    kernel = kernel_of(graph, operator)[:2]
    return tuple(half for size in kernel for half in ((size - 1) // 2, size // 2))
  pad = fused_padding(graph, operator)
  if pad is None:
    return _NO_PADDING
  _, height, width, _ = graph.paddings[pad]
  return (*height, *width)


def delegate_parts(graph: Graph) -> dict[int, int]:
  """Returns for each operator the part of the graph that one runtime executes.

  TFLite gives the delegate as many operators at a time as have their inputs ready
  (`PartitionGraphIntoIndependentNodeSubsets` in tensorflow/lite/graph_info.cc): even
  numbers are parts of the delegate, odd ones TFLite's own.
  """
  part: dict[int, int] = {}
  for operator in graph.operators:
    if graph.unpacks(operator):
      part[operator.index] = 0
      continue
    sources = [
      part.get(graph.producer[tensor], 0)
      for tensor in operator.inputs
      if tensor in graph.producer
    ]
    earliest, parity = max(sources, default=0), 0 if delegated(operator) else 1
    part[operator.index] = earliest + (earliest + parity) % 2
  return part


def block_size(graph: Graph, operator: Operator) -> Optional[int]:
  """Returns the output channels a sparse kernel takes at a time.

  4 or 2 if such blocks are at least 90 % full, as `create_spmm_path` (formerly
  `xnn_create_convolution2d_nchw_f32`) of XNNPACK's src/operators/convolution-nchw.c
  decides.
  """
  weight = graph.weight(operator)
  nonzero = None if weight is None else graph.nonzero.get(weight)
  if nonzero is None or not is_pointwise(graph, operator):
    return None
  rows = nonzero.reshape(nonzero.shape[0], -1)
  for size in (4, 2):
    whole = rows[: len(rows) // size * size]
    used = whole.reshape(len(whole) // size, size, -1).any(axis=1).sum()
    if 10 * int(whole.sum()) >= 9 * size * int(used):
      return size
  return 1
