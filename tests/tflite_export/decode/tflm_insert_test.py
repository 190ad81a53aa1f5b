"""Tests of where DECODE operators go, through the encoder that places them."""

import pytest

from tests.tflite_export import models
from tests.tflite_export.decoding import decoded_tensors, operator_names
from tests.tflite_export.files import chain, sparse_values, written
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.file_format.flatbuffer_model import read_model


@pytest.fixture(scope="module")
def sparse_file():
  return models.converted("int8_dense", 0.1)


class TestInsertDecodes:
  def test_decode_stands_right_before_its_reader(self, sparse_file):
    model = read_model(encode_pruned(sparse_file).model_bytes)
    operators = model.subgraphs[0].operators
    names = operator_names(model)
    assert names.count("TFLM_DECODE") == 4
    for at, name in enumerate(names):
      if name == "TFLM_DECODE":
        assert set(operators[at].outputs) <= set(operators[at + 1].inputs)

  def test_everything_else_is_kept(self, sparse_file):
    dense, model = (
      read_model(each) for each in (sparse_file, encode_pruned(sparse_file).model_bytes)
    )
    graph, dense_graph = model.subgraphs[0], dense.subgraphs[0]
    assert (graph.inputs, graph.outputs) == (dense_graph.inputs, dense_graph.outputs)
    assert model.signatureDefs[0].signatureKey == dense.signatureDefs[0].signatureKey
    names = [tensor.name for tensor in dense_graph.tensors]
    assert [tensor.name for tensor in graph.tensors[: len(names)]] == names
    notes = [
      {each.name: bytes(part.buffers[each.buffer].data) for each in part.metadata}
      for part in (dense, model)
    ]
    assert notes[0] == notes[1]
    assert b"min_runtime_version" in notes[0]


class TestSharing:
  def test_each_reader_of_a_shared_tensor_has_its_own_decode(self):
    dense = written(chain([sparse_values()], [(1, 0)], [0, 0]))
    encoded = encode_pruned(dense).model_bytes
    model = read_model(encoded)
    assert operator_names(model) == ["TFLM_DECODE", "FULLY_CONNECTED"] * 2
    decodes = model.subgraphs[0].operators[::2]
    assert decodes[0].inputs == decodes[1].inputs
    assert decodes[0].outputs != decodes[1].outputs
    pairs = decoded_tensors(encoded, dense)
    assert len(pairs) == 2
    assert all(values == dense for values, dense in pairs)

  def test_tensors_on_one_buffer_share_the_encoding(self):
    dense = written(chain([sparse_values()], [(1, 0), (1, 0)], [0, 1]))
    encoded = encode_pruned(dense)
    assert all(report.encoded for report in encoded.tensors)
    decodes = read_model(encoded.model_bytes).subgraphs[0].operators[::2]
    assert decodes[0].inputs == decodes[1].inputs
