import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export.files import (
  chain,
  one_layer,
  sparse_values,
  vector_of,
  written,
)
from tests.tflite_export.processes import loaded_by
from tflite_export.file_format.flatbuffer_model import constant, read_model


def file_of_tensors(builder, tensor, count):
  """Returns a file of `count` times one subgraph of `count` times one tensor."""
  tensors = vector_of(builder, schema.SubGraphStartTensorsVector, tensor, count)
  schema.SubGraphStart(builder)
  schema.SubGraphAddTensors(builder, tensors)
  subgraph = schema.SubGraphEnd(builder)
  subgraphs = vector_of(builder, schema.ModelStartSubgraphsVector, subgraph, count)
  schema.ModelStart(builder)
  schema.ModelAddSubgraphs(builder, subgraphs)
  builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
  return bytes(builder.Output())


class TestReadModel:
  def test_parts_claimed_many_times_over(self):
    count = 2000
    builder = flatbuffers.Builder(1024)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    with pytest.raises(InputError, match="claim more than"):
      read_model(file_of_tensors(builder, tensor, count))

  @pytest.mark.parametrize(
    ("field", "value", "message"),
    [
      ("inputs", [99], "tensor 99 of"),
      ("inputs", [-2], "tensor -2 of"),
      ("opcodeIndex", 7, "operator code 7 of 1"),
    ],
  )
  def test_indices_out_of_range(self, field, value, message):
    model = one_layer()
    setattr(model.subgraphs[0].operators[0], field, value)
    with pytest.raises(InputError, match=message):
      read_model(written(model))

  def test_buffer_out_of_range(self):
    model = chain([sparse_values()], [(5, 0)], [0])
    with pytest.raises(InputError, match="buffer 5 of 2"):
      read_model(written(model))

  def test_no_subgraph(self):
    with pytest.raises(InputError, match="no subgraph"):
      read_model(written(schema.ModelT(version=3)))

  def test_data_in_buffer_0(self):
    model = one_layer()
    model.buffers[0].data = np.zeros(4, np.uint8)
    with pytest.raises(InputError, match="buffer 0"):
      read_model(written(model))

  @pytest.mark.parametrize("content", [b"", b"TFL3", b"\x08\0\0\0TFL3"])
  def test_bytes_of_something_else(self, content):
    with pytest.raises(InputError, match=r"not a \.tflite file|damaged"):
      read_model(content)

  def test_sparse_dimensions_claimed_many_times_over(self):
    count = 2000
    builder = flatbuffers.Builder(1024)
    schema.DimensionMetadataStart(builder)
    dimension = schema.DimensionMetadataEnd(builder)
    start = schema.SparsityParametersStartDimMetadataVector
    dimensions = vector_of(builder, start, dimension, count)
    schema.SparsityParametersStart(builder)
    schema.SparsityParametersAddDimMetadata(builder, dimensions)
    sparsity = schema.SparsityParametersEnd(builder)
    schema.TensorStart(builder)
    schema.TensorAddSparsity(builder, sparsity)
    tensor = schema.TensorEnd(builder)
    with pytest.raises(InputError, match="claim more than"):
      read_model(file_of_tensors(builder, tensor, count))

  @pytest.mark.parametrize(
    ("kind", "vector"),
    [
      ("Metadata", schema.ModelStartMetadataVector),
      ("OperatorCode", schema.ModelStartOperatorCodesVector),
      ("SignatureDef", schema.ModelStartSignatureDefsVector),
      ("SubGraph", schema.ModelStartSubgraphsVector),
    ],
  )
  def test_one_name_claimed_many_times_over(self, kind, vector):
    field = {"OperatorCode": "CustomCode", "SignatureDef": "SignatureKey"}
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("x" * 10_000)
    getattr(schema, f"{kind}Start")(builder)
    getattr(schema, f"{kind}Add{field.get(kind, 'Name')}")(builder, name)
    entry = getattr(schema, f"{kind}End")(builder)
    entries = vector_of(builder, vector, entry, 100)
    schema.ModelStart(builder)
    add = getattr(schema, vector.__name__.replace("Start", "Add")[: -len("Vector")])
    add(builder, entries)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    with pytest.raises(InputError, match="claim more than"):
      read_model(bytes(builder.Output()))

  def test_lists_the_file_leaves_out_are_empty(self):
    model = schema.ModelT(version=3, subgraphs=[schema.SubGraphT()])
    graph = read_model(written(model)).subgraphs[0]
    assert (graph.tensors, graph.operators, graph.inputs) == ([], [], [])


class TestConstant:
  def test_values(self):
    values = sparse_values()
    model = read_model(written(chain([values], [(1, 0)], [0])))
    stored = constant(model, model.subgraphs[0].tensors[0])
    np.testing.assert_array_equal(stored, values)

  @pytest.mark.parametrize("shape", [[32, 31], [-1, 32], [2**31 - 1] * 4])
  def test_shape_that_does_not_fit_the_data(self, shape):
    model = one_layer()
    model.subgraphs[0].tensors[0].shape = shape
    model = read_model(written(model))
    with pytest.raises(InputError, match="1024 bytes of data for shape"):
      constant(model, model.subgraphs[0].tensors[0])

  def test_type_without_numbers(self):
    model = one_layer()
    model.subgraphs[0].tensors[0].type = schema.TensorType.STRING
    model = read_model(written(model))
    with pytest.raises(InputError, match="'weight 0' has element type 5"):
      constant(model, model.subgraphs[0].tensors[0])


def test_importing_it_loads_no_tensorflow():
  modules = (
    "tflite_export.file_format.flatbuffer_model",
    "tflite_export.runtimes.weights",
  )
  assert loaded_by(modules, ("tensorflow",)) == []
