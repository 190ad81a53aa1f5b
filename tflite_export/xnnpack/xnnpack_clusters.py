"""Which parts of a graph XNNPACK switches to sparse inference on ARM, and which not.

Mirrors `xnn_subgraph_rewrite_for_nchw` in XNNPACK's src/subgraph.c: operators that fit
are joined with those they read from; one thing that does not fit in such a cluster
rejects all of it; then zeros of its 1×1 convolutions must pay. It is asked for only
if a weight is stored sparse: `has_sparse_weights` in
tensorflow/lite/delegates/xnnpack/xnnpack_delegate.cc.
https://github.com/google/XNNPACK/blob/master/src/subgraph.c
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Optional

from tflite_export.xnnpack.graph import Graph, Operator
from tflite_export.xnnpack.xnnpack_operators import (
  delegate_parts,
  fused_padding,
  is_pointwise,
)
from tflite_export.xnnpack.xnnpack_rejections import (
  NO_EXIT,
  STORED_DENSE,
  Rejection,
  blame,
  outside_producer,
  unprofitable,
)
from tflite_export.xnnpack.xnnpack_rules import Fit, Place, fit


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
    self._outer = graph.inputs | graph.outputs
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
    read = self._read_by(cluster.operators)
    return [
      index
      for index in cluster.operators
      if self._place(index) == Place.INSIDE and not self._writes(index, read)
    ]

  def inner_pools(self, cluster: Cluster) -> list[int]:
    """Returns members that may end the cluster but feed others of it."""
    read = self._read_by(cluster.operators)
    return [
      index
      for index in cluster.operators
      if Place.EXIT in self._place(index) and self._writes(index, read)
    ]

  def _read_by(self, operators: Collection[int]) -> frozenset[int]:
    """Returns the tensors that operators read, before fused paddings."""
    return frozenset(
      self._unpadded.get(tensor, tensor)
      for index in operators
      for tensor in self.graph.operators[index].inputs
    )

  def _writes(self, index: int, tensors: frozenset[int]) -> bool:
    return not tensors.isdisjoint(self.graph.operators[index].outputs)

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
    if producer is None or tensor in self._outer:
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
    weights = [self._weight(self.graph.operators[index]) for index in members]
    zeros = sum(self.graph.zeros[weight] for weight in weights if weight is not None)
    total = sum(
      self.graph.nonzero[weight].size for weight in weights if weight is not None
    )
    # Once for each tensor: a damaged file may have all its operators read one.
    reads = {
      tensor: self.graph.operators[index]
      for index in members
      if self._place(index) & (Place.INSIDE | Place.EXIT)
      for tensor in self._dynamic(self.graph.operators[index])
    }
    inside = frozenset(members)
    rejections = [
      rejection
      for tensor, reader in reads.items()
      for rejection in self._read_rejections(reader, tensor, inside)
    ]
    part = self._part[members[0]]
    if part not in self._with_exit:
      rejections.append(NO_EXIT)
    if part not in self._with_sparse_weights:
      rejections.append(STORED_DENSE)
    rejections += unprofitable(zeros, total)
    return Cluster(tuple(members), zeros, total, tuple(dict.fromkeys(rejections)))

  def _weight(self, operator: Operator) -> Optional[int]:
    """Returns the readable weight of a 1×1 convolution, None for other operators."""
    weight = self.graph.weight(operator)
    counts = weight in self.graph.zeros and is_pointwise(self.graph, operator)
    return weight if counts else None

  def _read_rejections(
    self, operator: Operator, tensor: int, members: frozenset[int]
  ) -> list[Rejection]:
    """What is read must come from inside the cluster and be read only there."""
    if self._joined(operator, tensor) is None:
      return [outside_producer(self.graph, self.fits, tensor)]
    found = []
    for consumer in self.graph.consumers.get(tensor, ()):
      reader = self._fused.get(consumer, consumer)
      fits = self._place(reader) & (Place.INSIDE | Place.EXIT)
      if reader not in members or not fits:
        found.append(blame(self.graph, self.fits, reader, "also reads a tensor of"))
    return found
