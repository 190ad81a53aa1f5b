"""A converted file with everything in it that TFLM does not read."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_export import models
from tflite_export.file_format.flatbuffer_model import integers, read_model
from tflite_export.runtimes import tflm


def burdened():
  """Returns a converted model with everything that some step takes out."""
  model = read_model(models.converted("int8_dense", 0.2))
  graph = model.subgraphs[0]
  model.description = b"a description"
  model.metadataBuffer = [1, 2]
  for tensor in graph.tensors:
    tensor.shapeSignature = [-1, *integers(tensor.shape)[1:]]
    if tensor.quantization is not None:
      tensor.quantization.min, tensor.quantization.max = [-1.0], [float(tensor.buffer)]
  for operator in graph.operators:
    operator.intermediates = np.array([], np.int32)
    operator.mutatingVariableInputs = []
  graph.tensors.insert(3, schema.TensorT(shape=[7, 9], buffer=0, name="unused"))
  for operator in graph.operators:
    operator.inputs = [index + (index >= 3) for index in operator.inputs]
    operator.outputs = [index + (index >= 3) for index in operator.outputs]
  graph.inputs = [index + (index >= 3) for index in graph.inputs]
  graph.outputs = [index + (index >= 3) for index in graph.outputs]
  for end in (*model.signatureDefs[0].inputs, *model.signatureDefs[0].outputs):
    end.tensorIndex += end.tensorIndex >= 3
  model.operatorCodes.insert(0, schema.OperatorCodeT(builtinCode=99, version=7))
  for operator in graph.operators:
    operator.opcodeIndex += 1
  model.buffers.append(schema.BufferT(data=np.arange(50, dtype=np.uint8)))
  return model


def outputs(model_bytes, count=8):
  return tflm.run(model_bytes, models.random_inputs(count)).stored_outputs
