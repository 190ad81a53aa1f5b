"""Steps that take out of a parsed `.tflite` what TFLM does not read.

Each changes the model in place and is harmless on its own; tests run the file before
and after in TFLM and compare the outputs bit by bit. What TFLM reads was looked up in
its `micro_allocator.cc`, `micro_allocation_info.cc`, `kernel_util.cc` and
`kernels/{conv,depthwise_conv,fully_connected}_common.cc`; the last three are shared by
the reference, CMSIS-NN and Xtensa kernels.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tflite_export.file_format import flatbuffer_model

# Metadata that TFLM looks for by name.
PLAN_METADATA = b"OfflineMemoryAllocation"
_READ_METADATA = (PLAN_METADATA, b"COMPRESSION_METADATA")

_CONVOLUTIONS = (
  schema.BuiltinOperator.CONV_2D,
  schema.BuiltinOperator.DEPTHWISE_CONV_2D,
)
_BIAS_INPUT = 2
# TFLM allows a bias scale that is off by 0.02 output scales; half of it is kept back.
_UNCHECKED_SCALE_FRACTION = 0.01


def drop_names(model: schema.ModelT) -> None:
  """Drops names and signatures; firmware finds inputs and outputs by number."""
  model.description = None
  model.signatureDefs = None
  for subgraph in model.subgraphs:
    subgraph.name = None
    for tensor in subgraph.tensors:
      tensor.name = None


def drop_metadata(model: schema.ModelT) -> None:
  """Drops metadata, but for those that TFLM looks for by name."""
  kept = [each for each in model.metadata or [] if each.name in _READ_METADATA]
  model.metadata = kept or None
  model.metadataBuffer = None


def drop_ranges(model: schema.ModelT) -> None:
  """Drops the ranges seen in calibration, and quantisation that says nothing."""
  for tensor in _tensors(model):
    quantization = tensor.quantization
    if quantization is None:
      continue
    quantization.min = quantization.max = None
    if not (_length(quantization.scale) or quantization.detailsType):
      tensor.quantization = None


def drop_shape_signatures(model: schema.ModelT) -> None:
  """Drops shapes with unknown dimensions; in TFLM every shape is fixed."""
  for tensor in _tensors(model):
    tensor.shapeSignature = None


def drop_empty_vectors(model: schema.ModelT) -> None:
  """Drops empty lists that operators need not have."""
  fields = ("intermediates", "mutatingVariableInputs", "customOptions")
  for subgraph in model.subgraphs:
    for operator in subgraph.operators:
      for field in fields:
        if not _length(getattr(operator, field)):
          setattr(operator, field, None)


def merge_zero_points(model: schema.ModelT) -> None:
  """Keeps one of the zero points of a tensor's channels if all are equal.

  TFLM's allocator takes the first for every channel when their number is not that of
  the scales; each takes 8 bytes.
  """
  for tensor in _tensors(model):
    quantization = tensor.quantization
    if quantization is None or _length(quantization.scale) < 2:
      continue
    points = flatbuffer_model.integers(quantization.zeroPoint)
    if len(set(points)) == 1:
      quantization.zeroPoint = points[:1]


def drop_bias_quantisation(model: schema.ModelT) -> None:
  """Drops the quantisation of biases, which follows from input and weight.

  Convolutions never read it. FULLY_CONNECTED refuses a bias whose scale is not
  about input scale × weight scale, and takes a missing one for 0: it goes only where
  the product is small enough against the output scale for that check to pass.
  """
  for subgraph in model.subgraphs:
    readers: dict[int, list[bool]] = {}
    for operator in subgraph.operators:
      code = flatbuffer_model.operator_code(model, operator)
      for position, index in enumerate(operator.inputs):
        unread = position == _BIAS_INPUT and (
          code in _CONVOLUTIONS or _passes_unchecked(code, operator, subgraph)
        )
        readers.setdefault(index, []).append(unread)
    ends = {*subgraph.inputs, *subgraph.outputs}
    for index, unread_by in readers.items():
      if index >= 0 and index not in ends and all(unread_by):
        subgraph.tensors[index].quantization = None


def _passes_unchecked(code: int, operator: Any, subgraph: Any) -> bool:
  """Returns whether a FULLY_CONNECTED accepts a bias without a scale."""
  if code != schema.BuiltinOperator.FULLY_CONNECTED:
    return False
  ends = (*operator.inputs[:2], *operator.outputs[:1])
  scales = [
    _scales(subgraph.tensors[index].quantization) for index in ends if index >= 0
  ]
  if len(scales) != 3 or [len(each) for each in scales] != [1, 1, 1]:
    return False
  source, weight, output = (each[0] for each in scales)
  return 0 <= source * weight <= _UNCHECKED_SCALE_FRACTION * output


def drop_unused_tensors(model: schema.ModelT) -> None:
  """Drops tensors that nothing refers to; each also takes memory at run time.

  With a memory plan made beforehand they stay: it counts them.
  """
  if any(each.name == PLAN_METADATA for each in model.metadata or []):
    return
  for number, subgraph in enumerate(model.subgraphs):
    lists = [subgraph.inputs, subgraph.outputs]
    for operator in subgraph.operators:
      operator.intermediates = flatbuffer_model.integers(operator.intermediates)
      lists += [operator.inputs, operator.outputs, operator.intermediates]
    ends = [
      end
      for signature in model.signatureDefs or []
      if signature.subgraphIndex == number
      for end in [*(signature.inputs or []), *(signature.outputs or [])]
    ]
    used = {index for each in lists for index in each} | {
      end.tensorIndex for end in ends
    }
    kept = [index for index in range(len(subgraph.tensors)) if index in used]
    place = {-1: -1, **{index: at for at, index in enumerate(kept)}}
    for each in lists:
      each[:] = [place[index] for index in each]
    for end in ends:
      end.tensorIndex = place[end.tensorIndex]
    subgraph.tensors = [subgraph.tensors[index] for index in kept]


def drop_unused_codes(model: schema.ModelT) -> None:
  """Drops operator codes that no operator has."""
  operators = [each for subgraph in model.subgraphs for each in subgraph.operators]
  kept = sorted({operator.opcodeIndex for operator in operators})
  place = {index: at for at, index in enumerate(kept)}
  model.operatorCodes = [model.operatorCodes[index] for index in kept]
  for operator in operators:
    operator.opcodeIndex = place[operator.opcodeIndex]


def merge_buffers(model: schema.ModelT) -> None:
  """Keeps one buffer of each content; buffer 0 stays the empty one."""
  buffers = [schema.BufferT()]
  place_of_data = {b"": 0}

  @functools.cache
  def placed(index: int) -> int:
    buffer = model.buffers[index]
    data = b"" if buffer.data is None else bytes(buffer.data)
    if data not in place_of_data:
      place_of_data[data] = len(buffers)
      buffers.append(buffer)
    return place_of_data[data]

  for tensor in _tensors(model):
    tensor.buffer = placed(tensor.buffer)
  for metadata in model.metadata or []:
    metadata.buffer = placed(metadata.buffer)
  if model.metadataBuffer is not None:
    model.metadataBuffer = [placed(index) for index in model.metadataBuffer]
  model.buffers = buffers


def _tensors(model: schema.ModelT) -> Iterator[Any]:
  """Yields the tensors of all subgraphs."""
  for subgraph in model.subgraphs:
    yield from subgraph.tensors


def _length(vector: Any) -> int:
  """Returns the length of a vector, which is absent when empty."""
  return 0 if vector is None else len(vector)


def _scales(quantization: Any) -> list[float]:
  """Returns a tensor's scales, none if it is not quantised."""
  if quantization is None or quantization.scale is None:
    return []
  return [float(scale) for scale in quantization.scale]


ANONYMOUS_STEPS: tuple[Callable[[schema.ModelT], None], ...] = (
  drop_names,
  drop_metadata,
  merge_zero_points,
  drop_bias_quantisation,
)
# In this order: later steps find what earlier ones left without use.
STEPS: tuple[Callable[[schema.ModelT], None], ...] = (
  drop_ranges,
  drop_shape_signatures,
  drop_empty_vectors,
  drop_unused_tensors,
  drop_unused_codes,
  merge_buffers,
)
