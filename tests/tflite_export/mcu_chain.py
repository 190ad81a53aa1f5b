"""A hand-made file whose arena can be worked out by hand."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_export.files import quantised, written

# Weights take 4,096, 2,048 and 768 bytes, and save so much in this order.
WIDTHS = (32, 128, 16, 48)
BIG, MIDDLE, SMALL = (0, 0), (0, 1), (0, 2)


def chain_of_layers(density=0.1):
  """Returns a file of three dense layers; tensors 0 to 2 are their weights."""
  generator = np.random.default_rng(7)
  shapes = list(zip(WIDTHS[1:], WIDTHS[:-1], strict=True))
  tensors, buffers, operators = [], [schema.BufferT()], []
  for number, shape in enumerate(shapes):
    values = generator.integers(1, 128, shape).astype(np.int8)
    kept = generator.random(shape) < density
    data = np.where(kept, values, np.int8(0)).view(np.uint8).reshape(-1)
    buffers.append(schema.BufferT(data=data))
    tensors.append(quantised(shape, number + 1, name=f"weight {number}".encode()))
  first = len(tensors)
  tensors += [quantised((1, width), 0, 3) for width in WIDTHS]
  for number in range(len(shapes)):
    operators.append(
      schema.OperatorT(
        opcodeIndex=0,
        inputs=[first + number, number, -1],
        outputs=[first + number + 1],
        builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
        builtinOptions=schema.FullyConnectedOptionsT(),
      )
    )
  code = schema.BuiltinOperator.FULLY_CONNECTED
  return written(
    schema.ModelT(
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
  )


def inputs():
  """Returns rows that the file takes."""
  return np.random.default_rng(8).normal(size=(2, WIDTHS[0])).astype(np.float32)
