"""Which parts of a graph XNNPACK switches to sparse inference on ARM, and which not.

Mirrors `xnn_subgraph_rewrite_for_nchw` in XNNPACK's src/subgraph.c: operators that fit
are joined with those they read from; one thing that does not fit in such a cluster
rejects all of it; then zeros of its 1×1 convolutions must pay. It is asked for only
if a weight is stored sparse: `has_sparse_weights` in
tensorflow/lite/delegates/xnnpack/xnnpack_delegate.cc.
https://github.com/google/XNNPACK/blob/master/src/subgraph.c
"""

import dataclasses
from collections.abc import Mapping
from typing import Optional

import numpy as np

from tflite_export.graph import Graph, Operator
from tflite_export.xnnpack_operators import delegate_parts, fused_padding, is_pointwise
from tflite_export.xnnpack_rules import Fit, Place, fit


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


@dataclasses.dataclass(frozen=True)
class Cluster:
  """Operators that XNNPACK runs sparse together, or not at all.

  Attributes:
    operators: Indices, ascending.
    zeros: Zero weights of its 1×1 convolutions.
    weights: All weights of them.
    rejections: Empty if it is run sparse.
  """

  operators: tuple[int, ...]
  zeros: int
  weights: int
  rejections: tuple[Rejection, ...]

  @property
  def taken(self) -> bool:
    """Whether XNNPACK runs it sparse."""
    return not self.rejections


class Analysis:
  """The clusters of one graph.

  Attributes:
    graph: The graph.
    fits: Operator to what the rules say of it.
    clusters: In order of their first operators.
  """

  def __init__(self, graph: Graph):
    """Finds the clusters of a graph."""
    self.graph = graph
    self.fits: Mapping[int, Fit] = {
      operator.index: fit(graph, operator) for operator in graph.operators
    }
    self._fused = {
      pad: operator.index
      for operator in graph.operators
      if (pad := fused_padding(graph, operator)) is not None
    }
    # What a convolution with a padding of its own reads in place of the PAD's output.
    self._unpadded = {
      graph.operators[pad].outputs[0]: graph.operators[pad].inputs[0]
      for pad in self._fused
    }
    self._part = delegate_parts(graph)
    self._with_exit = {
      self._part[operator.index]
      for operator in graph.operators
      if Place.EXIT in self._place(operator.index)
      and any(self._joined(operator, tensor) for tensor in self._dynamic(operator))
    }
    self._with_sparse_weights = {
      self._part[operator.index]
      for operator in graph.operators
      for tensor in operator.inputs
      if tensor in graph.origin and graph.tensors[graph.origin[tensor]].sparse
    }
    self.clusters = tuple(self._judged(members) for members in self._components())

  def fused_into(self, operator: int) -> Optional[int]:
    """Returns the convolution that a PAD becomes part of."""
    return self._fused.get(operator)

  def open_ends(self, cluster: Cluster) -> list[int]:
    """Returns members that must stand inside, but whose result leaves the cluster."""
    members = frozenset(cluster.operators)
    return [
      index
      for index in cluster.operators
      if self._place(index) == Place.INSIDE and not self._readers(index) & members
    ]

  def inner_pools(self, cluster: Cluster) -> list[int]:
    """Returns members that may end the cluster but feed others of it."""
    members = frozenset(cluster.operators)
    return [
      index
      for index in cluster.operators
      if Place.EXIT in self._place(index) and self._readers(index) & members
    ]

  def _readers(self, index: int) -> frozenset[int]:
    """Returns who reads an operator's results; for a fused PAD, its convolution."""
    return frozenset(
      self._fused.get(reader, reader)
      for tensor in self.graph.operators[index].outputs
      for reader in self.graph.consumers.get(tensor, ())
    )

  def _place(self, operator: int) -> Place:
    return self.fits[operator].place

  def _dynamic(self, operator: Operator) -> list[int]:
    """Returns the tensors it reads that are computed, before a fused padding."""
    sources = (self._unpadded.get(tensor, tensor) for tensor in operator.inputs)
    return [
      source for source in sources if source >= 0 and source not in self.graph.origin
    ]

  def _joined(self, operator: Operator, tensor: int) -> Optional[int]:
    """Returns the operator that computes a tensor in the same cluster."""
    producer = self.graph.producer.get(tensor)
    joins = Place.INSIDE | Place.ENTRY
    if producer is None or tensor in self.graph.inputs | self.graph.outputs:
      return None
    same_part = self._part[producer] == self._part[operator.index]
    return producer if same_part and self._place(producer) & joins else None

  def _components(self) -> list[list[int]]:
    """Joins operators with those they read from."""
    leader = {index: index for index, place in self.fits.items() if place.place}

    def find(index: int) -> int:
      while leader[index] != index:
        leader[index] = leader[leader[index]]
        index = leader[index]
      return index

    for index in leader:
      if not self._place(index) & (Place.INSIDE | Place.EXIT):
        continue
      for tensor in self._dynamic(self.graph.operators[index]):
        producer = self._joined(self.graph.operators[index], tensor)
        if producer is not None:
          first, second = sorted((find(index), find(producer)))
          leader[second] = first
    groups: dict[int, list[int]] = {}
    for index in leader:
      groups.setdefault(find(index), []).append(index)
    return list(groups.values())

  def _judged(self, members: list[int]) -> Cluster:
    """Applies the rules on clusters."""
    inside = frozenset(members)
    zeros = weights = 0
    for index in members:
      operator = self.graph.operators[index]
      nonzero = self._weights(operator)
      if nonzero is not None:
        weights += nonzero.size
        zeros += nonzero.size - int(nonzero.sum())
    rejections = [
      rejection
      for index in members
      if self._place(index) & (Place.INSIDE | Place.EXIT)
      for rejection in self._input_rejections(self.graph.operators[index], inside)
    ]
    rejections += self._whole_rejections(members, zeros, weights)
    return Cluster(tuple(members), zeros, weights, tuple(dict.fromkeys(rejections)))

  def _weights(self, operator: Operator) -> Optional[np.ndarray]:
    """Returns where a 1×1 convolution's weights are not zero, None for others."""
    weight = self.graph.weight(operator)
    if weight is None or not is_pointwise(self.graph, operator):
      return None
    return self.graph.nonzero.get(weight)

  def _input_rejections(
    self, operator: Operator, members: frozenset[int]
  ) -> list[Rejection]:
    """Each tensor read must come from inside the cluster and be read only there."""
    found = []
    for tensor in self._dynamic(operator):
      if self._joined(operator, tensor) is None:
        found.append(self._outside_producer(tensor))
        continue
      for consumer in self.graph.consumers.get(tensor, ()):
        reader = self._fused.get(consumer, consumer)
        fits = self._place(reader) & (Place.INSIDE | Place.EXIT)
        if reader not in members or not fits:
          found.append(self._blame(reader, "also reads a tensor of"))
    return found

  def _outside_producer(self, tensor: int) -> Rejection:
    """Names what a cluster reads from outside."""
    if tensor in self.graph.outputs:
      mend = "give only tensors behind the pooling as outputs"
      return Rejection(None, "a tensor inside is an output of the graph", mend)
    producer = self.graph.producer.get(tensor)
    if producer is None:
      mend = "begin with a 3×3 convolution of stride 2 on 3 channels, padded by 1"
      return Rejection(None, "it reads an input of the graph without a stem", mend)
    return self._blame(producer, "feeds")

  def _blame(self, index: int, does: str) -> Rejection:
    """Returns the rejection that an operator outside causes."""
    operator, said = self.graph.operators[index], self.fits[index]
    why = f": {said.reason}" if said.reason else ""
    reason = f"operator {index} ({operator.type}) {does} the cluster{why}"
    return Rejection(index, reason, said.mend)

  def _whole_rejections(
    self, members: list[int], zeros: int, weights: int
  ) -> list[Rejection]:
    """The end, the storage and the profit of a cluster."""
    found = []
    part = self._part[members[0]]
    if part not in self._with_exit:
      mend = "end in GlobalAveragePooling2D"
      found.append(Rejection(None, "nothing near it is a spatial mean at the end", mend))
    if part not in self._with_sparse_weights:
      mend = "convert with EXPERIMENTAL_SPARSITY (fp32_sparse)"
      found.append(Rejection(None, "no weight near it is stored sparse", mend))
    if weights == 0:
      found.append(Rejection(None, "it has no 1×1 convolution", ""))
    elif 3 * zeros <= 2 * weights:
      reason = (
        f"{zeros:,} of {weights:,} weights of its 1×1 convolutions are zero "
        f"({zeros / weights:.1%}), not more than two thirds"
      )
      found.append(Rejection(None, reason, "prune its 1×1 convolutions further"))
    return found
