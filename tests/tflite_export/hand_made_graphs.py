"""Graphs put together by hand, for rules at their borders."""

import types

import numpy as np

from tflite_export.xnnpack.graph import Graph, Operator, Tensor

VALID, SAME = 1, 0


def tensor(shape, dtype="float32", constant=False):
  return Tensor("", tuple(shape), dtype, constant, False, 0)


def options(**values):
  kept = {"padding": VALID, "strideH": 1, "strideW": 1}
  kept |= {"dilationHFactor": 1, "dilationWFactor": 1}
  return types.SimpleNamespace(**(kept | values))


def graph_of(operators, tensors, paddings=None, nonzero=None, outputs=(), axes=None):
  operators = tuple(
    Operator(index, kind, "", tuple(inputs), tuple(outputs), given)
    for index, (kind, inputs, outputs, given) in enumerate(operators)
  )
  consumers: dict[int, dict[int, None]] = {}
  for operator in operators:
    for index in operator.inputs:
      consumers.setdefault(index, {})[operator.index] = None
  return Graph(
    number=0,
    tensors=tuple(tensors),
    operators=operators,
    inputs=frozenset({0}),
    outputs=frozenset(outputs),
    producer={index: each.index for each in operators for index in each.outputs},
    consumers={index: tuple(found) for index, found in consumers.items()},
    origin={index: index for index, each in enumerate(tensors) if each.constant},
    paddings=paddings or {},
    axes=axes or {},
    nonzero=nonzero or {},
    zeros={index: int((~each).sum()) for index, each in (nonzero or {}).items()},
  )


class Network:
  """Grows a graph operator by operator; tensor 0 is its input, [1, 9, 9, 3]."""

  def __init__(self):
    self._tensors = [tensor((1, 9, 9, 3))]
    self._operators = []
    self._paddings = {}
    self._axes = {}
    self._nonzero = {}

  def add(self, kind, *inputs, shape=(1, 4, 4, 8), **given):
    """Adds an operator; returns its output."""
    self._tensors.append(tensor(shape))
    output = len(self._tensors) - 1
    self._operators.append((kind, inputs, (output,), options(**given)))
    return output

  def constant(self, nonzero, stored_sparse=False):
    """Adds a weight that is zero where `nonzero` is False."""
    self._tensors.append(Tensor("", nonzero.shape, "float32", True, stored_sparse, 0))
    self._nonzero[len(self._tensors) - 1] = nonzero
    return len(self._tensors) - 1

  def stem(self):
    """Adds a PAD and the 3×3 convolution that is the entry."""
    pad = self.add("PAD", 0, shape=(1, 11, 11, 3))
    self._paddings[len(self._operators) - 1] = ((0, 0), (1, 1), (1, 1), (0, 0))
    weight = self.constant(np.ones((8, 3, 3, 3), bool))
    return self.add("CONV_2D", pad, weight, strideH=2, strideW=2)

  def pointwise(self, image, zeros=64, stored_sparse=True, filters=8, **given):
    """Adds a 1×1 convolution from 8 channels, `zeros` of its weights zero."""
    nonzero = (np.arange(filters * 8) >= zeros).reshape(filters, 1, 1, 8)
    weight = self.constant(nonzero, stored_sparse)
    given.setdefault("shape", (*self._tensors[image].shape[:3], filters))
    return self.add("CONV_2D", image, weight, **given)

  def mean(self, image, keep=False, axes=(1, 2), shape=None):
    """Adds a mean, the spatial one by default."""
    shape = shape or ((1, 1, 1, 8) if keep else (1, 8))
    self._axes[len(self._operators)] = frozenset(axes)
    return self.add("MEAN", image, shape=shape, keepDims=keep)

  def graph(self, *outputs):
    """Returns the graph with these outputs, or the last operator's."""
    outputs = outputs or self._operators[-1][2]
    return graph_of(
      self._operators,
      self._tensors,
      self._paddings,
      self._nonzero,
      outputs,
      self._axes,
    )
