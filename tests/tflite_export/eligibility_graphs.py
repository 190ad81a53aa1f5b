"""Small networks that XNNPACK on ARM runs sparse, or does not, or does not load.

Their 1×1 convolutions do most of the work, so that emulated time tells which it is.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff.models.registry import MODELS
from tests.tflite_export import models
from tflite_export.convert import convert
from tflite_export.sparsify import sparsify

layers = tf.keras.layers

IMAGE = (48, 48, 3)
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


def _stem(image, strides=2):
  x = layers.ZeroPadding2D(1)(image)
  return layers.Conv2D(16, 3, strides, activation="relu")(x)


def _pointwise(x, filters, activation="relu"):
  return layers.Conv2D(filters, 1, activation=activation)(x)


def _unit(x, filters, strides=1, size=3, padding=None):
  """A depthwise and a 1×1 convolution."""
  if padding is None:
    x = layers.ZeroPadding2D(size // 2)(x)
  x = layers.DepthwiseConv2D(
    size, strides, padding=padding or "valid", activation="relu"
  )(x)
  return _pointwise(x, filters)


_full = True


@contextlib.contextmanager
def _shortened():
  """Makes networks without the work that emulated time needs."""
  global _full  # noqa: PLW0603
  _full = False
  try:
    yield
  finally:
    _full = True


def _body(x):
  if not _full:
    return _pointwise(_pointwise(_pointwise(x, 128), 128), 128)
  for filters in (64, 128, 128):
    x = _unit(x, filters)
  return _unit(x, 128, strides=2)


def _average(x):
  return layers.GlobalAveragePooling2D()(x)


def _classify(x):
  return layers.Dense(10)(_average(x))


def _pruned(image, outputs, density=0.1, seed=0):
  model = tf.keras.Model(image, outputs)
  models.randomise(model, seed)
  names = tuple(
    layer.name
    for layer in model.layers
    if type(layer) is layers.Conv2D and layer.kernel_size == (1, 1)
  )
  if names:
    models.prune(model, density, names)
  return model


def network(inside=lambda x: x, head=_classify, density=0.1):
  """Stem, four depthwise separable units, something inside, and a head."""
  image = layers.Input(IMAGE)
  x = inside(_body(_stem(image)))
  return _pruned(image, head(_pointwise(x, 128)), density)


def with_stem(stem, image_shape=IMAGE):
  image = layers.Input(image_shape)
  return _pruned(image, _classify(_body(stem(image))))


def zoo(name, width, density=0.1):
  """A model of the registry, its 1×1 convolutions pruned."""
  image = layers.Input((64, 64, 3))
  return _pruned(image, MODELS[name].network(image, 10, width), density)


def same_padded_stride(strides=2):
  image = layers.Input(IMAGE)
  x = _unit(_stem(image), 128, strides, padding="same")
  return _pruned(image, _classify(_pointwise(_unit(x, 128), 128)))


def depthwise(size, padding=None, **options):
  image = layers.Input(IMAGE)
  x = _pointwise(_stem(image), 128)
  x = layers.ZeroPadding2D(size // 2 if padding is None else padding)(x)
  x = layers.DepthwiseConv2D(size, **options)(x)
  return _pruned(image, _classify(_pointwise(_pointwise(x, 128), 128)))


def balanced(zeros, head=_average):
  """A network of 21,504 weights in 1×1 convolutions, `zeros` of them zero.

  Zeros go to the layers with many positions first, so that emulated time shows
  whether they are used even when one third of the weights is not zero.
  """
  image = layers.Input(IMAGE)
  x = _stem(image)
  for filters in (64, 64, 64, 64):
    x = _pointwise(x, filters)
  for _ in range(3):
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, 2)(x)
  model = _pruned(image, head(_pointwise(x, 128)), density=1.0)
  kernels = [
    layer.kernel
    for layer in model.layers
    if type(layer) is layers.Conv2D and layer.kernel_size == (1, 1)
  ]
  for kernel in kernels:
    values = kernel.numpy().reshape(-1)
    taken = min(zeros, int(0.97 * values.size)) if kernel is not kernels[-1] else zeros
    values[np.random.default_rng(1).permutation(values.size)[:taken]] = 0
    kernel.assign(values.reshape(kernel.shape))
    zeros -= taken
  return model


def dense_head(units, density):
  def head(x):
    return layers.Dense(units, name="classes")(_average(x))

  def build(zeros):
    model = balanced(zeros, head)
    models.prune(model, density, ("classes",))
    return model

  return build


def _pool(x):
  return layers.GlobalAveragePooling2D(keepdims=True)(x)


def _excite(x):
  scale = layers.Conv2D(128, 1, activation="sigmoid")(_pool(x))
  return layers.Multiply()([x, scale])


def two_heads(x):
  flat = layers.Flatten()(layers.Conv2D(4, 1)(x))
  return layers.Concatenate()([_classify(x), flat])


def dense_only():
  image, units = layers.Input((32,)), 2048 if _full else 256
  x = layers.Dense(units, activation="relu", name="wide")(image)
  x = layers.Dense(units, activation="relu", name="deep")(x)
  model = tf.keras.Model(image, layers.Dense(10)(x))
  models.randomise(model, 0)
  models.prune(model, 0.1, ("wide", "deep"))
  return model


def _inside(make):
  """A network with something made between its body and its last convolution."""
  return functools.partial(network, make)


def _headed(head, density=0.1):
  return functools.partial(network, head=head, density=density)


def _dense(x):
  return layers.Dense(10)(x)


def _flat_mean(axes):
  return _headed(lambda x: layers.Flatten()(tf.reduce_mean(x, axes)))


def _keepdims_convolution(x):
  return layers.Flatten()(layers.Conv2D(10, 1)(_pool(x)))


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
  "sigmoid": Graph(_inside(tf.nn.sigmoid), True),
  "hard_swish": Graph(_inside(lambda x: x * tf.nn.relu6(x + 3.0) / 6.0), True),
  "leaky_relu": Graph(_inside(layers.LeakyReLU()), True),
  "elu": Graph(_inside(tf.nn.elu), True),
  "residual": Graph(_inside(lambda x: x + _pointwise(x, 128)), True),
  "product": Graph(_inside(lambda x: x * _pointwise(x, 128)), True),
  "excite": Graph(_inside(_excite), True),
  "resize": Graph(_inside(layers.UpSampling2D(interpolation="bilinear")), True),
  "pool_head": Graph(_headed(_average), True),
  "whole_mean_product": Graph(
    _inside(lambda x: x * tf.reduce_mean(x, [1, 2, 3], keepdims=True)), True
  ),
  "channel_mean": Graph(_flat_mean([3]), True),
  "whole_mean": Graph(_flat_mean([1, 2, 3]), True),
  "sum_head": Graph(_headed(lambda x: tf.reduce_sum(x, [1, 2])), True),
  "space_head": Graph(
    _headed(lambda x: layers.Flatten()(tf.nn.depth_to_space(x, 2))), True
  ),
  "softmax_head": Graph(_headed(lambda x: tf.nn.softmax(_classify(x))), True),
  "keepdims_flatten": Graph(
    _headed(lambda x: _dense(layers.Flatten()(_pool(x)))), True
  ),
  "keepdims_dense": Graph(_headed(lambda x: _dense(_pool(x))), True),
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
    lambda: with_stem(lambda x: _stem(x, 1), (24, 24, 3)), False, "has not stride 2"
  ),
  "stem_same": Graph(
    lambda: with_stem(layers.Conv2D(16, 3, 2, padding="same")),
    False,
    "stride-2 SAME padding",
  ),
  "stem_grey": Graph(
    lambda: with_stem(_stem, (48, 48, 1)), False, "on 1 input channels, not 3"
  ),
  "no_stem": Graph(
    lambda: with_stem(lambda x: x, (24, 24, 16)), False, "without a stem"
  ),
  "concat": Graph(
    _inside(lambda x: tf.concat([x, _pointwise(x, 32)], 3)), False, "CONCATENATION"
  ),
  "difference": Graph(_inside(lambda x: x - _pointwise(x, 128)), False, "SUB"),
  "maximum": Graph(
    _inside(lambda x: tf.maximum(x, _pointwise(x, 128))), False, "MAXIMUM"
  ),
  "prelu": Graph(
    _inside(layers.PReLU(shared_axes=[1, 2])), False, "not four dimensions"
  ),
  "resize_nearest": Graph(
    _inside(layers.UpSampling2D()), False, "does not take RESIZE_NEAREST_NEIGHBOR"
  ),
  "flatten_head": Graph(
    _headed(lambda x: _dense(layers.Flatten()(x))), False, "spatial mean at the end"
  ),
  "max_head": Graph(
    _headed(lambda x: _dense(layers.GlobalMaxPooling2D()(x))), False, "spatial mean"
  ),
  "keepdims_convolution_half_zero": Graph(
    _headed(_keepdims_convolution, 0.5), False, "not more than two thirds"
  ),
  "dense_only": Graph(dense_only, False, "dense layers have no sparse kernel"),
}

# XNNPACK runs the part before the operator that does not fit sparse all the same.
_WRONG = "outputs are wrong"
_WRONG_OUTPUTS = {
  "max_pool": Graph(_inside(layers.MaxPool2D()), True, "MAX_POOL_2D", _WRONG),
  "average_pool": Graph(
    _inside(layers.AveragePooling2D()), True, "AVERAGE_POOL_2D", _WRONG
  ),
  "softmax_inside": Graph(_inside(layers.Softmax()), True, "SOFTMAX", _WRONG),
  "constant_sum": Graph(
    _inside(lambda x: x + np.linspace(0, 1, 128, dtype=np.float32)),
    True,
    "not four dimensions",
    _WRONG,
  ),
  "pointwise_stride_2": Graph(
    _inside(layers.Conv2D(128, 1, 2)), True, "1×1 convolution with a stride", _WRONG
  ),
  "convolution_3": Graph(
    _inside(layers.Conv2D(32, 3)), True, "has not stride 2", _WRONG
  ),
  "grouped": Graph(
    _inside(layers.Conv2D(128, 1, groups=4)), True, "grouped convolution", _WRONG
  ),
  "depthwise_5_pad_1": Graph(lambda: depthwise(5, 1), False, "not padded by 2", _WRONG),
  "depthwise_7": Graph(lambda: depthwise(7), False, "7×7 depthwise", _WRONG),
  "depthwise_dilated": Graph(
    lambda: depthwise(3, 2, dilation_rate=2), False, "dilated depthwise", _WRONG
  ),
  "two_heads": Graph(_headed(two_heads), True, "CONCATENATION", _WRONG),
  "row_mean": Graph(_flat_mean([1]), True, "", "is over part of the image only"),
  "column_mean": Graph(_flat_mean([2]), True, "", "is over part of the image only"),
  "keepdims_output": Graph(_headed(_pool), True, "", "wrong order"),
  "keepdims_softmax": Graph(
    _headed(lambda x: layers.Flatten()(tf.nn.softmax(_pool(x)))),
    True,
    "SOFTMAX",
    "wrong order",
  ),
}

_DOES_NOT_LOAD = {
  "keepdims_convolution": Graph(
    _headed(_keepdims_convolution), False, "", "reshape runtime", loads=False
  ),
  "keepdims_sigmoid": Graph(
    _headed(lambda x: layers.Flatten()(tf.nn.sigmoid(_pool(x)))),
    False,
    "",
    "reshape runtime",
    loads=False,
  ),
  "pool_product": Graph(
    _inside(lambda x: x * tf.nn.sigmoid(_pool(x))),
    False,
    "",
    "reshape runtime",
    loads=False,
  ),
  "channel_mean_sum": Graph(
    _inside(lambda x: x + tf.reduce_mean(x, 3, keepdims=True)),
    False,
    "",
    "reshape runtime",
    loads=False,
  ),
  "dynamic_range": Graph(
    network,
    False,
    "works on int8",
    "failed to delegate",
    loads=False,
    format=TENSORFLOW_DYNAMIC_RANGE,
  ),
  "dynamic_range_dense_layers": Graph(
    dense_only,
    False,
    "works on int8",
    "failed to delegate",
    loads=False,
    format=TENSORFLOW_DYNAMIC_RANGE,
  ),
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
  with _shortened():
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


def converted_dense(graph: Graph) -> bytes:
  """Returns the file with the same numbers, every weight stored dense."""
  name = graph.format.removeprefix("tensorflow_")
  name = name.removesuffix("_sparse").removesuffix("_dense")
  return _converted(graph, f"{name}_dense")


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
