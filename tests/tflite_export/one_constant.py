"""Hand-made `.tflite` files that copy one constant to their output."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.file_format.compact_writer import write_compact

# Every element type that TFLM's DECODE writes.
TYPES = {
  np.dtype("<i1"): schema.TensorType.INT8,
  np.dtype("<i2"): schema.TensorType.INT16,
  np.dtype("<i4"): schema.TensorType.INT32,
  np.dtype("<i8"): schema.TensorType.INT64,
  np.dtype("<f4"): schema.TensorType.FLOAT32,
  np.dtype("?"): schema.TensorType.BOOL,
}
CONSTANT, OUTPUT = (0, 0), (0, 2)


def copied(values, zero_points=(), axis=0):
  """Returns a file of one RESHAPE: tensor 0 is the constant, 2 the output.

  Args:
    values: Any shape, of a type in `TYPES`.
    zero_points: One, or one for each channel; without any it is not quantised.
    axis: Of the channels.
  """
  quantization = None
  if len(zero_points):
    quantization = schema.QuantizationParametersT(
      scale=[0.5] * len(zero_points),
      zeroPoint=[int(point) for point in zero_points],
      quantizedDimension=axis,
    )
  type = TYPES[values.dtype]
  tensors = [
    schema.TensorT(
      shape=list(values.shape), type=type, buffer=1, quantization=quantization
    ),
    schema.TensorT(shape=[1, 1], type=schema.TensorType.FLOAT32, buffer=0),
    schema.TensorT(shape=[values.size], type=type, buffer=0),
  ]
  code = schema.BuiltinOperator.RESHAPE
  operator = schema.OperatorT(
    opcodeIndex=0,
    inputs=[0],
    outputs=[2],
    builtinOptionsType=schema.BuiltinOptions.ReshapeOptions,
    builtinOptions=schema.ReshapeOptionsT(newShape=[values.size]),
  )
  graph = schema.SubGraphT(
    tensors=tensors, inputs=[1], outputs=[2], operators=[operator]
  )
  data = np.frombuffer(values.tobytes(), np.uint8)
  return write_compact(
    schema.ModelT(
      version=3,
      operatorCodes=[
        schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code)
      ],
      subgraphs=[graph],
      buffers=[schema.BufferT(), schema.BufferT(data=data)],
    )
  )
