import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.files import chain, sparse_values, written
from tests.tflite_export.mcu_chain import BIG, MIDDLE, SMALL, chain_of_layers, inputs
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.microcontrollers.mcu_peaks import peaks
from tflite_export.runtimes import tflm


def test_dense_file():
  found = peaks(chain_of_layers())
  assert found.decoded == {}
  # The second layer reads 128 and writes 16, the first reads 32 and writes 128.
  assert found.highest_bytes == 32 + 128


def test_a_decoded_tensor_lies_beside_its_layers_ends():
  file = encode_pruned(chain_of_layers()).model_bytes
  found = peaks(file)
  assert found.decoded == {
    BIG: 32 + 4096 + 128, MIDDLE: 128 + 2048 + 16, SMALL: 16 + 768 + 48,
  }  # fmt: skip
  assert found.highest_bytes == tflm.run(file, inputs()).arena.activations_bytes


def test_a_tensor_that_is_read_twice_has_a_copy():
  # Both layers read weight 0: its copy for the second one is the same tensor.
  file = encode_pruned(written(chain([sparse_values()], [(1, 0)], [0, 0]))).model_bytes
  found = peaks(file)
  assert found.decoded[0, 0] == 1024 + 32 + 32
  assert set(found.decoded.values()) == {1024 + 32 + 32}
  assert len(found.decoded) == 2


def test_sizes_are_rounded_up_to_16_bytes():
  model = read_model(chain_of_layers())
  for tensor in model.subgraphs[0].tensors[3:]:
    tensor.shape = [1, 17]
  assert peaks(written(model)).highest_bytes == 32 + 32


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_sum_is_the_measured_head_of_a_real_model(density):
  dense = shrink(models.converted("int8_dense", density)).model_bytes
  for file in (dense, encode_pruned(dense).model_bytes):
    arena = tflm.run(file, models.random_inputs(1)).arena
    found = peaks(file)
    # Kernels may ask for scratch memory, and the planner leaves gaps.
    assert found.highest_bytes <= arena.activations_bytes
    assert found.highest_bytes > 0.7 * arena.activations_bytes
    assert all(value <= found.highest_bytes for value in found.decoded.values())


def test_damaged_file():
  with pytest.raises(InputError):
    peaks(chain_of_layers()[:300])


def test_type_of_unknown_size():
  model = read_model(chain_of_layers())
  model.subgraphs[0].tensors[4].type = schema.TensorType.STRING
  with pytest.raises(InputError, match="size is not known"):
    peaks(written(model))
