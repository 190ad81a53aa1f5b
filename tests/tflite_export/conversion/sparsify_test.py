import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from tests.tflite_export import files, models, single_operator
from tflite_export.conversion.sparsify import sparsify
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.flatbuffer_writer import write_model
from tflite_export.file_format.stored_weights import stored_weights

_DENSIFY = schema.BuiltinOperator.DENSIFY


def sparse_values(shape, density, seed=0):
  generator = np.random.default_rng(seed)
  values = generator.normal(size=shape)
  return np.where(generator.random(shape) < density, values, 0)


def outputs(content):
  """Returns the stored outputs for three random inputs."""
  interpreter = litert.Interpreter(model_content=content, num_threads=1)
  interpreter.allocate_tensors()
  [source] = interpreter.get_input_details()
  [target] = interpreter.get_output_details()
  made = []
  for seed in range(3):
    values = np.random.default_rng(seed).normal(size=source["shape"])
    if source["dtype"] == np.int8:
      values = np.clip(np.round(20 * values), -128, 127)
    interpreter.set_tensor(source["index"], values.astype(source["dtype"]))
    interpreter.invoke()
    made.append(interpreter.get_tensor(target["index"]))
  return np.concatenate(made)


def stored(content):
  """Returns each weight's stored tensor, with all its zeros."""
  model = flatbuffer_model.read_model(content)
  tensors = model.subgraphs[0].tensors
  return [
    flatbuffer_model.constant(model, tensors[weight.tensor])
    for weight in stored_weights(content)
  ]


def densifies(content):
  """Returns the tensors in and out of each DENSIFY."""
  model = flatbuffer_model.read_model(content)
  graph = model.subgraphs[0]
  return [
    (graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]])
    for operator in graph.operators
    if flatbuffer_model.operator_code(model, operator) == _DENSIFY
  ]


def check_same(dense, sparse):
  np.testing.assert_array_equal(outputs(sparse), outputs(dense))
  for before, after in zip(stored(dense), stored(sparse), strict=True):
    np.testing.assert_array_equal(after, before)
    assert after.dtype == before.dtype


def single(draw):
  """Draws a file of one operator, or of two that read one weight."""
  kind = draw(st.sampled_from(single_operator.KINDS))
  side = draw(st.sampled_from([1, 3]))
  inputs, channels = draw(st.integers(1, 17)), draw(st.integers(1, 40))
  groups = 1
  shape: tuple[int, ...]
  if kind == "dense":
    shape = (channels, inputs)
  elif kind == "depthwise":
    shape = (1, side, side, channels)
  else:
    groups = draw(st.sampled_from([1, 2]))
    shape = (channels * groups, side, side, inputs)
  density = draw(st.sampled_from([0, 0.01, 0.1, 0.3, 0.6, 1]))
  values = sparse_values(shape, density, seed=draw(st.integers(0, 99)))
  type = draw(st.sampled_from(single_operator.TYPES))
  return single_operator.build(
    kind, type, values, groups, draw(st.sampled_from([1, 2]))
  )


@given(st.composite(single)())
@settings(deadline=None, max_examples=150)
def test_single_operators_compute_the_same(dense):
  sparse = sparsify(dense)
  assert len(sparse) <= len(dense)
  check_same(dense, sparse)


@pytest.mark.parametrize("inputs", range(1, 18))
@pytest.mark.parametrize("type", ["float32", "float16"])
def test_dense_layers_of_few_inputs(inputs, type):
  # The converter's own sparse storage loses weights of these.
  dense = single_operator.build("dense", type, sparse_values((1000, inputs), 0.1))
  sparse = sparsify(dense)
  assert len(densifies(sparse)) == 1
  check_same(dense, sparse)


SHAPES: dict[str, list[tuple[int, ...]]] = {
  "convolution": [(64, 1, 1, 64), (64, 3, 3, 16)],
  "depthwise": [(1, 5, 5, 256)],
  "dense": [(64, 64)],
}


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("type", single_operator.TYPES)
@pytest.mark.parametrize(
  ("kind", "shape"), [(kind, shape) for kind in SHAPES for shape in SHAPES[kind]]
)
def test_what_litert_loads_is_stored_sparse(kind, shape, type, uses):
  unpacked = {
    "float32": True,
    "float16": True,
    "int8": kind != "dense",
    "dynamic_range": kind == "depthwise",
  }
  dense = single_operator.build(kind, type, sparse_values(shape, 0.05), uses=uses)
  sparse = sparsify(dense)
  assert len(densifies(sparse)) == unpacked[type]
  assert (sparse == dense) == (not unpacked[type])
  check_same(dense, sparse)


@pytest.mark.parametrize(
  ("kind", "type"),
  [("dense", "int8"), ("dense", "dynamic_range"), ("convolution", "dynamic_range")],
)
def test_what_is_left_dense_would_not_load(monkeypatch, kind, type):
  """The reason for `_unpacks_for`; should a newer LiteRT load it, so can we."""
  monkeypatch.setattr("tflite_export.conversion.sparsify._unpacks_for", lambda *_: True)
  values = sparse_values(SHAPES[kind][0], 0.05)
  sparse = sparsify(single_operator.build(kind, type, values))
  assert len(densifies(sparse)) == 1
  with pytest.raises(RuntimeError, match="failed to delegate"):
    outputs(sparse)


@pytest.mark.parametrize("type", ["float32", "float16", "int8"])
def test_pointwise_convolutions_are_stored_as_the_converter_does(type):
  values = sparse_values((64, 1, 1, 32), 0.1)
  [(packed, unpacked)] = densifies(
    sparsify(single_operator.build("convolution", type, values))
  )
  sparsity = packed.sparsity
  assert list(sparsity.traversalOrder) == [0, 1, 2, 3]
  assert len(sparsity.blockMap) == 0
  dense, compressed = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
  assert [level.format for level in sparsity.dimMetadata] == [dense] * 3 + [compressed]
  assert [level.denseSize for level in sparsity.dimMetadata[:3]] == [64, 1, 1]
  assert list(packed.shape) == list(unpacked.shape) == [64, 1, 1, 32]
  assert packed.type == unpacked.type


def test_quantisation_stays_with_the_unpacked_tensor():
  values = sparse_values((64, 3, 3, 16), 0.05)
  [(packed, unpacked)] = densifies(
    sparsify(single_operator.build("convolution", "int8", values))
  )
  assert packed.quantization is None
  assert len(unpacked.quantization.scale) == 64


def test_half_precision_is_unpacked_before_it_is_dequantised():
  values = sparse_values((64, 64), 0.05)
  sparse = sparsify(single_operator.build("dense", "float16", values))
  model = flatbuffer_model.read_model(sparse)
  codes = [
    flatbuffer_model.operator_code(model, operator)
    for operator in model.subgraphs[0].operators
  ]
  builtin = schema.BuiltinOperator
  assert codes == [_DENSIFY, builtin.DEQUANTIZE, builtin.FULLY_CONNECTED]


@pytest.mark.parametrize("kind", SHAPES)
def test_layer_pruned_to_nothing(kind):
  dense = single_operator.build(kind, "float32", np.zeros(SHAPES[kind][0]))
  sparse = sparsify(dense)
  assert len(sparse) < 2000
  check_same(dense, sparse)


def test_full_layer_is_left_alone():
  dense = single_operator.build("dense", "float32", sparse_values((64, 64), 1))
  assert sparsify(dense) == dense


def test_a_sparse_file_stays_as_it_is():
  dense = single_operator.build("dense", "float32", sparse_values((64, 64), 0.1))
  sparse = sparsify(dense)
  assert len(sparse) < len(dense)
  assert sparsify(sparse) == sparse


def test_same_file_gives_same_bytes():
  dense = models.converted("fp32_dense")
  assert sparsify(dense) == sparsify(dense)


def changed(dense, change):
  """Returns the file after `change(model, graph, weight tensor)`."""
  model = flatbuffer_model.read_model(dense)
  graph = model.subgraphs[0]
  change(model, graph, graph.operators[-1].inputs[1])
  return write_model(model)


def _shift(model, graph, weight):
  graph.tensors[weight].quantization.zeroPoint = [0] * 63 + [1]


def _give_out(model, graph, weight):
  graph.outputs = [*graph.outputs, weight]


def _share_data(model, graph, weight):
  graph.tensors.append(graph.tensors[weight])


def _use_as_bias(model, graph, weight):
  operator = graph.operators[-1]
  operator.inputs = [operator.inputs[0], weight, weight]


@pytest.mark.parametrize(
  ("type", "change"),
  [
    ("int8", _shift),
    ("float32", _give_out),
    ("float32", _share_data),
    ("float32", _use_as_bias),
  ],
)
def test_what_is_more_than_a_weight_is_left_dense(type, change):
  values = sparse_values((64, 1, 1, 64), 0.05)
  plain = single_operator.build("convolution", type, values)
  assert len(densifies(sparsify(plain))) == 1
  content = changed(plain, change)
  assert sparsify(content) == content


@pytest.mark.parametrize(
  ("before", "after"), [("1.14.0", "2.2.0"), ("2.2.0", "2.2.0"), ("2.10.1", "2.10.1")]
)
def test_the_runtime_asked_for_has_densify(before, after):
  def ask(model, graph, weight):
    padded = before.encode().ljust(16, b"\0")
    model.buffers.append(schema.BufferT(data=np.frombuffer(padded, np.uint8)))
    name = b"min_runtime_version"
    model.metadata = [schema.MetadataT(name=name, buffer=len(model.buffers) - 1)]

  plain = single_operator.build("dense", "float32", sparse_values((64, 64), 0.05))
  model = flatbuffer_model.read_model(sparsify(changed(plain, ask)))
  data = bytes(model.buffers[model.metadata[0].buffer].data)
  assert data == after.encode().ljust(16, b"\0")


def test_signature_stays():
  interpreter = litert.Interpreter(model_content=models.converted("fp32_sparse"))
  signature = {"serving_default": {"inputs": ["inputs"], "outputs": ["logits"]}}
  assert interpreter.get_signature_list() == signature


def test_empty_weight_is_left_alone():
  content = files.one_operator(
    schema.BuiltinOperator.FULLY_CONNECTED,
    [files.tensor([1, 0]), files.tensor([4, 0], buffer=1), files.tensor([1, 4])],
    [0, 1, -1],
    [2],
    np.zeros(0, np.float32),
  )
  assert sparsify(content) == content


def test_shape_of_many_dimensions_is_left_alone():
  content = files.one_operator(
    schema.BuiltinOperator.FULLY_CONNECTED,
    [files.tensor([1, 4]), files.tensor([2] * 12, buffer=1), files.tensor([1, 4])],
    [0, 1, -1],
    [2],
    np.zeros(2**12, np.float32),
  )
  assert sparsify(content) == content


def test_two_subgraphs_are_refused():
  model = files.one_layer()
  model.subgraphs *= 2
  with pytest.raises(InputError, match="has 2 subgraphs; only files with one"):
    sparsify(files.written(model))


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_refused_or_converted(seed, damages):
  content = files.damaged(models.converted("fp16_dense"), seed, damages)
  try:
    sparsify(content)
  except InputError as error:
    assert "\n" not in str(error)


@given(st.binary(max_size=64))
def test_random_bytes_are_refused(tail):
  for content in (tail, b"\x08\x00\x00\x00TFL3" + tail, tail[:4] + b"TFL3" + tail):
    with pytest.raises(InputError):
      sparsify(content)
