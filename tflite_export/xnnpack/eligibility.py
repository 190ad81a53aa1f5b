"""Would XNNPACK on ARM run a `.tflite` file sparse? What each operator says to it.

The rules are in `xnnpack_rules` (one operator) and `xnnpack_clusters` (what belongs
together); here they become a report. Nothing is run, and no ARM machine is needed.
"""

import dataclasses
import math
from typing import Optional

from tflite_export.file_format import flatbuffer_model
from tflite_export.xnnpack import eligibility_errors
from tflite_export.xnnpack.eligibility_report import (
  ClusterReport,
  OperatorReport,
  Report,
)
from tflite_export.xnnpack.graph import Graph, Operator
from tflite_export.xnnpack.graph_reader import read_graphs
from tflite_export.xnnpack.xnnpack_clusters import Analysis, Cluster
from tflite_export.xnnpack.xnnpack_operators import block_size, is_pointwise
from tflite_export.xnnpack.xnnpack_rejections import Rejection
from tflite_export.xnnpack.xnnpack_rules import Place

# Half of the multiply-accumulates of all 1×1 convolutions.
_ELIGIBLE_SHARE = 0.5


def inspect(model_bytes: bytes) -> Report:
  """Reports on a file.

  Raises:
    InputError: The bytes are not a readable `.tflite` file.
  """
  with flatbuffer_model.reading():
    return _inspect(model_bytes)


def _inspect(model_bytes: bytes) -> Report:
  """Reports on a file; damaged ones may raise anything."""
  ops: list[OperatorReport] = []
  clusters: list[ClusterReport] = []
  errors: list[eligibility_errors.ArmError] = []
  forms: set[str] = set()
  zeros = weights = first = 0
  for graph in read_graphs(model_bytes):
    analysis = Analysis(graph)
    ops += _operators(analysis, first)
    clusters += _clusters(analysis, first)
    errors += eligibility_errors.find(analysis)
    forms |= {form for each in graph.decoded.values() for form in each.forms}
    first += len(analysis.clusters)
    for weight in {graph.weight(each) for each in _pointwise(graph)}:
      if weight is not None and weight in graph.zeros:
        weights += graph.nonzero[weight].size
        zeros += graph.zeros[weight]
  macs = sum(op.macs for op in ops)
  sparse_macs = sum(op.macs for op in ops if op.sparse_on_arm)
  loads = not any(error.prevents_loading for error in errors)
  return Report(
    eligible=loads and macs > 0 and sparse_macs >= _ELIGIBLE_SHARE * macs,
    zero_fraction_1x1=zeros / weights if weights else None,
    sparse_macs=sparse_macs,
    macs=macs,
    errors=tuple(error.message for error in errors),
    clusters=tuple(clusters),
    ops=tuple(ops),
    decoded_forms=tuple(sorted(forms)),
  )


def _pointwise(graph: Graph) -> list[Operator]:
  return [each for each in graph.operators if is_pointwise(graph, each)]


def _clusters(analysis: Analysis, first: int) -> list[ClusterReport]:
  """Reports on the clusters of a graph that have 1×1 convolutions."""
  return [
    ClusterReport(
      number=number,
      subgraph=analysis.graph.number,
      operators=cluster.operators,
      zeros=cluster.zeros,
      weights=cluster.weights,
      sparse_on_arm=cluster.taken,
      reasons=tuple(rejection.reason for rejection in cluster.rejections),
    )
    for number, cluster in enumerate(analysis.clusters, first)
    if cluster.weights
  ]


def _operators(analysis: Analysis, first: int) -> list[OperatorReport]:
  """Reports on the operators of a graph."""
  graph = analysis.graph
  cluster_of = {
    index: number
    for number, cluster in enumerate(analysis.clusters)
    for index in cluster.operators
  }
  blamed = {
    rejection.operator
    for cluster in analysis.clusters
    if cluster.weights
    for rejection in cluster.rejections
  }
  # By weight, which operators may share.
  blocks: dict[Optional[int], Optional[int]] = {}
  reports = []
  for operator in graph.operators:
    fused = analysis.fused_into(operator.index)
    number = cluster_of.get(operator.index if fused is None else fused)
    cluster = None if number is None else analysis.clusters[number]
    sparse = cluster is not None and cluster.taken
    refusal = None if sparse else _refusal(analysis, operator, cluster, blamed)
    report = _facts(graph, operator)
    weight = graph.weight(operator)
    if sparse and weight not in blocks:
      blocks[weight] = block_size(graph, operator)
    reports.append(
      dataclasses.replace(
        report,
        cluster=None if number is None else first + number,
        sparse_on_arm=sparse,
        block=blocks[weight] if sparse else None,
        reason=None if refusal is None else refusal.reason,
        mend=(refusal.mend or None) if refusal is not None else None,
      )
    )
  return reports


def _refusal(
  analysis: Analysis,
  operator: Operator,
  cluster: Optional[Cluster],
  blamed: set[Optional[int]],
) -> Rejection:
  """Returns why an operator is not run sparse."""
  if analysis.graph.unpacks(operator):
    return Rejection(None, "unpacks a weight once, when the file is loaded", "")
  said = analysis.fits[operator.index]
  if cluster is not None:
    rejection = cluster.rejections[0]
    return Rejection(
      None, f"its cluster is rejected: {rejection.reason}", rejection.mend
    )
  if said.place == Place.NOWHERE:
    # Behind the end of a cluster it does no harm.
    harmful = operator.index in blamed or is_pointwise(analysis.graph, operator)
    return Rejection(None, said.reason, said.mend if harmful else "")
  return Rejection(None, "is in no cluster", "")


def _facts(graph: Graph, operator: Operator) -> OperatorReport:
  """Reports what the file says of an operator."""
  inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
  outputs = [graph.tensors[index] for index in operator.outputs if index >= 0]
  index = graph.weight(operator)
  weight = None if index is None else graph.tensors[index]
  size = 0 if index is None or index not in graph.nonzero else graph.nonzero[index].size
  stored = None if weight is None else "sparse" if weight.sparse else "dense"
  macs = 0
  if weight is not None and outputs and is_pointwise(graph, operator):
    macs = max(math.prod(outputs[0].shape) * weight.shape[3], 0)
  report = OperatorReport(
    subgraph=graph.number,
    index=operator.index,
    type=operator.type,
    input_shapes=tuple(tensor.shape for tensor in inputs),
    output_shapes=tuple(tensor.shape for tensor in outputs),
    dtype=outputs[0].dtype if outputs else None,
    weight_dtype=None if weight is None else weight.dtype,
    weight_bytes=None if weight is None else weight.stored_bytes,
    density=(size - graph.zeros[index]) / size if index is not None and size else None,
    stored=stored,
    macs=macs,
    cluster=None,
    sparse_on_arm=False,
    block=None,
    reason=None,
    mend=None,
  )
  decoded = graph.decoded.get(operator.index)
  if decoded is None:
    return report
  return dataclasses.replace(
    report,
    type=operator.custom_name,
    weight_dtype=report.dtype,
    weight_bytes=decoded.stored_bytes,
    density=decoded.density,
    stored="+".join(decoded.forms),
  )
