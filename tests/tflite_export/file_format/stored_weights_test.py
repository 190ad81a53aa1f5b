import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import files, models
from tflite_export.file_format.stored_weights import stored_weights

STORED = np.array([[7, 0, 1], [-2, -2, 0]], np.int8)


def test_zero_is_the_zero_point_of_the_channel():
  weight = stored_weights(files.quantised_dense(STORED, [7, -2]))[0]
  assert weight.zero.tolist() == [[True, False, False], [True, True, False]]


def test_zero_is_the_zero_point_of_the_tensor():
  weight = stored_weights(files.quantised_dense(STORED, [-2]))[0]
  assert weight.zero.tolist() == [[False, False, False], [True, True, False]]


def ring_of_dequantizes():
  """DEQUANTIZE that reads its own output: only damaged bytes say so."""
  return files.one_operator(
    schema.BuiltinOperator.DEQUANTIZE,
    [files.tensor([1]), files.tensor([1])],
    [1],
    [1],
    np.zeros(1, np.float32),
  )


def test_ring_of_operators_ends():
  assert stored_weights(ring_of_dequantizes()) == []


@pytest.mark.parametrize("format", ["fp32_sparse", "fp16_dense", "int8_dense"])
def test_layers_in_file_order(format):
  stored = stored_weights(models.converted(format))
  layers = ["stem", "first_depthwise", "first_pointwise", "second_depthwise"]
  layers += ["second_pointwise", "expand", "head"]
  assert len(stored) == len(layers)
  for weight, layer in zip(stored, layers, strict=True):
    assert f"small_classifier/{layer}" in weight.layer_paths


def test_weight_that_two_operators_read_is_one_tensor():
  dense = files.written(files.chain([files.sparse_values()], [(1, 0)], [0, 0]))
  first, second = stored_weights(dense)
  assert first.tensor == second.tensor == 0


def test_two_subgraphs_are_refused():
  model = files.one_layer()
  model.subgraphs *= 2
  with pytest.raises(InputError, match="has 2 subgraphs; only files with one"):
    stored_weights(files.written(model))
