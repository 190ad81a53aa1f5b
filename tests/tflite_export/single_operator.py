"""Hand-made `.tflite` files of one weighted operator, dense, for every element type."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.file_format import flatbuffer_writer

KINDS = ("convolution", "depthwise", "dense")
TYPES = ("float32", "float16", "int8", "dynamic_range")

_CODES = {
  "convolution": (schema.BuiltinOperator.CONV_2D, 5),
  "depthwise": (schema.BuiltinOperator.DEPTHWISE_CONV_2D, 6),
  "dense": (schema.BuiltinOperator.FULLY_CONNECTED, 9),
}
_IMAGE = 5
_FLOAT32, _FLOAT16 = schema.TensorType.FLOAT32, schema.TensorType.FLOAT16
_INT8, _INT32 = schema.TensorType.INT8, schema.TensorType.INT32


def build(kind, type, values, groups=1, uses=1):
  """Returns a file of `uses` equal operators that read one weight, added up.

  Args:
    kind: One of `KINDS`.
    type: One of `TYPES`: of the weight, of the activations too if `int8`.
    values: Weight in the file's layout: OHWI, 1HWO or [out, in]; rounded for int8.
    groups: Of a convolution.
    uses: 1 or 2.
  """
  made = _Builder(type)
  weight = made.weight(kind, values)
  channels = values.shape[0] if kind != "depthwise" else values.shape[-1]
  bias = made.bias(channels)
  inputs = values.shape[-1] * groups if kind != "depthwise" else channels
  shapes = {
    "convolution": ([1, _IMAGE, _IMAGE, inputs], [1, _IMAGE, _IMAGE, channels]),
    "depthwise": ([1, _IMAGE, _IMAGE, inputs], [1, _IMAGE, _IMAGE, channels]),
    "dense": ([1, inputs], [1, channels]),
  }
  source_shape, target_shape = shapes[kind]
  source = made.activation(source_shape, 0.05)
  targets = [made.activation(target_shape, 0.3) for _ in range(uses)]
  for target in targets:
    made.operator(*_CODES[kind], [source, weight, bias], target, _options(kind))
  if uses == 2:
    total = made.activation(target_shape, 0.6)
    add = schema.BuiltinOperator.ADD
    made.operator(add, 2, targets, total, schema.AddOptionsT())
    targets = [total]
  return made.file(source, targets[-1])


def _options(kind):
  if kind == "dense":
    return schema.FullyConnectedOptionsT()
  made = {
    "convolution": schema.Conv2DOptionsT,
    "depthwise": schema.DepthwiseConv2DOptionsT,
  }
  options = made[kind]()
  options.strideH = options.strideW = 1
  options.padding = schema.Padding.SAME
  if kind == "depthwise":
    options.depthMultiplier = 1
  return options


class _Builder:
  """Collects the parts of a model."""

  def __init__(self, type):
    self._type = type
    self._graph = schema.SubGraphT(tensors=[], operators=[])
    self._model = schema.ModelT(
      version=3, operatorCodes=[], subgraphs=[self._graph], buffers=[schema.BufferT()]
    )

  def weight(self, kind, values):
    axis = values.ndim - 1 if kind == "depthwise" else 0
    if self._type == "float32":
      return self._constant(values.astype(np.float32), _FLOAT32)
    if self._type == "float16":
      stored = self._constant(values.astype(np.float16), _FLOAT16)
      unpacked = self._tensor(values.shape, _FLOAT32)
      code = schema.BuiltinOperator.DEQUANTIZE
      self.operator(code, 3, [stored], unpacked, schema.DequantizeOptionsT())
      return unpacked
    scales = 0.01 * (1 + np.arange(values.shape[axis]) % 3)
    return self._constant(
      np.clip(np.round(values * 50), -127, 127).astype(np.int8), _INT8, scales, axis
    )

  def bias(self, channels):
    if self._type == "int8":
      scales = 0.05 * 0.01 * (1 + np.arange(channels) % 3)
      return self._constant(np.arange(channels, dtype=np.int32), _INT32, scales)
    return self._constant(np.arange(channels, dtype=np.float32) / 8, _FLOAT32)

  def activation(self, shape, scale):
    if self._type == "int8":
      return self._tensor(shape, _INT8, [scale], [3])
    return self._tensor(shape, _FLOAT32)

  def operator(self, code, version, inputs, output, options):
    self._model.operatorCodes.append(
      schema.OperatorCodeT(
        deprecatedBuiltinCode=code, builtinCode=code, version=version
      )
    )
    name = type(options).__name__[:-1]
    self._graph.operators.append(
      schema.OperatorT(
        opcodeIndex=len(self._model.operatorCodes) - 1,
        inputs=list(inputs),
        outputs=[output],
        builtinOptionsType=getattr(schema.BuiltinOptions, name),
        builtinOptions=options,
      )
    )

  def file(self, source, target):
    self._graph.inputs, self._graph.outputs = [source], [target]
    return flatbuffer_writer.write_model(self._model)

  def _constant(self, values, type, scales=(), axis=0):
    buffer = schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8))
    self._model.buffers.append(buffer)
    index = self._tensor(values.shape, type, scales, [0] * len(scales), axis)
    self._graph.tensors[index].buffer = len(self._model.buffers) - 1
    return index

  def _tensor(self, shape, type, scales=(), zero_points=(), axis=0):
    quantization = None
    if len(scales):
      quantization = schema.QuantizationParametersT(
        scale=[float(scale) for scale in scales],
        zeroPoint=list(zero_points),
        quantizedDimension=axis,
      )
    self._graph.tensors.append(
      schema.TensorT(
        shape=list(shape), type=type, buffer=0, quantization=quantization, hasRank=True
      )
    )
    return len(self._graph.tensors) - 1
