"""Hand-made `.tflite` files, for what no converter writes."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

WIDTH = 32


def tensor(shape, type=schema.TensorType.FLOAT32, buffer=0):
  """Returns a tensor without a name; buffer 1 is the file's one constant."""
  made = schema.TensorT()
  made.shape, made.type, made.buffer = list(shape), type, buffer
  return made


def one_operator(code, tensors, inputs, outputs, constant):
  """Returns a file of one operator.

  Args:
    code: `BuiltinOperator` number.
    tensors: Of the only subgraph.
    inputs: Indices of the operator's tensors; -1 leaves one out.
    outputs: Likewise; the graph's outputs too.
    constant: Content of buffer 1.
  """
  operator_code, operator = schema.OperatorCodeT(), schema.OperatorT()
  operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
  operator.inputs, operator.outputs = inputs, outputs
  graph = schema.SubGraphT()
  graph.tensors, graph.operators = tensors, [operator]
  graph.inputs, graph.outputs = [], outputs
  model = schema.ModelT()
  model.version, model.operatorCodes, model.subgraphs = 3, [operator_code], [graph]
  model.buffers = [schema.BufferT(), schema.BufferT()]
  model.buffers[1].data = np.frombuffer(constant.tobytes(), np.uint8)
  return written(model)


def quantised_dense(stored, zero_points):
  """A file of one int8 FULLY_CONNECTED layer without names."""
  quantization = schema.QuantizationParametersT()
  quantization.scale = [1.0] * len(zero_points)
  quantization.zeroPoint = list(zero_points)
  int8 = schema.TensorType.INT8
  weight = tensor(stored.shape, int8, buffer=1)
  weight.quantization = quantization
  return one_operator(
    schema.BuiltinOperator.FULLY_CONNECTED,
    [tensor([1, 3], int8), weight, tensor([1, 2], int8)],
    [0, 1, -1],
    [2],
    stored,
  )


def sparse_values(seed=0, density=0.1, zero=0):
  """Returns int8 [32, 32], mostly `zero`."""
  generator = np.random.default_rng(seed)
  values = generator.integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
  return np.where(generator.random(values.shape) < density, values, np.int8(zero))


def quantised(shape, buffer, zero_point=0, name=b"tensor", scale=0.02):
  return schema.TensorT(
    shape=list(shape),
    type=schema.TensorType.INT8,
    buffer=buffer,
    name=name,
    quantization=schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point]),
  )


def chain(buffers, weights, layers):
  """Returns a model of fully connected layers, 32 to 32 wide.

  Args:
    buffers: Arrays [32, 32], one for each buffer from 1 on.
    weights: (buffer, zero point) of each weight tensor; they are tensors 0, 1, ...
    layers: The weight tensor of each layer in turn.
  """
  tensors = [
    quantised((WIDTH, WIDTH), buffer, zero, f"weight {number}".encode())
    for number, (buffer, zero) in enumerate(weights)
  ]
  first = len(tensors)
  tensors += [quantised((1, WIDTH), 0, 3) for _ in range(len(layers) + 1)]
  stored = [schema.BufferT(data=array.view(np.uint8).reshape(-1)) for array in buffers]
  return connected(tensors, first, layers, [schema.BufferT(), *stored])


def connected(tensors, first, weights, buffers):
  """Returns a model of fully connected layers, one after the other.

  Args:
    tensors: All of them; from `first` on those between the layers, in their order.
    first: The input.
    weights: The weight tensor of each layer in turn.
    buffers: As the schema has them.
  """
  operators = [
    schema.OperatorT(
      opcodeIndex=0,
      inputs=[first + number, weight, -1],
      outputs=[first + number + 1],
      builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
      builtinOptions=schema.FullyConnectedOptionsT(),
    )
    for number, weight in enumerate(weights)
  ]
  code = schema.BuiltinOperator.FULLY_CONNECTED
  return schema.ModelT(
    version=3,
    operatorCodes=[
      schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=4)
    ],
    subgraphs=[
      schema.SubGraphT(
        tensors=tensors,
        inputs=[first],
        outputs=[len(tensors) - 1],
        operators=operators,
      )
    ],
    buffers=buffers,
  )


def one_layer():
  """Returns a model of one sparse layer: tensor 0 is the weight, 1 in, 2 out."""
  return chain([sparse_values()], [(1, 0)], [0])


def written(model):
  """Returns the file of a model as the schema's own code writes it, not aligned."""
  builder = flatbuffers.Builder(1024)
  builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
  return bytes(builder.Output())


def damaged(content, seed, damages):
  """Returns a file with some bytes changed, or cut short where none is."""
  generator = np.random.default_rng(seed)
  changed = bytearray(content)
  for _ in range(damages):
    position = generator.integers(len(changed))
    changed[position] = generator.choice([0, 1, 127, 128, 255])
  length = len(changed) if damages else generator.integers(len(changed))
  return bytes(changed[:length])


def vector_of(builder, start, offset, count):
  """Writes a vector that holds one table `count` times."""
  start(builder, count)
  for _ in range(count):
    builder.PrependUOffsetTRelative(offset)
  return builder.EndVector()
