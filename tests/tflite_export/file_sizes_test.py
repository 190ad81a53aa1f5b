"""What the bytes of a file are spent on: counted by hand, and they add up."""

import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import files, mcu_chain
from tflite_export import file_sizes
from tflite_export.decode import tflm_decode


def test_a_dense_layer_by_hand():
  stored = np.array([[1, 2, 3], [4, 5, 6]], np.int8)
  content = files.quantised_dense(stored, [3, -7])
  sizes = file_sizes.measure(content)
  # A vector has four bytes for its length: 6 weights; 2 scales and 2 zero points.
  assert sizes.weights_bytes == 4 + 6
  assert sizes.quantisation_bytes == (4 + 2 * 4) + (4 + 2 * 8)
  assert sizes.positions_bytes == sizes.constants_bytes == sizes.metadata_bytes == 0
  assert sizes.total_bytes == len(content)
  assert 0 < sizes.overhead_bytes < len(content)


def test_an_encoded_file_by_hand():
  dense = mcu_chain.chain_of_layers()
  encoded = tflm_decode.encode_pruned(dense)
  before, after = file_sizes.measure(dense), file_sizes.measure(encoded.model_bytes)
  weights = 32 * 128 + 128 * 16 + 16 * 48
  assert before.weights_bytes == weights + 3 * 4
  assert before.positions_bytes == 0
  # Each layer's packed values, and its ancillary data, with their lengths.
  stored = sum(tensor.stored_bytes for tensor in encoded.tensors if tensor.encoded)
  count = sum(tensor.encoded for tensor in encoded.tensors)
  left = sum(tensor.dense_bytes + 4 for tensor in encoded.tensors if not tensor.encoded)
  assert count == 3
  assert after.weights_bytes + after.positions_bytes == stored + 2 * 4 * count + left
  # A bit for every weight.
  assert {each.form for each in encoded.tensors} == {"PRUNING"}
  assert after.positions_bytes == weights // 8 + 3 * 4
  assert after.total_bytes == len(encoded.model_bytes)


def test_a_sparse_layer_by_hand():
  # [[0, 7, 0, 0], [0, 0, 0, 9]]: rows as they are, columns compressed.
  weight = files.tensor([2, 4], schema.TensorType.INT8, buffer=1)
  weight.sparsity = schema.SparsityParametersT(
    traversalOrder=[0, 1],
    dimMetadata=[
      schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=2),
      schema.DimensionMetadataT(
        format=schema.DimensionType.SPARSE_CSR,
        arraySegmentsType=schema.SparseIndexVector.Uint8Vector,
        arraySegments=schema.Uint8VectorT(values=[0, 1, 2]),
        arrayIndicesType=schema.SparseIndexVector.Uint16Vector,
        arrayIndices=schema.Uint16VectorT(values=[1, 3]),
      ),
    ],
  )
  int8 = schema.TensorType.INT8
  content = files.one_operator(
    schema.BuiltinOperator.FULLY_CONNECTED,
    [files.tensor([1, 4], int8), weight, files.tensor([1, 2], int8)],
    [0, 1, -1],
    [2],
    np.array([7, 9], np.int8),
  )
  sizes = file_sizes.measure(content)
  assert sizes.weights_bytes == 4 + 2
  # The order of two dimensions, three segments of a byte, two indices of two bytes.
  assert sizes.positions_bytes == (4 + 2 * 4) + (4 + 3) + (4 + 2 * 2)
  assert sizes.quantisation_bytes == 0
  assert sizes.total_bytes == len(content)


def test_attached_files_are_metadata():
  content = mcu_chain.chain_of_layers()
  attached = io.BytesIO()
  attached.write(content)
  with zipfile.ZipFile(attached, "a") as archive:
    archive.writestr("labels.txt", "cat\ndog\n")
  sizes = file_sizes.measure(attached.getvalue())
  assert sizes.metadata_bytes == len(attached.getvalue()) - len(content)
  assert sizes.overhead_bytes == file_sizes.measure(content).overhead_bytes


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x00" * 4 + b"TFL3"])
def test_what_is_no_model(content):
  with pytest.raises(InputError):
    file_sizes.measure(content)


@pytest.mark.parametrize("end", [100, 1_000, 5_000])
def test_a_file_cut_short(end):
  with pytest.raises(InputError):
    file_sizes.measure(mcu_chain.chain_of_layers()[:end])
