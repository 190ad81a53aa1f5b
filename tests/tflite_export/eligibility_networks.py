"""Small networks; their 1×1 convolutions do most of the work, so that time tells."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from fedtiny_tff.models.registry import MODELS
from tests.tflite_export import models

layers = tf.keras.layers

IMAGE = (48, 48, 3)


def stem(image, strides=2):
  x = layers.ZeroPadding2D(1)(image)
  return layers.Conv2D(16, 3, strides, activation="relu")(x)


def pointwise(x, filters, activation="relu"):
  return layers.Conv2D(filters, 1, activation=activation)(x)


def unit(x, filters, strides=1, size=3, padding=None):
  """A depthwise and a 1×1 convolution."""
  if padding is None:
    x = layers.ZeroPadding2D(size // 2)(x)
  x = layers.DepthwiseConv2D(
    size, strides, padding=padding or "valid", activation="relu"
  )(x)
  return pointwise(x, filters)


_full = True


@contextlib.contextmanager
def shortened():
  """Makes networks without the work that emulated time needs."""
  global _full  # noqa: PLW0603
  _full = False
  try:
    yield
  finally:
    _full = True


def body(x):
  if not _full:
    return pointwise(pointwise(pointwise(x, 128), 128), 128)
  for filters in (64, 128, 128):
    x = unit(x, filters)
  return unit(x, 128, strides=2)


def average(x):
  return layers.GlobalAveragePooling2D()(x)


def classify(x):
  return layers.Dense(10)(average(x))


def pruned(image, outputs, density=0.1, seed=0):
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


def network(inside=lambda x: x, head=classify, density=0.1):
  """Stem, four depthwise separable units, something inside, and a head."""
  image = layers.Input(IMAGE)
  x = inside(body(stem(image)))
  return pruned(image, head(pointwise(x, 128)), density)


def with_stem(stem, image_shape=IMAGE):
  image = layers.Input(image_shape)
  return pruned(image, classify(body(stem(image))))


def zoo(name, width, density=0.1):
  """A model of the registry, its 1×1 convolutions pruned."""
  image = layers.Input((64, 64, 3))
  return pruned(image, MODELS[name].network(image, 10, width), density)


def same_padded_stride(strides=2):
  image = layers.Input(IMAGE)
  x = unit(stem(image), 128, strides, padding="same")
  return pruned(image, classify(pointwise(unit(x, 128), 128)))


def depthwise(size, padding=None, **options):
  image = layers.Input(IMAGE)
  x = pointwise(stem(image), 128)
  x = layers.ZeroPadding2D(size // 2 if padding is None else padding)(x)
  x = layers.DepthwiseConv2D(size, **options)(x)
  return pruned(image, classify(pointwise(pointwise(x, 128), 128)))


def balanced(zeros, head=average):
  """A network of 21,504 weights in 1×1 convolutions, `zeros` of them zero.

  Zeros go to the layers with many positions first, so that emulated time shows
  whether they are used even when one third of the weights is not zero.
  """
  image = layers.Input(IMAGE)
  x = stem(image)
  for filters in (64, 64, 64, 64):
    x = pointwise(x, filters)
  for _ in range(3):
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, 2)(x)
  model = pruned(image, head(pointwise(x, 128)), density=1.0)
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
    return layers.Dense(units, name="classes")(average(x))

  def build(zeros):
    model = balanced(zeros, head)
    models.prune(model, density, ("classes",))
    return model

  return build


def pool(x):
  return layers.GlobalAveragePooling2D(keepdims=True)(x)


def excite(x):
  scale = layers.Conv2D(128, 1, activation="sigmoid")(pool(x))
  return layers.Multiply()([x, scale])


def two_heads(x):
  flat = layers.Flatten()(layers.Conv2D(4, 1)(x))
  return layers.Concatenate()([classify(x), flat])


def dense_only():
  image, units = layers.Input((32,)), 2048 if _full else 256
  x = layers.Dense(units, activation="relu", name="wide")(image)
  x = layers.Dense(units, activation="relu", name="deep")(x)
  model = tf.keras.Model(image, layers.Dense(10)(x))
  models.randomise(model, 0)
  models.prune(model, 0.1, ("wide", "deep"))
  return model


def inside(make):
  """A network with something made between its body and its last convolution."""
  return functools.partial(network, make)


def headed(head, density=0.1):
  return functools.partial(network, head=head, density=density)


def dense(x):
  return layers.Dense(10)(x)


def flat_mean(axes):
  return headed(lambda x: layers.Flatten()(tf.reduce_mean(x, axes)))


def keepdims_convolution(x):
  return layers.Flatten()(layers.Conv2D(10, 1)(pool(x)))
