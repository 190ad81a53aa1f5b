"""What goes wrong in XNNPACK on ARM with files that work on x86.

All of it was measured with LiteRT 2.3.0 for aarch64; `tests/tflite_export/xnnpack/
eligibility_arm64_test.py` repeats that. The cause is in `xnn_subgraph_rewrite_for_nchw`
of XNNPACK's src/subgraph.c: it demands no exit of a cluster, and only the inputs of
operators are made channel-first. An operator that can stand only inside, but whose
result leaves the cluster, reads channel-first data as if they were channel-last. After
a pooling that keeps its dimensions the sizes differ as well, and nothing loads
(`reshape_reduce_operator` in src/subgraph/static-reduce.c).
"""

import dataclasses

from tflite_export.xnnpack.graph import Graph
from tflite_export.xnnpack.xnnpack_clusters import Analysis, Cluster
from tflite_export.xnnpack.xnnpack_operators import BINARY, UNARY


@dataclasses.dataclass(frozen=True)
class ArmError:
  """One thing that goes wrong.

  Attributes:
    message: What, where and how to mend it, in one line.
    prevents_loading: Whether the file does not load; otherwise its outputs are wrong.
  """

  message: str
  prevents_loading: bool


def find(analysis: Analysis) -> list[ArmError]:
  """Returns the errors to expect of a graph."""
  found = _packed_integers(analysis.graph)
  for cluster in analysis.clusters:
    if cluster.taken:
      found += _open_ends(analysis, cluster)
      found += _swapped_outputs(analysis, cluster)
      found += _partial_means(analysis, cluster)
      found += _broadcast_pools(analysis, cluster)
  return found


def _packed_integers(graph: Graph) -> list[ArmError]:
  """Float layers cannot read int8 weights that are stored sparse, on x86 neither."""
  found = []
  for operator in graph.operators:
    weight = graph.weight(operator)
    if weight is None or operator.type not in ("CONV_2D", "FULLY_CONNECTED"):
      continue
    read, image = graph.tensors[operator.inputs[1]], graph.tensors[operator.inputs[0]]
    sparse = graph.tensors[weight].sparse
    if sparse and read.dtype == "int8" and image.dtype == "float32":
      message = (
        f"{_called(graph, operator.index)} has int8 weights stored sparse but float32 "
        "inputs: the file does not load (failed to delegate); convert to int8_sparse "
        "or fp16_sparse, or store the weights dense"
      )
      found.append(ArmError(message, prevents_loading=True))
  return found


def _open_ends(analysis: Analysis, cluster: Cluster) -> list[ArmError]:
  """Operators of a sparse cluster that no exit follows."""
  behind_pools = _behind_pools(analysis, cluster)
  found = []
  for index in analysis.open_ends(cluster):
    name = _called(analysis.graph, index)
    if index in behind_pools:
      message = (
        f"{name} follows a pooling with keepdims and leaves the sparse part: on ARM "
        "the file does not load (failed to reshape runtime); use "
        "GlobalAveragePooling2D without keepdims, then Dense"
      )
      found.append(ArmError(message, prevents_loading=True))
    else:
      message = (
        f"{name} leaves the sparse part without a spatial mean: on ARM the outputs are "
        "wrong, without any message; end in GlobalAveragePooling2D, or store the "
        "weights dense"
      )
      found.append(ArmError(message, prevents_loading=False))
  return found


def _behind_pools(analysis: Analysis, cluster: Cluster) -> set[int]:
  """Returns the members whose image is still that of a pooling with keepdims."""
  behind = set(analysis.inner_pools(cluster))
  graph = analysis.graph
  # In order of execution; an image of another size is one from before the pooling.
  for index in sorted(cluster.operators):
    operator = graph.operators[index]
    feeding = {graph.producer.get(tensor) for tensor in operator.inputs}
    sizes = graph.tensors[operator.outputs[0]].shape[1:3] if operator.outputs else ()
    if feeding & behind and sizes == (1, 1):
      behind.add(index)
  return behind


def _swapped_outputs(analysis: Analysis, cluster: Cluster) -> list[ArmError]:
  """Pools with keepdims at the exit give [1, c, 1, 1] for [1, 1, 1, c]."""
  graph, found = analysis.graph, []
  # By tensor, which several operators of a damaged file may write.
  readers: dict[int, set[str]] = {}
  for index in sorted(set(cluster.operators) - set(analysis.inner_pools(cluster))):
    operator = graph.operators[index]
    if operator.type not in ("MEAN", "SUM") or not operator.option("keepDims", 0):
      continue
    output = operator.outputs[0]
    if output not in readers:
      consumers = graph.consumers.get(output, ())
      readers[output] = {graph.operators[each].type for each in consumers}
    if output in graph.outputs or readers[output] - {"RESHAPE"}:
      message = (
        f"{_called(graph, index)} keeps its dimensions: on ARM they come in the wrong "
        "order, [1, c, 1, 1]; leave keepdims out, or let Flatten alone read it"
      )
      found.append(ArmError(message, prevents_loading=False))
  return found


def _partial_means(analysis: Analysis, cluster: Cluster) -> list[ArmError]:
  """Means and sums at the exit that leave channels beside height or width.

  XNNPACK asks for four dimensions and not for which of them the mean is over; what is
  left stays channel-first.
  """
  graph, found = analysis.graph, []
  for index in sorted(set(cluster.operators) - set(analysis.inner_pools(cluster))):
    operator = graph.operators[index]
    shape = graph.tensors[operator.inputs[0]].shape
    axes = graph.axes.get(index)
    if axes is None or len(shape) != 4:
      continue
    _, height, width, channels = (
      1 if axis in axes else size for axis, size in enumerate(shape)
    )
    if channels != 1 and (height, width) != (1, 1):
      message = (
        f"{_called(graph, index)} is over part of the image only: on ARM its result "
        "comes in the wrong order, channels first; take it over height and width, or "
        "store the weights dense"
      )
      found.append(ArmError(message, prevents_loading=False))
  return found


def _broadcast_pools(analysis: Analysis, cluster: Cluster) -> list[ArmError]:
  """Sums and products of an image with a pooling that keeps its dimensions.

  The pooling's come channel-first, the image's do not; a convolution between the two
  sets them right.
  """
  graph, found = analysis.graph, []
  pooled = {
    tensor
    for index in analysis.inner_pools(cluster)
    for tensor in graph.operators[index].outputs
  }
  for index in sorted(cluster.operators):
    operator = graph.operators[index]
    if operator.type in UNARY and pooled.intersection(operator.inputs):
      pooled.update(operator.outputs)
    if operator.type not in BINARY or not pooled.intersection(operator.inputs):
      continue
    shapes = {graph.tensors[tensor].shape for tensor in operator.inputs if tensor >= 0}
    # Ones have no order, and neither have two of one shape.
    if len(shapes) > 1 and all(max(shape, default=1) > 1 for shape in shapes):
      message = (
        f"{_called(graph, index)} spreads a pooling with keepdims over an image: on ARM "
        "the file does not load (failed to reshape runtime); put a 1×1 convolution "
        "between the two, or store the weights dense"
      )
      found.append(ArmError(message, prevents_loading=True))
  return found


def _called(graph: Graph, index: int) -> str:
  """Returns how a message calls an operator."""
  where = f" of subgraph {graph.number}" if graph.number else ""
  return f"operator {index} ({graph.operators[index].type}){where}"
