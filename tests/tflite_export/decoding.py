"""Second decoders of both forms, slow and written from their descriptions."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.pruned_tensor import PackedTensor

HEADER = bytes([2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])


def operator_names(model):
  names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
  return [
    (model.operatorCodes[operator.opcodeIndex].customCode or b"").decode()
    or names[model.operatorCodes[operator.opcodeIndex].builtinCode]
    for operator in model.subgraphs[0].operators
  ]


def unpack(packed, shape, dtype, zeros):
  """Decodes as the layout says, one bit at a time."""
  assert packed.ancillary[:16] == HEADER
  table = np.frombuffer(packed.ancillary[16:], dtype)
  values = np.broadcast_to(zeros, shape).astype(dtype).reshape(-1)
  taken = 0
  for index in range(values.size):
    if packed.encoded[index // 8] >> (7 - index % 8) & 1:
      values[index] = table[taken]
      taken += 1
  assert taken == len(table)
  assert len(packed.encoded) == -(-values.size // 8)
  return values.reshape(shape)


def unpack_lut(packed, shape, dtype, channel_axis):
  """Decodes as TFLM's kernel does: it moves on by a stride at each quantised channel."""
  width, stride = packed.ancillary[5] & 7, packed.ancillary[6]
  table = np.frombuffer(packed.ancillary[16:], dtype)
  values = np.empty(shape, dtype)
  for number, place in enumerate(np.ndindex(*shape)):
    index = 0
    for bit in range(number * width, (number + 1) * width):
      index = index * 2 + (packed.encoded[bit // 8] >> (7 - bit % 8) & 1)
    channel = 0 if channel_axis is None else place[channel_axis]
    values[place] = table[channel * stride + index]
  return values


def decoded_tensors(model_bytes, dense_bytes):
  """Returns (decoded, dense) values for each output of each DECODE."""
  model, dense = read_model(model_bytes), read_model(dense_bytes)
  pairs = []
  for graph, dense_graph in zip(model.subgraphs, dense.subgraphs, strict=True):
    names = {tensor.name: tensor for tensor in dense_graph.tensors}
    for operator in graph.operators:
      if model.operatorCodes[operator.opcodeIndex].customCode != b"TFLM_DECODE":
        continue
      for number, target in enumerate(operator.outputs):
        encoded, ancillary = (
          model.buffers[graph.tensors[at].buffer].data.tobytes()
          for at in operator.inputs[2 * number : 2 * number + 2]
        )
        tensor = graph.tensors[target]
        points = np.array(tensor.quantization.zeroPoint, np.int8)
        shape = [1] * len(tensor.shape)
        shape[tensor.quantization.quantizedDimension] = len(points)
        values = unpack(
          PackedTensor(encoded, ancillary),
          tuple(tensor.shape),
          np.int8,
          points.reshape(shape),
        )
        data = dense.buffers[names[tensor.name].buffer].data
        pairs.append((values.tobytes(), data.tobytes()))
  return pairs
