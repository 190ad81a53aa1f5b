"""Tests of what is encoded: gains, what was left dense and why, hostile files."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.decoding import decoded_tensors
from tests.tflite_export.files import chain, sparse_values, written
from tflite_export import tflm_decode
from tflite_export.tflm_decode import encode_pruned


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
  def test_no_file_grows_near_break_even(self, density):
    buffers = [sparse_values(seed, density) for seed in range(4)]
    dense = written(chain(buffers, [(n + 1, 0) for n in range(4)], range(4)))
    encoded = encode_pruned(dense)
    changed = [report for report in encoded.tensors if report.encoded]
    assert (len(encoded.model_bytes) < len(dense)) == bool(changed)
    overhead = tflm_decode.SOURCE_OVERHEAD_BYTES + tflm_decode.CONSUMER_OVERHEAD_BYTES
    assert all(each.stored_bytes + overhead < each.dense_bytes for each in changed)

  def test_overhead_is_an_upper_bound(self):
    def grown(layers):
      dense = written(chain([sparse_values()], [(1, 0)], layers))
      encoded = encode_pruned(dense)
      (report,) = encoded.tensors
      payload = report.stored_bytes - report.dense_bytes
      return len(encoded.model_bytes) - len(dense) - payload

    one, two, three = grown([0]), grown([0, 0]), grown([0, 0, 0])
    copied = 12 + len("weight 0")
    assert two - one <= tflm_decode.CONSUMER_OVERHEAD_BYTES + copied
    assert three - two <= tflm_decode.CONSUMER_OVERHEAD_BYTES + copied

  def test_nothing_is_encoded_when_the_whole_file_would_not_shrink(self, monkeypatch):
    monkeypatch.setattr(tflm_decode, "SOURCE_OVERHEAD_BYTES", -10_000)
    dense = written(chain([sparse_values(density=1.0)], [(1, 0)], [0]))
    encoded = encode_pruned(dense)
    assert encoded.model_bytes == dense
    assert encoded.tensors[0].stored_bytes == encoded.tensors[0].dense_bytes
    assert encoded.tensors[0].left_dense_because == "the whole file would not shrink"


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


class TestDamagedFiles:
  @pytest.mark.parametrize("length", [0, 4, 8, 20, 100])
  def test_truncated(self, sparse_file, length):
    with pytest.raises(InputError) as raised:
      encode_pruned(sparse_file[:length])
    assert "\n" not in str(raised.value)

  def test_every_truncation_is_refused_or_read(self, sparse_file):
    for length in range(0, len(sparse_file), 97):
      with pytest.raises(InputError):
        encode_pruned(sparse_file[:length])

  def test_mutations_never_crash(self, sparse_file):
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
      mutated = bytearray(sparse_file)
      for at in generator.integers(0, len(mutated), generator.integers(1, 30)):
        mutated[at] = generator.choice([0, 1, 127, 128, 255, generator.integers(256)])
      try:
        encode_pruned(bytes(mutated))
      except InputError as error:
        refused += 1
        assert "\n" not in str(error)
    assert refused > 50

  def test_random_bytes(self):
    generator = np.random.default_rng(1)
    for _ in range(200):
      noise = bytearray(generator.bytes(int(generator.integers(8, 500))))
      noise[4:8] = b"TFL3"
      with pytest.raises(InputError):
        encode_pruned(bytes(noise))
