"""A hand-made file whose arena can be worked out by hand."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_export.files import connected, quantised, written

# Weights take 4,096, 2,048 and 768 bytes, and save so much in this order.
WIDTHS = (32, 128, 16, 48)
BIG, MIDDLE, SMALL = (0, 0), (0, 1), (0, 2)


def chain_of_layers(density=0.1):
  """Returns a file of three dense layers; tensors 0 to 2 are their weights."""
  generator = np.random.default_rng(7)
  shapes = list(zip(WIDTHS[1:], WIDTHS[:-1], strict=True))
  tensors, buffers = [], [schema.BufferT()]
  for number, shape in enumerate(shapes):
    values = generator.integers(1, 128, shape).astype(np.int8)
    kept = generator.random(shape) < density
    data = np.where(kept, values, np.int8(0)).view(np.uint8).reshape(-1)
    buffers.append(schema.BufferT(data=data))
    tensors.append(quantised(shape, number + 1, name=f"weight {number}".encode()))
  first = len(tensors)
  tensors += [quantised((1, width), 0, 3) for width in WIDTHS]
  return written(connected(tensors, first, range(len(shapes)), buffers))


def inputs():
  """Returns rows that the file takes."""
  return np.random.default_rng(8).normal(size=(2, WIDTHS[0])).astype(np.float32)
