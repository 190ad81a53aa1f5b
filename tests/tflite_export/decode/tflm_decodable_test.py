import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_micro.tensorflow.lite.micro.compression import constant_inputs

from fedtiny_tff.errors import InputError
from tests.tflite_export.files import chain, one_layer, sparse_values, written
from tflite_export.decode import tflm_decodable
from tflite_export.decode.tflm_decodable import Undecodable, decodable_tensor, uses_of
from tflite_export.file_format.flatbuffer_model import read_model


def first_tensor(model_bytes):
  model = read_model(model_bytes)
  graph = model.subgraphs[0]
  return decodable_tensor(model, graph.tensors[0], 0, uses_of(graph))


def assert_undecodable(model, reason):
  with pytest.raises(Undecodable) as raised:
    first_tensor(written(model))
  assert reason in str(raised.value)


def test_values_zeros_and_costs():
  values = sparse_values(zero=4)
  found = first_tensor(written(chain([values], [(1, 4)], [0, 0])))
  np.testing.assert_array_equal(found.values, values)
  np.testing.assert_array_equal(found.zeros, [[4]])
  assert (found.readers, found.channel_axis) == (2, None)


class TestEligibility:
  @pytest.mark.parametrize(
    ("change", "reason"),
    [
      ({"type": schema.TensorType.UINT8}, "tensor type"),
      ({"isVariable": True}, "variable"),
      ({"sparsity": schema.SparsityParametersT()}, "sparse already"),
    ],
  )
  def test_tensors_the_kernel_cannot_write(self, change, reason):
    model = one_layer()
    vars(model.subgraphs[0].tensors[0]).update(change)
    assert_undecodable(model, reason)

  @pytest.mark.parametrize(
    ("scales", "points", "axis", "reason"),
    [
      (32, 32, 0, None),
      (32, 32, 1, None),
      (1, 1, 1, "axis 1"),
      (32, 1, 0, None),
      (32, 2, 0, "2 zero points"),
      (16, 16, 0, "16 scales"),
      (32, 32, 2, "axis 2"),
    ],
  )
  def test_quantisation_the_kernel_takes(self, scales, points, axis, reason):
    model = one_layer()
    model.subgraphs[0].tensors[0].quantization = schema.QuantizationParametersT(
      scale=[0.1] * scales, zeroPoint=[0] * points, quantizedDimension=axis
    )
    if reason is None:
      found = first_tensor(written(model))
      assert found.zeros.shape[axis] == scales
      assert found.channel_axis == axis
    else:
      assert_undecodable(model, reason)

  @pytest.mark.parametrize("field", ["inputs", "outputs"])
  def test_ends_of_the_graph(self, field):
    model = one_layer()
    getattr(model.subgraphs[0], field).append(0)
    assert_undecodable(model, "input or output")

  def test_tensor_that_an_operator_writes(self):
    model = one_layer()
    model.subgraphs[0].operators[0].outputs.append(0)
    assert_undecodable(model, "an operator writes it")

  def test_other_types_need_zero_point_0(self):
    model = chain([sparse_values()], [(1, 5)], [0])
    tensor = model.subgraphs[0].tensors[0]
    tensor.type, tensor.shape = schema.TensorType.INT16, [16, 32]
    assert_undecodable(model, "zero points [5]")

  def test_int8_zero_points_are_in_range(self):
    model = chain([sparse_values()], [(1, 128)], [0])
    assert_undecodable(model, "zero points [128]")

  @pytest.mark.parametrize("operator", ["SVDF", "BATCH_MATMUL"])
  def test_kernels_that_read_weights_in_prepare(self, operator):
    model = one_layer()
    code = getattr(schema.BuiltinOperator, operator)
    model.operatorCodes[0].builtinCode = code
    model.operatorCodes[0].deprecatedBuiltinCode = code
    assert_undecodable(model, "Prepare")

  def test_knows_every_input_upstream_keeps_constant(self):
    assert set(constant_inputs._REQUIRED_INPUTS) <= tflm_decodable._READ_IN_PREPARE

  @pytest.mark.parametrize("shape", [[32, 31], [-32, -32], [2**31 - 1] * 4])
  def test_shape_that_does_not_fit_the_data(self, shape):
    model = one_layer()
    model.subgraphs[0].tensors[0].shape = shape
    with pytest.raises(InputError, match="1024 bytes of data"):
      first_tensor(written(model))
