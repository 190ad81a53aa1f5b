import dataclasses
import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from tests.tflite_export import eligibility_graphs, files, models
from tests.tflite_export.processes import loaded_by
from tflite_export.conversion import convert
from tflite_export.file_format import flatbuffer_model
from tflite_export.xnnpack import eligibility


def check_prediction(graph, content):
  report = eligibility.inspect(content)
  assert report.eligible == graph.sparse
  texts = [f"{op.reason} {op.mend}" for op in report.ops if not op.sparse_on_arm]
  assert any(graph.says in text for text in texts)
  assert bool(report.errors) == (graph.error is not None)
  assert all((graph.error or "") in error for error in report.errors)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] if graph.slow else [])
    for name, graph in eligibility_graphs.GRAPHS.items()
  ],
)
def test_prediction(name):
  graph = eligibility_graphs.GRAPHS[name]
  check_prediction(graph, eligibility_graphs.converted_short(graph))


@pytest.mark.slow
@pytest.mark.parametrize("name", eligibility_graphs.GRAPHS)
def test_prediction_for_what_is_run_on_arm64(name):
  graph = eligibility_graphs.GRAPHS[name]
  check_prediction(graph, eligibility_graphs.converted(graph))


def test_every_graph_has_a_dense_twin():
  twins = {
    each.format: eligibility_graphs.dense_format(each)
    for each in eligibility_graphs.GRAPHS.values()
  }
  assert twins["fp32_sparse"] == twins["fp32_dense"] == "fp32_dense"
  assert twins[eligibility_graphs.TENSORFLOW_DYNAMIC_RANGE] == "dynamic_range_dense"
  assert set(twins.values()) <= set(convert.FORMATS)


@pytest.fixture(name="content", scope="module")
def fixture_content():
  return eligibility_graphs.converted(eligibility_graphs.GRAPHS["plain"])


class TestReport:
  def test_figures(self, content):
    report = eligibility.inspect(content)
    (cluster,) = report.clusters
    assert cluster.weights == 16 * 64 + 64 * 128 + 3 * 128 * 128
    # A tenth of each layer's weights stays, rounded.
    assert cluster.weights - cluster.zeros == 102 + 819 + 3 * 1638
    assert report.zero_fraction_1x1 == cluster.zeros / cluster.weights
    assert report.macs == report.sparse_macs
    positions = 24 * 24
    assert report.macs == positions * (16 * 64 + 64 * 128 + 128 * 128) + 144 * (
      2 * 128 * 128
    )

  def test_operators(self, content):
    ops = eligibility.inspect(content).ops
    assert [op.index for op in ops] == list(range(len(ops)))
    pointwise = next(op for op in ops if op.macs)
    assert pointwise.type == "CONV_2D"
    assert pointwise.density == 102 / 1024
    assert (pointwise.stored, pointwise.block) == ("sparse", 1)
    assert pointwise.input_shapes == ((1, 24, 24, 16), (64, 1, 1, 16), (64,))
    assert pointwise.output_shapes == ((1, 24, 24, 64),)
    assert pointwise.weight_bytes is not None
    assert 4 * 102 < pointwise.weight_bytes < 4 * 1024
    assert all((op.reason is None) == op.sparse_on_arm for op in ops)
    assert ops[-1].type == "FULLY_CONNECTED"
    assert (ops[-1].stored, ops[-1].density, ops[-1].mend) == ("dense", 1.0, None)

  def test_constant_behind_densify_and_dequantize_counts(self):
    report = eligibility.inspect(models.converted("fp16_sparse", 0.2))
    (expand,) = [op for op in report.ops if op.output_shapes == ((1, 8, 8, 32),)]
    assert (expand.weight_dtype, expand.stored) == ("float16", "sparse")
    assert expand.dtype == "float32"
    assert expand.density == pytest.approx(0.2, abs=0.01)

  def test_zero_points_are_zeros(self):
    stored = np.array([[7, 0, 1], [-2, -2, 0]], np.int8)
    (op,) = eligibility.inspect(files.quantised_dense(stored, [7, -2])).ops
    assert op.density == 3 / 6
    assert op.weight_dtype == "int8"

  def test_inner_tensor_as_output_rejects_the_cluster(self, content):
    model = flatbuffer_model.read_model(content)
    operators = model.subgraphs[0].operators
    model.subgraphs[0].outputs.append(operators[5].outputs[0])
    report = eligibility.inspect(files.written(model))
    assert not report.eligible
    assert any("is an output of the graph" in (op.reason or "") for op in report.ops)

  def test_rules_are_cited(self, content):
    sources = eligibility.inspect(content).sources
    assert any(
      "src/subgraph.c of https://github.com/google/XNNPACK" in s for s in sources
    )

  def test_mend_of_dense_storage_is_true(self):
    graphs = eligibility_graphs.GRAPHS
    for name in ("plain", "tensorflow_fp32"):
      content = eligibility_graphs.converted_short(graphs[name])
      assert eligibility.inspect(content).eligible
    dense = eligibility_graphs.converted_short(graphs["stored_dense"])
    mends = [op.mend or "" for op in eligibility.inspect(dense).ops]
    assert any("fp32_sparse" in m and "EXPERIMENTAL_SPARSITY" in m for m in mends)

  def test_two_subgraphs(self, content):
    model = flatbuffer_model.read_model(content)
    model.subgraphs *= 2
    report = eligibility.inspect(files.written(model))
    assert report.eligible
    assert [cluster.number for cluster in report.clusters] == [0, 1]
    assert {op.subgraph for op in report.ops} == {0, 1}

  def test_custom_operator_in_front(self, content):
    model = flatbuffer_model.read_model(content)
    code = schema.BuiltinOperator.CUSTOM
    custom = schema.OperatorCodeT(
      deprecatedBuiltinCode=code, builtinCode=code, customCode=b"Mine"
    )
    model.operatorCodes.append(custom)
    stem = next(op for op in model.subgraphs[0].operators if op.opcodeIndex == 1)
    stem.opcodeIndex = len(model.operatorCodes) - 1
    report = eligibility.inspect(files.written(model))
    assert not report.eligible
    (op,) = [op for op in report.ops if op.type == "CUSTOM"]
    assert "does not take Mine" in (op.reason or "")


class TestDamage:
  def test_truncated(self, content):
    for size in np.linspace(0, len(content) - 1, 60).astype(int):
      with pytest.raises(InputError) as caught:
        eligibility.inspect(content[:size])
      assert "\n" not in str(caught.value)

  @given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 30]))
  @settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
  )
  def test_mutated(self, content, seed, damages):
    generator = np.random.default_rng(seed)
    damaged = np.frombuffer(content, np.uint8).copy()
    places = generator.integers(8, len(damaged), damages)
    damaged[places] = generator.choice([0, 1, 2, 127, 128, 255], damages)
    try:
      report = eligibility.inspect(damaged.tobytes())
    except InputError as error:
      assert "\n" not in str(error)
    else:
      json.dumps(dataclasses.asdict(report), allow_nan=False)

  def test_mutations_are_found(self, content):
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
      damaged = np.frombuffer(content, np.uint8).copy()
      places = generator.integers(8, len(damaged), 30)
      damaged[places] = generator.integers(0, 256, len(places))
      try:
        eligibility.inspect(damaged.tobytes())
      except InputError:
        refused += 1
    assert refused > 5

  def test_random_bytes(self):
    generator = np.random.default_rng(0)
    for size in generator.integers(8, 3000, 100):
      content = bytearray(generator.bytes(int(size)))
      content[4:8] = b"TFL3"
      with pytest.raises(InputError):
        eligibility.inspect(bytes(content))

  def test_an_operator_of_a_taken_cluster_without_results(self):
    content = eligibility_graphs.converted_short(
      eligibility_graphs.GRAPHS["keepdims_output"]
    )
    model = flatbuffer_model.read_model(content)
    (graph,) = model.subgraphs
    graph.operators[-1].outputs = []
    with pytest.raises(InputError, match="damaged"):
      eligibility.inspect(files.written(model))

  def test_what_many_operators_share_is_looked_at_once(self):
    """Each of them looking at the whole weight would be 20 billion values."""
    weight = np.zeros((8192, 1, 1, 256), np.float32)
    tensors = [files.tensor([1, 2, 2, 256]), files.tensor(weight.shape, buffer=1)]
    tensors.append(files.tensor([1, 2, 2, 8192]))
    code = schema.BuiltinOperator.CONV_2D
    content = files.one_operator(code, tensors, [0, 1], [2], weight)
    model = flatbuffer_model.read_model(content)
    options = schema.Conv2DOptionsT(strideW=1, strideH=1)
    (operator,) = model.subgraphs[0].operators
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = options
    model.subgraphs[0].operators *= 10_000
    report = eligibility.inspect(files.written(model))
    assert len(report.ops) == 10_000
    assert report.zero_fraction_1x1 == 1

  def test_convolution_without_options(self):
    tensors = [files.tensor([1, 4, 4, 2]), files.tensor([3, 1, 1, 2], buffer=1)]
    tensors.append(files.tensor([1, 4, 4, 3]))
    made = files.one_operator(
      schema.BuiltinOperator.CONV_2D, tensors, [0, 1], [2], np.zeros(6, np.float32)
    )
    with pytest.raises(InputError, match="has no option"):
      eligibility.inspect(made)


def test_importing_it_loads_no_tensorflow():
  assert loaded_by(("tflite_export.xnnpack.eligibility",), ("tensorflow",)) == []
