"""Reads `.tflite` bytes into graphs of typed tensors and operators."""

import dataclasses
import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.decode import tflm_decoded
from tflite_export.file_format import flatbuffer_model, sparse_tensor, stored_weights
from tflite_export.xnnpack.graph import UNPACKING, Graph, Operator, Tensor


def _names(constants: type) -> dict[int, str]:
  """Returns the names of a schema's enumeration by number."""
  return {
    number: name
    for name, number in vars(constants).items()
    if isinstance(number, int) and not name.startswith("_")
  }


_OPERATORS = _names(schema.BuiltinOperator)
_ELEMENT_TYPES = _names(schema.TensorType)
# The element types whose values are read; others count as dense, of unknown density.
_READABLE = {"float32", "float16", "int8", "uint8", "int16", "int32", "int64"}
# More are damage, or made to be slow: what many operators share is told for each.
_MOST_DIMENSIONS = 16
_MOST_NAME_BYTES = 100


def read_graphs(model_bytes: bytes) -> list[Graph]:
  """Reads every subgraph of a file.

  Raises:
    InputError: The bytes are not a readable `.tflite` file.
  """
  model = flatbuffer_model.read_model(model_bytes)
  budget = _Budget(sparse_tensor.MAX_ELEMENTS + 4 * len(model_bytes))
  with flatbuffer_model.reading():
    return [
      _read(model, number, subgraph, budget)
      for number, subgraph in enumerate(model.subgraphs)
    ]


@dataclasses.dataclass
class _Budget:
  """What reading weights may cost: damaged files name the same bytes many times."""

  elements: int

  def spend(self, shape: tuple[int, ...]) -> None:
    """Raises `InputError` when all weights together are more than a file can hold."""
    self.elements -= max(math.prod(shape), 0)
    if self.elements < 0:
      raise InputError(
        "the file's weights have more elements than its bytes can hold; it is damaged, "
        "convert the model again"
      )


def _read(model: Any, number: int, subgraph: Any, budget: _Budget) -> Graph:
  """Returns one subgraph."""
  tensors = tuple(_tensor(model, tensor) for tensor in subgraph.tensors)
  operators = tuple(
    _operator(model, index, each) for index, each in enumerate(subgraph.operators)
  )
  readers: dict[int, dict[int, None]] = {}
  for operator in operators:
    for tensor in operator.inputs:
      readers.setdefault(tensor, {})[operator.index] = None
  graph = Graph(
    number=number,
    tensors=tensors,
    operators=operators,
    inputs=frozenset(subgraph.inputs),
    outputs=frozenset(subgraph.outputs),
    producer={tensor: each.index for each in operators for tensor in each.outputs},
    consumers={tensor: tuple(found) for tensor, found in readers.items()},
    origin=_origins(tensors, operators),
    paddings=_paddings(model, subgraph, operators),
    axes=_axes(model, subgraph, operators),
    nonzero={},
    zeros={},
    decoded=tflm_decoded.find(model, subgraph),
  )
  weights = {graph.weight(operator) for operator in operators} - {None}
  nonzero = {}
  for weight in sorted(index for index in weights if index is not None):
    if tensors[weight].dtype in _READABLE:
      budget.spend(tensors[weight].shape)
      nonzero[weight] = ~stored_weights.is_zero(model, subgraph.tensors[weight])
  zeros = {weight: each.size - int(each.sum()) for weight, each in nonzero.items()}
  return dataclasses.replace(graph, nonzero=nonzero, zeros=zeros)


def _tensor(model: Any, tensor: Any) -> Tensor:
  """Returns a tensor of the schema's as one of ours."""
  data = model.buffers[tensor.buffer].data
  shape = tuple(flatbuffer_model.integers(tensor.shape))
  if len(shape) > _MOST_DIMENSIONS:
    raise ValueError(f"a tensor of {len(shape)} dimensions")
  return Tensor(
    name=flatbuffer_model.tensor_name(tensor),
    shape=shape,
    dtype=_ELEMENT_TYPES.get(tensor.type, f"type {tensor.type}").lower(),
    constant=flatbuffer_model.is_constant(model, tensor),
    sparse=tensor.sparsity is not None,
    stored_bytes=(0 if data is None else len(data)) + _position_bytes(tensor.sparsity),
  )


def _position_bytes(sparsity: Any) -> int:
  """Returns the bytes of a sparse tensor's segments and indices."""
  vectors = [
    vector.values
    for metadata in (sparsity.dimMetadata or [] if sparsity else [])
    for vector in (metadata.arraySegments, metadata.arrayIndices)
    if vector is not None and vector.values is not None
  ]
  return sum(np.asarray(values).nbytes for values in vectors)


def _operator(model: Any, index: int, operator: Any) -> Operator:
  """Returns an operator of the schema's as one of ours."""
  code = flatbuffer_model.operator_code(model, operator)
  custom = model.operatorCodes[operator.opcodeIndex].customCode or b""
  return Operator(
    index=index,
    type=_OPERATORS.get(code, f"BUILTIN_{code}"),
    custom_name=custom[:_MOST_NAME_BYTES].decode("utf-8", errors="replace"),
    inputs=tuple(operator.inputs),
    outputs=tuple(operator.outputs),
    options=operator.builtinOptions,
  )


def _origins(
  tensors: tuple[Tensor, ...], operators: tuple[Operator, ...]
) -> dict[int, int]:
  """Returns for each constant, packed or not, the tensor whose bytes are stored."""
  origin = {index: index for index, tensor in enumerate(tensors) if tensor.constant}
  # Operators come in order of execution, so what they read is known by then.
  for operator in operators:
    if operator.type in UNPACKING and operator.inputs and operator.outputs:
      source = origin.get(operator.inputs[0])
      if source is not None:
        origin[operator.outputs[0]] = source
  return origin


def _second_inputs(
  model: Any, subgraph: Any, operators: tuple[Operator, ...], types: tuple[str, ...]
) -> dict[int, Array]:
  """Reads the second input of operators of some types, where it is constant and small."""
  found = {}
  for operator in operators:
    if operator.type not in types or len(operator.inputs) < 2 or operator.inputs[1] < 0:
      continue
    tensor = subgraph.tensors[operator.inputs[1]]
    fits = math.prod(flatbuffer_model.integers(tensor.shape)) <= 2 * _MOST_DIMENSIONS
    if fits and flatbuffer_model.is_constant(model, tensor) and not tensor.sparsity:
      found[operator.index] = flatbuffer_model.constant(model, tensor)
  return found


def _paddings(
  model: Any, subgraph: Any, operators: tuple[Operator, ...]
) -> dict[int, tuple[tuple[int, int], ...]]:
  """Reads the amounts of each PAD whose amounts are constant."""
  return {
    index: tuple((int(a), int(b)) for a, b in amounts.reshape(-1, 2))
    for index, amounts in _second_inputs(model, subgraph, operators, ("PAD",)).items()
  }


def _axes(
  model: Any, subgraph: Any, operators: tuple[Operator, ...]
) -> dict[int, frozenset[int]]:
  """Reads the axes of each MEAN and SUM; negative ones count from the last."""
  found = {}
  for index, axes in _second_inputs(
    model, subgraph, operators, ("MEAN", "SUM")
  ).items():
    image = operators[index].inputs[0]
    shape = subgraph.tensors[image].shape if image >= 0 else None
    rank = len(flatbuffer_model.integers(shape))
    found[index] = frozenset(
      int(axis) + (rank if axis < 0 else 0) for axis in axes.reshape(-1)
    )
  return found
