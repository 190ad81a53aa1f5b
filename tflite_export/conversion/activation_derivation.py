"""Computes a file's activations in TensorFlow from others that a graph has already.

For the elementwise operators, reductions and moves that the converter makes of one
operator of the model. Every tensor has the examples in a dimension of their own before
the file's own dimensions: [n, *shape], where the file has [*shape].
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from tflite_export.conversion.activation_match import Match
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.activation_ranges import activation_indices

_Operator = schema.BuiltinOperator
_Activation = schema.ActivationFunctionType

_ELEMENTWISE: dict[int, Callable[..., tf.Tensor]] = {
  _Operator.ABS: tf.abs,
  _Operator.ADD: tf.add,
  _Operator.DIV: tf.divide,
  _Operator.ELU: tf.nn.elu,
  _Operator.EXP: tf.exp,
  _Operator.GREATER: tf.greater,
  _Operator.GREATER_EQUAL: tf.greater_equal,
  _Operator.LESS: tf.less,
  _Operator.LESS_EQUAL: tf.less_equal,
  _Operator.LOG: tf.math.log,
  _Operator.LOGISTIC: tf.sigmoid,
  _Operator.MAXIMUM: tf.maximum,
  _Operator.MINIMUM: tf.minimum,
  _Operator.MUL: tf.multiply,
  _Operator.NEG: tf.negative,
  _Operator.POW: tf.pow,
  _Operator.RELU: tf.nn.relu,
  _Operator.RELU6: tf.nn.relu6,
  _Operator.RSQRT: tf.math.rsqrt,
  _Operator.SELECT: tf.where,
  _Operator.SELECT_V2: tf.where,
  _Operator.SQRT: tf.sqrt,
  _Operator.SQUARE: tf.square,
  _Operator.SQUARED_DIFFERENCE: tf.math.squared_difference,
  _Operator.SUB: tf.subtract,
  _Operator.TANH: tf.tanh,
}
_REDUCTIONS: dict[int, Callable[..., tf.Tensor]] = {
  _Operator.MEAN: tf.reduce_mean,
  _Operator.REDUCE_MAX: tf.reduce_max,
  _Operator.SUM: tf.reduce_sum,
}
_MOVES = (_Operator.RESHAPE, _Operator.SQUEEZE, _Operator.EXPAND_DIMS)
_FUSED: dict[int, Callable[[tf.Tensor], tf.Tensor]] = {
  _Activation.NONE: tf.identity,
  _Activation.RELU: tf.nn.relu,
  _Activation.RELU6: tf.nn.relu6,
  _Activation.RELU_N1_TO_1: lambda x: tf.clip_by_value(x, -1.0, 1.0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Derived:
  """A graph that computes more than before.

  Attributes:
    graph: The graph.
    tensors: Name of each activation; None where it still cannot be computed.
    placeholders: Names of those added for `constants`.
    constants: float32, constants of the file.
  """

  graph: tf.compat.v1.GraphDef
  tensors: tuple[Optional[str], ...]
  placeholders: tuple[str, ...]
  constants: tuple[Array, ...]


class _Unknown(Exception):
  """A tensor depends on an operator that is not known here."""


def derive(
  float_file: bytes, graph: tf.compat.v1.GraphDef, matches: Sequence[Match]
) -> Derived:
  """Adds the activations that a graph lacks, as far as their operators are known.

  Args:
    float_file: A file as `convert.float_file` gives it.
    graph: The model's graph.
    matches: What it has of each of the file's activations.
  """
  model = flatbuffer_model.read_model(float_file)
  with tf.Graph().as_default() as extended:
    tf.graph_util.import_graph_def(graph, name="")
    deriver = _Deriver(model, extended, matches)
    found = []
    for index, match in zip(activation_indices(model), matches, strict=True):
      try:
        found.append(match.tensor or deriver.value(index).name)
      except _Unknown:
        found.append(None)
  constants = deriver.constants
  return Derived(
    extended.as_graph_def(), tuple(found), tuple(constants), tuple(constants.values())
  )


class _Deriver:
  """Tensors of a file, in a graph under construction."""

  def __init__(self, model: schema.ModelT, graph: tf.Graph, matches: Sequence[Match]):
    """Begins with the tensors that the graph has in the file's order."""
    self._model = model
    [self._subgraph] = model.subgraphs
    self._producers = {
      index: operator
      for operator in self._subgraph.operators
      for index in operator.outputs
    }
    self.constants: dict[str, Array] = {}
    self._values: dict[int, tf.Tensor] = {}
    for index, match in zip(activation_indices(model), matches, strict=True):
      if match.tensor and match.in_order:
        tensor = graph.get_tensor_by_name(match.tensor)
        self._values[index] = tf.reshape(tensor, [-1, *self._shape(index)])

  def _shape(self, index: int) -> list[int]:
    return flatbuffer_model.integers(self._subgraph.tensors[index].shape)

  def value(self, index: int) -> tf.Tensor:
    """Returns a tensor [n, *shape]; raises `_Unknown` if it cannot be computed."""
    if index not in self._values:
      operator = self._producers.get(index)
      if operator is None or len(operator.outputs) != 1:
        raise _Unknown
      self._values[index] = self._computed(operator)
    return self._values[index]

  def _computed(self, operator: schema.OperatorT) -> tf.Tensor:
    code = flatbuffer_model.operator_code(self._model, operator)
    options: Any = operator.builtinOptions
    if code in _MOVES:
      value = self.value(operator.inputs[0])
      return tf.reshape(value, [-1, *self._shape(operator.outputs[0])])
    if code == _Operator.TRANSPOSE:
      value, order = self.value(operator.inputs[0]), self._constant(operator.inputs[1])
      return tf.transpose(value, [0, *(int(place) + 1 for place in order.ravel())])
    if code in _REDUCTIONS:
      value, axes = self.value(operator.inputs[0]), self._constant(operator.inputs[1])
      # The examples have a dimension of their own, before all others.
      moved = [int(axis) + (axis >= 0) for axis in axes.ravel()]
      return _REDUCTIONS[code](value, moved, keepdims=bool(options.keepDims))
    if code not in _ELEMENTWISE:
      raise _Unknown
    fused = _FUSED.get(getattr(options, "fusedActivationFunction", _Activation.NONE))
    if fused is None:
      raise _Unknown
    rank = max(len(self._shape(index)) for index in operator.inputs)
    operands = [self._operand(index, rank) for index in operator.inputs]
    return fused(_ELEMENTWISE[code](*operands))

  def _constant(self, index: int) -> Array:
    tensor = self._subgraph.tensors[index]
    if not flatbuffer_model.is_constant(self._model, tensor):
      raise _Unknown
    return flatbuffer_model.constant(self._model, tensor)

  def _operand(self, index: int, rank: int) -> tf.Tensor:
    """Returns an operand that broadcasts with others of this rank."""
    if not flatbuffer_model.is_constant(self._model, self._subgraph.tensors[index]):
      shape = self._shape(index)
      padded = [-1, *[1] * (rank - len(shape)), *shape]
      return tf.reshape(self.value(index), padded)
    if index not in self._values:
      values = self._constant(index)
      if values.dtype != np.float32:
        raise _Unknown
      placeholder = tf.compat.v1.placeholder(tf.float32, values.shape, "file_constant")
      self.constants[placeholder.op.name] = values
      self._values[index] = placeholder
    return self._values[index]
