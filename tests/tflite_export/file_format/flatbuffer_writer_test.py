import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_export import models
from tests.tflite_export.files import chain, one_layer, sparse_values, written
from tflite_export.file_format.flatbuffer_model import constant, read_model
from tflite_export.file_format.flatbuffer_writer import write_model


def test_buffers_start_at_multiples_of_16():
  model_bytes = write_model(read_model(models.converted("int8_dense")))
  root = schema.Model.GetRootAs(model_bytes, 0)
  for number in range(root.BuffersLength()):
    data = root.Buffers(number).DataAsNumpy()
    if isinstance(data, np.ndarray) and data.size:
      start = np.frombuffer(model_bytes, np.uint8).ctypes.data
      assert (data.ctypes.data - start) % 16 == 0


def test_same_model_same_bytes():
  content = models.converted("int8_dense")
  assert write_model(read_model(content)) == write_model(read_model(content))


def test_writing_again_changes_nothing():
  once = write_model(one_layer())
  assert write_model(read_model(once)) == once


def test_constants_are_kept():
  values = sparse_values()
  model = read_model(write_model(read_model(written(chain([values], [(1, 0)], [0])))))
  stored = constant(model, model.subgraphs[0].tensors[0])
  np.testing.assert_array_equal(stored, values)
  assert model.buffers[0].data is None
