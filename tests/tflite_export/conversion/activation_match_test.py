"""Matching on scripted values."""

import numpy as np
import pytest
import tensorflow as tf

from tflite_export.conversion.activation_match import (
  Computed,
  Match,
  match,
  tensor_names,
  unequal,
)


def computed(of_file, of_graph):
  """Scripts values: a list per probe of the file's, and a dict per probe."""

  def values(tensors, first, last):
    for wanted, found in zip(of_file[first:last], of_graph[first:last], strict=True):
      as_arrays = [np.asarray(value, np.float32) for value in wanted]
      yield as_arrays, [np.asarray(found[name], np.float32) for name in tensors]

  return Computed(values, len(of_file))


def test_values_decide_not_names():
  of_file = [[[1, 2]], [[3, 4]]]
  of_graph = [{"x:0": [1, 2], "y:0": [2, 9]}, {"x:0": [3, 4], "y:0": [4, 9]}]
  assert match(["y"], ["x:0", "y:0"], computed(of_file, of_graph)) == [
    Match("x:0", True)
  ]


def test_every_probe_counts():
  of_file = [[[1, 2]], [[3, 4]], [[5, 6]]]
  # x:0 is right until the last probe, y:0 always.
  of_graph = [
    {"x:0": [1, 2], "y:0": [1, 2]},
    {"x:0": [3, 4], "y:0": [3, 4]},
    {"x:0": [5, 7], "y:0": [5, 6]},
  ]
  found = match(["a"], ["x:0", "y:0"], computed(of_file, of_graph))
  assert found == [Match("y:0", True)]


def test_among_equals_the_names_decide_and_then_the_last_operator():
  of_file = [[[0, 0]], [[0, 0]]]
  of_graph = [{"conv:0": [0, 0], "relu:0": [0, 0], "other:0": [0, 0]}] * 2
  tensors = ["other:0", "conv:0", "relu:0"]
  for name in ("model/x;relu;norm;conv", "conv;relu;norm"):
    found = match([name], tensors, computed(of_file, of_graph))
    assert found == [Match("relu:0", True)]
  found = match(["nobody"], tensors, computed(of_file, of_graph))
  assert found == [Match("other:0", True)]
  assert match(["conv"], tensors, computed(of_file, of_graph)) == [
    Match("conv:0", True)
  ]


def test_another_order_will_do_but_is_told():
  of_file = [[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]]
  moved = [{"moved:0": [1, 3, 2, 4]}, {"moved:0": [5, 7, 6, 8]}]
  assert match(["a"], ["moved:0"], computed(of_file, moved)) == [
    Match("moved:0", False)
  ]
  both = [one | {"flat:0": [1, 2, 3, 4]} for one in moved[:1]]
  both += [moved[1] | {"flat:0": [5, 6, 7, 8]}]
  found = match(["a"], ["moved:0", "flat:0"], computed(of_file, both))
  assert found == [Match("flat:0", True)]


@pytest.mark.parametrize(
  "other", [[1, 2.1], [1, 2, 2], [], [np.nan, np.nan], [1, np.inf]]
)
def test_what_differs_is_no_match(other):
  of_file = [[[1, 2]], [[1, 2]]]
  of_graph = [{"x:0": other}] * 2
  [found] = match(["x"], ["x:0"], computed(of_file, of_graph))
  assert found.tensor is None


def test_rounding_does_not_matter():
  of_file = [[[1000, 2]], [[1000, 2]]]
  assert match(["a"], ["x:0"], computed(of_file, [{"x:0": [1000.05, 2.05]}] * 2))[
    0
  ].tensor
  assert not match(["a"], ["x:0"], computed(of_file, [{"x:0": [1000.2, 2]}] * 2))[
    0
  ].tensor


def test_unequal_names_those_that_fail_on_any_probe():
  of_file = [[[1], [2]], [[3], [4]]]
  of_graph = [{"x:0": [1], "y:0": [2]}, {"x:0": [3], "y:0": [5]}]
  assert unequal([("x:0",), ("y:0",)], computed(of_file, of_graph)) == [1]
  assert unequal([("x:0",), ("x:0",)], computed(of_file, of_graph)) == [1]
  assert unequal([("x:0",), ("y:0",)], computed(of_file[:1], of_graph[:1])) == []


def test_candidates_are_computed_floats():
  with tf.Graph().as_default() as graph:
    x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
    tf.split(tf.multiply(x, tf.constant(2.0), name="twice"), 2, name="halves")
    tf.greater(x, 0.0)
  assert tensor_names(graph.as_graph_def()) == (
    "x:0",
    "twice:0",
    "halves:0",
    "halves:1",
  )
