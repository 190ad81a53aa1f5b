"""Small networks that XNNPACK on ARM runs sparse, or does not, or does not load."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Optional

import numpy as np
import tensorflow as tf

from tests.tflite_export.eligibility_networks import (
  average,
  balanced,
  classify,
  dense,
  dense_head,
  dense_only,
  depthwise,
  excite,
  flat_mean,
  headed,
  inside,
  keepdims_convolution,
  network,
  pointwise,
  pool,
  same_padded_stride,
  shortened,
  stem,
  two_heads,
  with_stem,
  zoo,
)
from tflite_export.conversion.convert import convert
from tflite_export.conversion.sparsify import sparsify

layers = tf.keras.layers

# TensorFlow's own switch for sparse storage. Dynamic range is not ours: `convert` stores
# such weights dense, because LiteRT cannot load them.
TENSORFLOW_FP32 = "tensorflow_fp32_sparse"
TENSORFLOW_DYNAMIC_RANGE = "tensorflow_dynamic_range_sparse"
TENSORFLOW_FORMATS = (TENSORFLOW_FP32, TENSORFLOW_DYNAMIC_RANGE)


@dataclasses.dataclass(frozen=True)
class Graph:
  """A network and what is expected of it.

  Attributes:
    build: Returns the Keras model, weights and zeros included.
    sparse: Whether half of its 1×1 convolutions' work is done sparse on ARM.
    says: Part of a reason or mend of an operator that is not run sparse.
    error: Part of an error, None without errors.
    loads: Whether it loads on ARM.
    format: Key of `FORMATS` it is converted with, or one of `TENSORFLOW_FORMATS`.
    slow: Whether converting it takes seconds.
  """

  build: Callable[[], tf.keras.Model]
  sparse: bool
  says: str = ""
  error: Optional[str] = None
  loads: bool = True
  format: str = "fp32_sparse"
  slow: bool = False


_TAKEN = {
  "plain": Graph(network, True),
  "mobilenet_v1": Graph(lambda: zoo("mobilenet_v1_sparse", 0.5), True),
  "mobilenet_v2": Graph(lambda: zoo("mobilenet_v2_sparse", 1.0), True, slow=True),
  "fp16": Graph(network, True, format="fp16_sparse"),
  "tensorflow_fp32": Graph(network, True, format=TENSORFLOW_FP32),
  "over_two_thirds": Graph(lambda: balanced(14337), True),
  "dense_layer_without_zeros": Graph(lambda: dense_head(400, 0.95)(16000), True),
  "same_stride_1": Graph(lambda: same_padded_stride(1), True),
  "depthwise_5": Graph(lambda: depthwise(5, strides=2), True),
  "sigmoid": Graph(inside(tf.nn.sigmoid), True),
  "hard_swish": Graph(inside(lambda x: x * tf.nn.relu6(x + 3.0) / 6.0), True),
  "leaky_relu": Graph(inside(layers.LeakyReLU()), True),
  "elu": Graph(inside(tf.nn.elu), True),
  "residual": Graph(inside(lambda x: x + pointwise(x, 128)), True),
  "product": Graph(inside(lambda x: x * pointwise(x, 128)), True),
  "excite": Graph(inside(excite), True),
  "resize": Graph(inside(layers.UpSampling2D(interpolation="bilinear")), True),
  "pool_head": Graph(headed(average), True),
  "whole_mean_product": Graph(
    inside(lambda x: x * tf.reduce_mean(x, [1, 2, 3], keepdims=True)), True
  ),
  "channel_mean": Graph(flat_mean([3]), True),
  "whole_mean": Graph(flat_mean([1, 2, 3]), True),
  "sum_head": Graph(headed(lambda x: tf.reduce_sum(x, [1, 2])), True),
  "space_head": Graph(
    headed(lambda x: layers.Flatten()(tf.nn.depth_to_space(x, 2))), True
  ),
  "softmax_head": Graph(headed(lambda x: tf.nn.softmax(classify(x))), True),
  "keepdims_flatten": Graph(headed(lambda x: dense(layers.Flatten()(pool(x)))), True),
  "keepdims_dense": Graph(headed(lambda x: dense(pool(x))), True),
}

_NOT_TAKEN = {
  "resnet8": Graph(lambda: zoo("resnet8", 1.0), False, "3×3 convolution"),
  "mobilenet_v1_same": Graph(
    lambda: zoo("mobilenet_v1_025", 2.0),
    False,
    "use ZeroPadding2D + valid",
    slow=True,
  ),
  "int8": Graph(network, False, "works on int8", format="int8_sparse"),
  "stored_dense": Graph(network, False, "stored sparse", format="fp32_dense"),
  "half_zero": Graph(lambda: network(density=0.5), False, "(50.0%), not more"),
  "two_thirds": Graph(lambda: balanced(14336), False, "14,336 of 21,504"),
  "dense_layer_of_zeros": Graph(
    lambda: dense_head(400, 0.05)(13000), False, "13,000 of 21,504"
  ),
  "same_stride_2": Graph(same_padded_stride, False, "stride-2 SAME padding"),
  "stem_stride_1": Graph(
    lambda: with_stem(lambda x: stem(x, 1), (24, 24, 3)), False, "has not stride 2"
  ),
  "stem_same": Graph(
    lambda: with_stem(layers.Conv2D(16, 3, 2, padding="same")),
    False,
    "stride-2 SAME padding",
  ),
  "stem_grey": Graph(
    lambda: with_stem(stem, (48, 48, 1)), False, "on 1 input channels, not 3"
  ),
  "no_stem": Graph(
    lambda: with_stem(lambda x: x, (24, 24, 16)), False, "without a stem"
  ),
  "concat": Graph(
    inside(lambda x: tf.concat([x, pointwise(x, 32)], 3)), False, "CONCATENATION"
  ),
  "difference": Graph(inside(lambda x: x - pointwise(x, 128)), False, "SUB"),
  "maximum": Graph(
    inside(lambda x: tf.maximum(x, pointwise(x, 128))), False, "MAXIMUM"
  ),
  "prelu": Graph(
    inside(layers.PReLU(shared_axes=[1, 2])), False, "not four dimensions"
  ),
  "resize_nearest": Graph(
    inside(layers.UpSampling2D()), False, "does not take RESIZE_NEAREST_NEIGHBOR"
  ),
  "flatten_head": Graph(
    headed(lambda x: dense(layers.Flatten()(x))), False, "spatial mean at the end"
  ),
  "max_head": Graph(
    headed(lambda x: dense(layers.GlobalMaxPooling2D()(x))), False, "spatial mean"
  ),
  "keepdims_convolution_half_zero": Graph(
    headed(keepdims_convolution, 0.5), False, "not more than two thirds"
  ),
  "dense_only": Graph(dense_only, False, "dense layers have no sparse kernel"),
}

# XNNPACK runs the part before the operator that does not fit sparse all the same.
_WRONG = "outputs are wrong"
_WRONG_OUTPUTS = {
  "max_pool": Graph(inside(layers.MaxPool2D()), True, "MAX_POOL_2D", _WRONG),
  "average_pool": Graph(
    inside(layers.AveragePooling2D()), True, "AVERAGE_POOL_2D", _WRONG
  ),
  "softmax_inside": Graph(inside(layers.Softmax()), True, "SOFTMAX", _WRONG),
  "constant_sum": Graph(
    inside(lambda x: x + np.linspace(0, 1, 128, dtype=np.float32)),
    True,
    "not four dimensions",
    _WRONG,
  ),
  "pointwise_stride_2": Graph(
    inside(layers.Conv2D(128, 1, 2)), True, "1×1 convolution with a stride", _WRONG
  ),
  "convolution_3": Graph(
    inside(layers.Conv2D(32, 3)), True, "has not stride 2", _WRONG
  ),
  "grouped": Graph(
    inside(layers.Conv2D(128, 1, groups=4)), True, "grouped convolution", _WRONG
  ),
  "depthwise_5_pad_1": Graph(lambda: depthwise(5, 1), False, "not padded by 2", _WRONG),
  "depthwise_7": Graph(lambda: depthwise(7), False, "7×7 depthwise", _WRONG),
  "depthwise_dilated": Graph(
    lambda: depthwise(3, 2, dilation_rate=2), False, "dilated depthwise", _WRONG
  ),
  "two_heads": Graph(headed(two_heads), True, "CONCATENATION", _WRONG),
  "row_mean": Graph(flat_mean([1]), True, "", "is over part of the image only"),
  "column_mean": Graph(flat_mean([2]), True, "", "is over part of the image only"),
  "keepdims_output": Graph(headed(pool), True, "", "wrong order"),
  "keepdims_softmax": Graph(
    headed(lambda x: layers.Flatten()(tf.nn.softmax(pool(x)))),
    True,
    "SOFTMAX",
    "wrong order",
  ),
}


def _unreshaped(build):
  return Graph(build, False, error="reshape runtime", loads=False)


def _dynamic_range(build):
  return Graph(
    build,
    False,
    "works on int8",
    "failed to delegate",
    loads=False,
    format=TENSORFLOW_DYNAMIC_RANGE,
  )


_DOES_NOT_LOAD = {
  "keepdims_convolution": _unreshaped(headed(keepdims_convolution)),
  "keepdims_sigmoid": _unreshaped(
    headed(lambda x: layers.Flatten()(tf.nn.sigmoid(pool(x))))
  ),
  "pool_product": _unreshaped(inside(lambda x: x * tf.nn.sigmoid(pool(x)))),
  "channel_mean_sum": _unreshaped(
    inside(lambda x: x + tf.reduce_mean(x, 3, keepdims=True))
  ),
  "dynamic_range": _dynamic_range(network),
  "dynamic_range_dense_layers": _dynamic_range(dense_only),
}

GRAPHS: dict[str, Graph] = {**_TAKEN, **_NOT_TAKEN, **_WRONG_OUTPUTS, **_DOES_NOT_LOAD}


@functools.cache
def converted(graph: Graph) -> bytes:
  """Returns the file of a graph, converted once for all tests."""
  return _converted(graph, graph.format)


@functools.cache
def converted_short(graph: Graph) -> bytes:
  """Returns the file of the same graph with a shorter body, converted quickly.

  Without a SavedModel in between, and so without signature, which no rule looks at.
  """
  with shortened():
    if not graph.format.startswith("fp32"):
      return _converted(graph, graph.format)
    model = graph.build()
  shape = tf.TensorSpec((1, *model.input_shape[1:]))
  function = tf.function(lambda image: model(image, training=False), autograph=False)
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [function.get_concrete_function(shape)]
  )
  converter.experimental_lower_to_saved_model = False
  content = bytes(converter.convert())
  return sparsify(content) if graph.format == "fp32_sparse" else content


def dense_format(graph: Graph) -> str:
  """Returns the key of `FORMATS` that stores the same numbers dense."""
  name = graph.format.removeprefix("tensorflow_")
  return name.removesuffix("_sparse").removesuffix("_dense") + "_dense"


def converted_dense(graph: Graph) -> bytes:
  """Returns the file with the same numbers, every weight stored dense."""
  return _converted(graph, dense_format(graph))


def _converted(graph, format):
  model = graph.build()
  if format in TENSORFLOW_FORMATS:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if format == TENSORFLOW_DYNAMIC_RANGE:
      converter.optimizations.append(tf.lite.Optimize.DEFAULT)
    return converter.convert()
  calibration = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:]))
  return convert(model, format, calibration.astype(np.float32))
