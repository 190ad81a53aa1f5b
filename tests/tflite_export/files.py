"""Hand-made `.tflite` files, for what no converter writes."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


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
  builder = flatbuffers.Builder()
  builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
  return bytes(builder.Output())
