"""Tests of writing equal parts once, read back by Python, C++ and both runtimes."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_micro.tensorflow.lite.micro.compression import model_editor
from tflite_micro.tensorflow.lite.micro.tools import tflite_flatbuffer_align_wrapper

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.field_edits import edit
from tests.tflite_export.files import WIDTH, chain, one_layer, sparse_values, written
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.flatbuffer_writer import write_model
from tflite_export.runtimes import litert, tflm

FORMATS = ["int8_dense", "fp32_dense", "fp16_sparse"]


@pytest.mark.parametrize("format", FORMATS)
class TestWholeFiles:
  def test_says_the_same_in_fewer_bytes(self, format):
    content = models.converted(format)
    compact = write_compact(read_model(content))
    assert len(compact) < len(write_model(read_model(content)))
    assert write_model(read_model(compact)) == write_model(read_model(content))

  def test_runs_in_litert_which_verifies_offsets(self, format):
    content = models.converted(format)
    inputs = models.random_inputs(4)
    compact = write_compact(read_model(content))
    np.testing.assert_array_equal(
      litert.run(compact, inputs), litert.run(content, inputs)
    )

  def test_writing_again_changes_nothing(self, format):
    compact = write_compact(read_model(models.converted(format)))
    assert write_compact(read_model(compact)) == compact

  def test_cpp_reads_the_same(self, format, tmp_path):
    content = models.converted(format)
    aligned = []
    for number, each in enumerate((content, write_compact(read_model(content)))):
      source, target = tmp_path / f"{number}.tflite", tmp_path / f"{number}.aligned"
      source.write_bytes(each)
      tflite_flatbuffer_align_wrapper.align_tflite_model(str(source), str(target))
      aligned.append(target.read_bytes())
    assert aligned[0] == aligned[1]


def test_tflm_computes_the_same():
  content = models.converted("int8_dense")
  inputs = models.random_inputs(8)
  compact = write_compact(read_model(content))
  np.testing.assert_array_equal(
    tflm.run(compact, inputs).stored_outputs, tflm.run(content, inputs).stored_outputs
  )


def test_buffers_start_at_multiples_of_16():
  compact = write_compact(read_model(models.converted("int8_dense")))
  root = schema.Model.GetRootAs(compact, 0)
  start = np.frombuffer(compact, np.uint8).ctypes.data
  constants = 0
  for number in range(root.BuffersLength()):
    data = root.Buffers(number).DataAsNumpy()
    if isinstance(data, np.ndarray) and data.size:
      constants += 1
      assert (data.ctypes.data - start) % 16 == 0
  assert constants > 5


class TestSharing:
  def test_a_second_equal_layer_costs_references_only(self):
    def size(layers):
      model = chain([sparse_values()], [(1, 0)] * layers, range(layers))
      for tensor in model.subgraphs[0].tensors:
        tensor.name = None
      return len(write_compact(model))

    # Operator: 24 + inputs 16 + outputs 8; its and two tensors' entries 12. Weights are
    # one table; activations too. Files are multiples of 16 bytes.
    assert size(3) - size(2) <= 24 + 16 + 8 + 12 + 15

  def test_equal_data_are_stored_once(self):
    values = sparse_values()
    one = write_compact(chain([values], [(1, 0)], [0]))
    two = write_compact(chain([values, values], [(1, 0), (2, 0)], [0]))
    assert len(two) - len(one) < 64

  def test_numbers_that_compare_equal_but_differ_stay_apart(self):
    model = chain([sparse_values()], [(1, 0), (1, 0)], [0, 1])
    tensors = model.subgraphs[0].tensors
    tensors[0].quantization.scale, tensors[1].quantization.scale = [0.0], [-0.0]
    found = read_model(write_compact(model)).subgraphs[0].tensors
    signs = [np.signbit(each.quantization.scale[0]) for each in found[:2]]
    assert signs == [False, True]

  def test_tables_of_other_fields_stay_apart(self):
    model = chain([sparse_values()], [(1, 0), (1, 0)], [0, 1])
    first, second = model.subgraphs[0].tensors[:2]
    first.isVariable, second.hasRank = True, True
    found = read_model(write_compact(model)).subgraphs[0].tensors
    assert [(each.isVariable, each.hasRank) for each in found[:2]] == [
      (True, False),
      (False, True),
    ]


def test_any_model_is_the_same_to_readers():
  content = models.converted("int8_dense")
  generator = np.random.default_rng(0)
  for _ in range(60):
    model = read_model(content)
    for _ in range(generator.integers(1, 8)):
      edit(model, generator)
    standard = written(model)
    try:
      compact = write_compact(read_model(standard))
    except InputError:
      continue
    assert len(compact) < len(standard)
    assert write_model(read_model(compact)) == write_model(read_model(standard))


def test_upstream_reads_it():
  content = write_compact(read_model(models.converted("int8_dense")))
  given = model_editor.read(models.converted("int8_dense")).subgraphs[0].tensors
  found = model_editor.read(content).subgraphs[0].tensors
  assert [
    (each.name, each.shape, each.buffer and each.buffer.data) for each in found
  ] == [(each.name, each.shape, each.buffer and each.buffer.data) for each in given]


def test_many_equal_parts_can_be_read_back():
  layers = 300
  model = chain([sparse_values()], [(1, 0)] * layers, range(layers))
  for tensor in model.subgraphs[0].tensors:
    tensor.name = None
    tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1] * 8, [0] * 8
  assert len(read_model(write_compact(model)).subgraphs[0].operators) == layers


def test_hand_made_model_is_the_same_to_readers():
  model = read_model(write_compact(one_layer()))
  assert write_model(model) == write_model(read_model(written(one_layer())))
  inputs = np.random.default_rng(0).normal(size=(3, WIDTH)).astype(np.float32)
  np.testing.assert_array_equal(
    tflm.run(write_compact(one_layer()), inputs).stored_outputs,
    tflm.run(written(one_layer()), inputs).stored_outputs,
  )
