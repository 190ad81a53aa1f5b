"""Why XNNPACK rejects a cluster of operators, in words, and how to mend it.

The rules are those of `xnn_subgraph_rewrite_for_nchw` in XNNPACK's src/subgraph.c.
https://github.com/google/XNNPACK/blob/master/src/subgraph.c
"""

import dataclasses
from collections.abc import Mapping
from typing import Optional

from tflite_export.xnnpack.graph import Graph
from tflite_export.xnnpack.xnnpack_rules import Fit


@dataclasses.dataclass(frozen=True)
class Rejection:
  """Why a cluster is not run sparse.

  Attributes:
    operator: The one to blame, None if it is the cluster as a whole.
    reason: The rule that fails.
    mend: What to change, empty if nothing is known to help.
  """

  operator: Optional[int]
  reason: str
  mend: str


NO_EXIT = Rejection(
  None, "nothing near it is a spatial mean at the end", "end in GlobalAveragePooling2D"
)
# The delegate asks for sparse inference only if it finds such a weight.
STORED_DENSE = Rejection(
  None,
  "no weight near it is stored sparse",
  "export fp32_sparse or fp16_sparse, or convert with TensorFlow's "
  "Optimize.EXPERIMENTAL_SPARSITY",
)


def blame(graph: Graph, fits: Mapping[int, Fit], index: int, does: str) -> Rejection:
  """Returns the rejection that an operator outside causes.

  Args:
    graph: Where it is.
    fits: Operator to what the rules say of it.
    index: The operator.
    does: What it does to the cluster.
  """
  operator, said = graph.operators[index], fits[index]
  why = f": {said.reason}" if said.reason else ""
  reason = f"operator {index} ({operator.type}) {does} the cluster{why}"
  return Rejection(index, reason, said.mend)


def outside_producer(graph: Graph, fits: Mapping[int, Fit], tensor: int) -> Rejection:
  """Names what a cluster reads from outside."""
  if tensor in graph.outputs:
    mend = "give only tensors behind the pooling as outputs"
    return Rejection(None, "a tensor inside is an output of the graph", mend)
  producer = graph.producer.get(tensor)
  if producer is None:
    mend = "begin with a 3×3 convolution of stride 2 on 3 channels, padded by 1"
    return Rejection(None, "it reads an input of the graph without a stem", mend)
  return blame(graph, fits, producer, "feeds")


def unprofitable(zeros: int, weights: int) -> list[Rejection]:
  """Returns the rejection of a cluster with too few zeros, nothing with enough.

  Args:
    zeros: Zero weights of its 1×1 convolutions; more than two thirds must be.
    weights: All weights of them.
  """
  if weights == 0:
    return [Rejection(None, "it has no 1×1 convolution", "")]
  if 3 * zeros > 2 * weights:
    return []
  reason = (
    f"{zeros:,} of {weights:,} weights of its 1×1 convolutions are zero "
    f"({zeros / weights:.1%}), not more than two thirds"
  )
  return [Rejection(None, reason, "prune its 1×1 convolutions further")]
