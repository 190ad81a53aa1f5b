"""Puts TFLM_DECODE operators into a model, in front of what reads encoded tensors."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.file_format.pruned_tensor import PackedTensor

DECODE_OPERATOR = "TFLM_DECODE"


def insert_decodes(
  model: schema.ModelT, encoding: Mapping[tuple[int, int], PackedTensor]
) -> None:
  """Replaces the data of tensors by their encoding and decodes it at each reader.

  Args:
    model: Changed in place. Its tensors keep their indices; new ones come last.
    encoding: What to store, by (subgraph, tensor). All tensors of a buffer, or none.
  """
  code = len(model.operatorCodes)
  model.operatorCodes.append(
    schema.OperatorCodeT(
      builtinCode=schema.BuiltinOperator.CUSTOM,
      deprecatedBuiltinCode=schema.BuiltinOperator.CUSTOM,
      customCode=DECODE_OPERATOR,
      version=1,
    )
  )
  buffers = _BufferStore(model, encoding)
  for number, subgraph in enumerate(model.subgraphs):
    here = {index: each for (at, index), each in encoding.items() if at == number}
    _insert_in_subgraph(subgraph, here, buffers, code)


class _BufferStore:
  """Adds constant data to a model, each distinct content once.

  Buffers that only encoded tensors used are taken over: an index that went out of
  use could not be removed without renumbering all others.
  """

  def __init__(self, model: Any, encoding: Iterable[tuple[int, int]]) -> None:
    self._buffers = model.buffers
    self._index_of: dict[bytes, int] = {}
    tensors = [model.subgraphs[number].tensors[index] for number, index in encoding]
    self._free = sorted({tensor.buffer for tensor in tensors}, reverse=True)
    for index in self._free:
      self._buffers[index].data = None

  def put(self, data: bytes) -> int:
    """Returns the index of the buffer that holds `data`."""
    if data not in self._index_of:
      if not self._free:
        self._free.append(len(self._buffers))
        self._buffers.append(schema.BufferT())
      index = self._free.pop()
      self._buffers[index].data = np.frombuffer(data, np.uint8)
      self._index_of[data] = index
    return self._index_of[data]


def _insert_in_subgraph(
  subgraph: Any, encoding: dict[int, PackedTensor], buffers: _BufferStore, code: int
) -> None:
  """Puts one DECODE before each operator that reads encoded tensors.

  A decoded tensor may be overwritten after the next operator, so each reader has its
  own: the first one the original tensor, which keeps indices and names comparable
  with the dense file, later ones a copy.
  """
  source_of: dict[int, int] = {}

  def source(data: bytes) -> int:
    buffer = buffers.put(data)
    if buffer not in source_of:
      source_of[buffer] = _append_tensor(
        subgraph,
        schema.TensorT(shape=[len(data)], type=schema.TensorType.UINT8, buffer=buffer),
      )
    return source_of[buffer]

  operators = []
  decoded: set[int] = set()
  for operator in subgraph.operators:
    reads = sorted(set(operator.inputs) & encoding.keys())
    if reads:
      sources = [
        source(data)
        for index in reads
        for data in (encoding[index].encoded, encoding[index].ancillary)
      ]
      target_of = {}
      for index in reads:
        tensor = subgraph.tensors[index]
        tensor.buffer = 0
        again = index in decoded
        target_of[index] = (
          _append_tensor(subgraph, copy.copy(tensor)) if again else index
        )
      decoded.update(reads)
      operator.inputs = [target_of.get(index, index) for index in operator.inputs]
      operators.append(
        schema.OperatorT(
          opcodeIndex=code, inputs=sources, outputs=list(target_of.values())
        )
      )
    operators.append(operator)
  subgraph.operators = operators


def _append_tensor(subgraph: Any, tensor: Any) -> int:
  """Adds a tensor to a subgraph and returns its index."""
  subgraph.tensors.append(tensor)
  return len(subgraph.tensors) - 1
