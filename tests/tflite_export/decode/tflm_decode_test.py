"""Tests of what is encoded: gains, what was left dense and why, hostile files."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_export import models
from tests.tflite_export.decoding import decoded_tensors
from tests.tflite_export.files import chain, sparse_values, written
from tflite_export.decode import tflm_decode, tflm_insert, tflm_shrink_steps
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.pruned_tensor import pack_pruned


@pytest.fixture(scope="module")
def sparse_file():
  return models.converted("int8_dense", 0.1)


class TestEncodePruned:
  def test_shrinks_and_decodes_to_the_same_weights(self, sparse_file):
    encoded = encode_pruned(sparse_file)
    assert len(encoded.model_bytes) < len(sparse_file)
    pairs = decoded_tensors(encoded.model_bytes, sparse_file)
    assert len(pairs) == 4
    assert all(values == dense for values, dense in pairs)

  def test_reports_every_constant_tensor(self, sparse_file):
    reports = encode_pruned(sparse_file).tensors
    by_name = {report.name.rsplit("classifier/")[-1]: report for report in reports}
    expand = by_name["expand/Conv2D"]
    # 512 weights: 64 bytes of bits, a header and 51 values (10 %).
    assert (expand.dense_bytes, expand.stored_bytes) == (512, 64 + 16 + 51)
    assert expand.encoded
    assert expand.form == "PRUNING"
    paddings = by_name["stem_pad/Pad/paddings"]
    assert not paddings.encoded
    assert paddings.stored_bytes == paddings.dense_bytes
    assert "Prepare" in paddings.left_dense_because

  def test_same_input_same_bytes(self, sparse_file):
    assert encode_pruned(sparse_file) == encode_pruned(sparse_file)

  def test_dense_weights_stay_as_they_are(self):
    dense = written(chain([sparse_values(density=1.0)], [(1, 0)], [0]))
    encoded = encode_pruned(dense)
    assert encoded.model_bytes == dense
    assert "1024 bytes dense" in encoded.tensors[0].left_dense_because

  def test_encoding_an_encoded_file_changes_nothing(self, sparse_file):
    once = encode_pruned(sparse_file).model_bytes
    assert encode_pruned(once).model_bytes == once

  @pytest.mark.parametrize("density", [0.6, 0.65, 0.7, 0.72, 0.74, 0.76, 0.8])
  def test_each_encoded_tensor_makes_the_file_smaller(self, density):
    buffers = [sparse_values(seed, density) for seed in range(4)]
    dense = write_compact(chain(buffers, [(n + 1, 0) for n in range(4)], range(4)))
    encoded = encode_pruned(dense)
    places = [each.index for each in encoded.tensors if each.encoded]
    assert (len(encoded.model_bytes) < len(dense)) == bool(places)
    for left_out in places:
      model = read_model(dense)
      packed = {
        (0, each): pack_pruned(buffers[each], np.zeros((1, 1), np.int8))
        for each in places
        if each != left_out
      }
      if packed:
        tflm_insert.insert_decodes(model, packed)
      assert len(write_compact(model)) > len(encoded.model_bytes)

  def test_overhead_lies_between_its_bounds(self):
    def grown(layers):
      dense = write_compact(chain([sparse_values()], [(1, 0)], layers))
      encoded = encode_pruned(dense)
      (report,) = encoded.tensors
      payload = report.stored_bytes - report.dense_bytes
      return len(encoded.model_bytes) - len(dense) - payload

    one, two, three = grown([0]), grown([0, 0]), grown([0, 0, 0])
    copied = len("weight 0")
    for more in (two - one, three - two):
      assert more <= tflm_decode.READER_OVERHEAD_BYTES + copied
    # The first tensor also pays for the operator's code.
    both = tflm_decode.READER_OVERHEAD_BYTES + tflm_decode.SOURCE_OVERHEAD_BYTES
    assert tflm_decode.LEAST_OVERHEAD_BYTES < one <= both

  def test_close_tensors_beyond_the_number_of_trials_stay_dense(self, monkeypatch):
    buffers = [sparse_values(seed, 0.65) for seed in range(4)]
    dense = write_compact(chain(buffers, [(n + 1, 0) for n in range(4)], range(4)))
    assert sum(each.encoded for each in encode_pruned(dense).tensors) == 4
    monkeypatch.setattr(tflm_decode, "_TRIED_TENSORS", 2 * 9)
    assert sum(each.encoded for each in encode_pruned(dense).tensors) == 2

  def test_nothing_is_encoded_when_the_whole_file_would_not_shrink(self, monkeypatch):
    monkeypatch.setattr(tflm_decode, "LEAST_OVERHEAD_BYTES", -10_000)
    monkeypatch.setattr(tflm_decode, "READER_OVERHEAD_BYTES", -10_000)
    dense = written(chain([sparse_values(density=1.0)], [(1, 0)], [0]))
    encoded = encode_pruned(dense)
    assert encoded.model_bytes == dense
    assert encoded.tensors[0].stored_bytes == encoded.tensors[0].dense_bytes
    assert encoded.tensors[0].left_dense_because == "the file would not get smaller"

  def test_without_gain_the_bytes_stay_though_they_could_be_written_closer(self):
    # The payloads are about 80 bytes smaller each, and what decodes them larger.
    buffers = [sparse_values(seed, 0.8) for seed in range(3)]
    dense = written(chain(buffers, [(n + 1, 0) for n in range(3)], range(3)))
    assert len(write_compact(read_model(dense))) < len(dense)
    encoded = encode_pruned(dense)
    assert not any(each.encoded for each in encoded.tensors)
    assert encoded.model_bytes == dense

  def test_few_values_take_the_form_of_a_table(self):
    values = np.random.default_rng(0).choice(
      np.array([-9, 1, 4, 90], np.int8), (32, 32)
    )
    encoded = encode_pruned(write_compact(chain([values], [(1, 0)], [0])))
    (report,) = encoded.tensors
    # 2 bits a value, a header and a table of 4.
    assert (report.form, report.stored_bytes) == ("LUT", 256 + 16 + 4)

  def test_mostly_zeros_of_few_values_are_pruned(self):
    values = np.zeros((32, 32), np.int8)
    values[0] = 5
    values[1, :8] = -5
    (report,) = encode_pruned(write_compact(chain([values], [(1, 0)], [0]))).tensors
    # 168 bytes and a table of 3 at 2 bits would be 275.
    assert (report.form, report.stored_bytes) == ("PRUNING", 128 + 16 + 40)

  def test_memory_plan_of_the_file_is_left_alone(self):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.buffers.append(schema.BufferT(data=np.zeros(24, np.uint8)))
    model.metadata = [schema.MetadataT(name=tflm_shrink_steps.PLAN_METADATA, buffer=2)]
    dense = written(model)
    encoded = encode_pruned(dense)
    assert encoded.model_bytes == dense
    assert "plans the memory" in encoded.tensors[0].left_dense_because


class TestSharedBuffers:
  def test_one_buffer_with_two_zero_points_has_two_encodings(self):
    dense = written(chain([sparse_values()], [(1, 0), (1, 4)], [0, 1]))
    # Zero point 4 turns nearly every weight into a stored one: no gain together.
    assert encode_pruned(dense).model_bytes == dense

  def test_equal_weights_in_two_buffers_are_stored_once(self):
    once = chain([sparse_values()], [(1, 0)], [0, 0])
    twice = chain([sparse_values(), sparse_values()], [(1, 0), (2, 0)], [0, 1])
    lengths = [len(encode_pruned(written(each)).model_bytes) for each in (once, twice)]
    assert abs(lengths[1] - lengths[0]) < 200

  @pytest.mark.parametrize("shared_with", ["output", "variable", "idle", "metadata"])
  def test_buffer_that_something_else_needs_stays(self, shared_with):
    model = chain([sparse_values()], [(1, 0), (1, 0)], [0])
    graph = model.subgraphs[0]
    if shared_with == "output":
      graph.outputs.append(1)
    elif shared_with == "variable":
      graph.tensors[1].isVariable = True
    elif shared_with == "metadata":
      graph.tensors[1].buffer = 0
      model.metadata = [schema.MetadataT(name="note", buffer=1)]
    dense = written(model)
    encoded = encode_pruned(dense)
    assert encoded.model_bytes == dense
    assert all(report.left_dense_because for report in encoded.tensors)
