"""Unlikely values for the fields of a model."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

INTEGERS = (-(2**31), -129, -128, -2, -1, 0, 1, 2, 3, 7, 31, 99, 127, 128, 2**31 - 1)
VECTORS: tuple[list[int], ...] = (
  [],
  [0],
  [-1],
  [1, 2],
  [2**31 - 1] * 3,
  [0] * 50,
  [5, 0, 3],
  [2, 2],
)


def edit(model, generator):
  """Gives one field of a model an unlikely value."""

  def pick(choices):
    return choices[generator.integers(len(choices))]

  graph = model.subgraphs[0]
  tensor, operator = pick(graph.tensors), pick(graph.operators)
  quantization = tensor.quantization or schema.QuantizationParametersT()
  integer, vector = pick(INTEGERS), pick(VECTORS)
  indices = [abs(each) % len(graph.tensors) for each in vector]
  holder, field, value = pick(
    (
      (tensor, "shape", vector),
      (tensor, "shapeSignature", vector),
      (tensor, "type", abs(integer) % 20),
      (tensor, "buffer", abs(integer) % len(model.buffers)),
      (tensor, "quantization", None),
      (tensor, "isVariable", True),
      (tensor, "sparsity", schema.SparsityParametersT()),
      (quantization, "quantizedDimension", integer),
      (quantization, "zeroPoint", vector),
      (quantization, "scale", [float(each) for each in vector]),
      (operator, "inputs", indices),
      (operator, "outputs", indices),
      (graph, "inputs", indices),
      (model, "subgraphs", [graph] * 2),
      (model.signatureDefs[0], "subgraphIndex", abs(integer) % 3),
      (pick(model.operatorCodes), "builtinCode", abs(integer) % 300),
      (pick(model.buffers), "data", np.zeros(abs(integer) % 3000, np.uint8)),
    )
  )
  setattr(holder, field, value)
