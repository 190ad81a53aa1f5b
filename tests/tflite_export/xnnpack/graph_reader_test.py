"""Graphs read from hand-made files."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import files, single_operator
from tflite_export.conversion.sparsify import sparsify
from tflite_export.xnnpack.graph_reader import read_graphs

BUILTIN = schema.BuiltinOperator


def pad_file(amounts, shape):
  """Returns a file of one PAD with these amounts."""
  tensors = [files.tensor([1, 4, 4, 2]), files.tensor(shape, 2, buffer=1)]
  tensors.append(files.tensor([1, 6, 6, 2]))
  return files.one_operator(BUILTIN.PAD, tensors, [0, 1], [2], amounts)


def test_tensors_and_operators():
  stored = np.array([[7, 0, 1], [-2, -2, 0]], np.int8)
  (graph,) = read_graphs(files.quantised_dense(stored, [7, -2]))
  (operator,) = graph.operators
  assert (operator.type, operator.inputs, operator.outputs) == (
    "FULLY_CONNECTED",
    (0, 1, -1),
    (2,),
  )
  image, weight, output = graph.tensors
  assert (weight.dtype, weight.shape, weight.stored_bytes) == ("int8", (2, 3), 6)
  assert weight.constant
  assert not weight.sparse
  assert not image.constant
  assert output.shape == (1, 2)
  assert graph.producer == {2: 0}
  assert graph.consumers == {0: (0,), 1: (0,), -1: (0,)}
  assert graph.origin == {1: 1}
  assert graph.weight(operator) == 1
  # A value that is its channel's zero point is zero.
  np.testing.assert_array_equal(graph.nonzero[1], [[0, 1, 1], [0, 0, 1]])
  assert graph.zeros == {1: 3}


def test_weight_behind_densify():
  values = np.where(np.random.default_rng(0).random((64, 64)) < 0.1, 1.0, 0.0)
  dense = single_operator.build("dense", "float32", values)
  (graph,) = read_graphs(sparsify(dense))
  unpack, layer = graph.operators
  assert (unpack.type, graph.unpacks(unpack)) == ("DENSIFY", True)
  assert not graph.unpacks(layer)
  weight = graph.weight(layer)
  assert weight == unpack.inputs[0] != layer.inputs[1]
  stored = graph.tensors[weight]
  assert stored.sparse
  # Its values, and at least a byte for the place of each.
  count = int(values.sum())
  assert 5 * count < stored.stored_bytes < 4 * values.size
  assert graph.zeros[weight] == values.size - count


def test_operator_of_another_schema_and_custom_operator():
  model = files.one_layer()
  code = model.operatorCodes[0]
  code.builtinCode = code.deprecatedBuiltinCode = 126
  code.builtinCode = 9999
  (graph,) = read_graphs(files.written(model))
  assert graph.operators[0].type == "BUILTIN_9999"
  code.builtinCode = code.deprecatedBuiltinCode = BUILTIN.CUSTOM
  code.customCode = "größe".encode() + b"x" * 1000
  (graph,) = read_graphs(files.written(model))
  assert graph.operators[0].type == "CUSTOM"
  assert graph.operators[0].custom_name.startswith("größex")
  assert len(graph.operators[0].custom_name) < 100


def test_element_type_of_another_schema():
  model = files.one_layer()
  model.subgraphs[0].tensors[0].type = 99
  (graph,) = read_graphs(files.written(model))
  assert graph.tensors[0].dtype == "type 99"
  # Unknown values have no zeros.
  assert graph.zeros == {}


class TestPadding:
  def test_constant_amounts(self):
    amounts = np.array([[0, 0], [1, 2], [3, 4], [0, 0]], np.int32)
    (graph,) = read_graphs(pad_file(amounts, [4, 2]))
    assert graph.paddings == {0: ((0, 0), (1, 2), (3, 4), (0, 0))}

  def test_amounts_that_are_computed(self):
    (graph,) = read_graphs(pad_file(np.zeros(0, np.int32), [4, 2]))
    assert graph.paddings == {}

  def test_more_amounts_than_dimensions(self):
    (graph,) = read_graphs(pad_file(np.zeros((17, 2), np.int32), [17, 2]))
    assert graph.paddings == {}
    (graph,) = read_graphs(pad_file(np.zeros((16, 2), np.int32), [16, 2]))
    assert len(graph.paddings[0]) == 16

  def test_odd_number_of_amounts(self):
    with pytest.raises(InputError, match="damaged"):
      read_graphs(pad_file(np.zeros(3, np.int32), [3]))


def mean_file(axes, shape):
  """Returns a file of one MEAN over these axes."""
  kind = schema.TensorType.INT32
  tensors = [files.tensor([1, 4, 4, 2]), files.tensor(shape, kind, buffer=1)]
  tensors.append(files.tensor([1, 2]))
  return files.one_operator(
    BUILTIN.MEAN, tensors, [0, 1], [2], np.array(axes, np.int32)
  )


@pytest.mark.parametrize(
  ("axes", "shape", "read"),
  [([1, 2], [2], {1, 2}), ([-1], [1], {3}), ([-3, 2], [2], {1, 2}), ([2], [], {2})],
)
def test_axes_of_a_mean(axes, shape, read):
  (graph,) = read_graphs(mean_file(axes, shape))
  assert graph.axes == {0: read}


def test_axes_that_are_computed():
  (graph,) = read_graphs(mean_file([], [2]))
  assert graph.axes == {}


class TestDamage:
  def test_dimensions_without_end(self):
    model = files.one_layer()
    model.subgraphs[0].tensors[2].shape = [1] * 17
    with pytest.raises(InputError, match="a tensor of 17 dimensions"):
      read_graphs(files.written(model))
    model.subgraphs[0].tensors[2].shape = [1] * 16
    assert len(read_graphs(files.written(model))[0].tensors[2].shape) == 16

  def test_sparse_weights_of_more_elements_than_a_file_can_hold(self):
    model = files.one_layer()
    weight = model.subgraphs[0].tensors[0]
    weight.shape = [2**15, 2**15]
    with pytest.raises(InputError):
      read_graphs(files.written(model))

  def test_zero_points_that_do_not_fit_the_weight(self):
    model = files.one_layer()
    quantization = model.subgraphs[0].tensors[0].quantization
    quantization.zeroPoint = [0] * 31
    with pytest.raises(InputError, match="31 zero points for shape"):
      read_graphs(files.written(model))

  def test_random_bytes(self):
    generator = np.random.default_rng(0)
    for size in (0, 4, 8, 9, 100, 5000):
      for _ in range(20):
        content = bytearray(generator.integers(0, 256, size, np.uint8).tobytes())
        content[4:8] = b"TFL3"
        with pytest.raises(InputError):
          read_graphs(bytes(content))


def test_one_operator_listed_many_times():
  """Each is there, and what they share is not read again for each."""
  model = files.one_layer()
  model.subgraphs[0].operators *= 50
  (graph,) = read_graphs(files.written(model))
  assert [operator.index for operator in graph.operators] == list(range(50))
  assert graph.consumers[0] == tuple(range(50))
  assert list(graph.zeros) == [0]
