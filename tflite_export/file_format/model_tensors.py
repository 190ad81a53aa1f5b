"""What a `.tflite` file itself says of its inputs, outputs and signatures."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

from ai_edge_litert import schema_py_generated as schema

from tflite_export.file_format import flatbuffer_model

_ELEMENT_TYPES = {
  number: name.lower()
  for name, number in vars(schema.TensorType).items()
  if isinstance(number, int)
}


@dataclasses.dataclass(frozen=True)
class SignatureFacts:
  """A signature of a file.

  Attributes:
    name: Its key, such as "serving_default".
    inputs: Names of its inputs.
    outputs: Names of its outputs.
  """

  name: str
  inputs: tuple[str, ...]
  outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TensorFacts:
  """An input or output of a file's first subgraph.

  Attributes:
    name: In the signature; without one, the tensor's.
    signature: The first signature that names it, None without one.
    tensor_name: The tensor's own.
    shape: Sizes.
    dtype: Element type in lower case, such as "float32".
    scale: Of its quantisation, one or one per channel; empty if it has none.
    zero_point: Likewise.
  """

  name: str
  signature: Optional[str]
  tensor_name: str
  shape: tuple[int, ...]
  dtype: str
  scale: tuple[float, ...]
  zero_point: tuple[int, ...]


def signatures(model: Any) -> tuple[SignatureFacts, ...]:
  """Returns a model's signatures, in the file's order."""
  return tuple(
    SignatureFacts(
      name=_text(each.signatureKey),
      inputs=tuple(_text(entry.name) for entry in each.inputs or []),
      outputs=tuple(_text(entry.name) for entry in each.outputs or []),
    )
    for each in model.signatureDefs or []
  )


def tensor_facts(
  model: Any,
) -> tuple[tuple[TensorFacts, ...], tuple[TensorFacts, ...]]:
  """Returns the inputs and the outputs of a model's first subgraph.

  Args:
    model: As `flatbuffer_model.read_model` gives it.
  """
  graph = model.subgraphs[0]
  ours = [each for each in model.signatureDefs or [] if each.subgraphIndex == 0]
  inputs = _named([(_text(each.signatureKey), each.inputs or []) for each in ours])
  outputs = _named([(_text(each.signatureKey), each.outputs or []) for each in ours])
  return (
    tuple(_facts(graph.tensors, index, inputs) for index in graph.inputs),
    tuple(_facts(graph.tensors, index, outputs) for index in graph.outputs),
  )


_Named = dict[int, tuple[str, str]]


def _named(entries: Sequence[tuple[str, Sequence[Any]]]) -> _Named:
  """Returns for each tensor the first signature that names it, and how."""
  found: _Named = {}
  for signature, named in entries:
    for entry in named:
      found.setdefault(entry.tensorIndex, (signature, _text(entry.name)))
  return found


def _facts(tensors: Sequence[Any], index: int, named: _Named) -> TensorFacts:
  tensor = tensors[index]
  tensor_name = flatbuffer_model.tensor_name(tensor)
  signature, name = named.get(index, (None, tensor_name))
  quantization = tensor.quantization
  scale = [] if quantization is None else quantization.scale
  points = [] if quantization is None else quantization.zeroPoint
  return TensorFacts(
    name=name,
    signature=signature,
    tensor_name=tensor_name,
    shape=tuple(flatbuffer_model.integers(tensor.shape)),
    dtype=_ELEMENT_TYPES.get(tensor.type, f"type {tensor.type}"),
    scale=() if scale is None else tuple(float(value) for value in scale),
    zero_point=tuple(flatbuffer_model.integers(points)),
  )


def _text(name: Optional[bytes]) -> str:
  return (name or b"").decode("utf-8", errors="replace")
