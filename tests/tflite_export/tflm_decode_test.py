"""Tests of the PRUNING encoder: bytes worked out by hand, an oracle, hostile files."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tflite_micro.tensorflow.lite.micro.compression import constant_inputs

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export import tflm_decode
from tflite_export.convert import convert
from tflite_export.tflm_decode import encode_pruned, pack_pruned, read_model

HEADER = bytes([2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
WIDTH = 32


@pytest.fixture(scope="module")
def sparse_file():
  model = models.small_classifier()
  models.prune(model, 0.1)
  return convert(model, "int8_dense", models.random_inputs(8))


def sparse_values(seed=0, density=0.1, zero=0):
  """Returns int8 [32, 32], mostly `zero`."""
  generator = np.random.default_rng(seed)
  values = generator.integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
  return np.where(generator.random(values.shape) < density, values, np.int8(zero))


def quantised(shape, buffer, zero_point=0, name=b"tensor", scale=0.02):
  return schema.TensorT(
    shape=list(shape),
    type=schema.TensorType.INT8,
    buffer=buffer,
    name=name,
    quantization=schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point]),
  )


def chain(buffers, weights, layers):
  """Returns a model of fully connected layers, 32 to 32 wide.

  Args:
    buffers: Arrays [32, 32], one for each buffer from 1 on.
    weights: (buffer, zero point) of each weight tensor; they are tensors 0, 1, ...
    layers: The weight tensor of each layer in turn.
  """
  tensors = [
    quantised((WIDTH, WIDTH), buffer, zero, f"weight {number}".encode())
    for number, (buffer, zero) in enumerate(weights)
  ]
  first = len(tensors)
  tensors += [quantised((1, WIDTH), 0, 3) for _ in range(len(layers) + 1)]
  options = schema.FullyConnectedOptionsT()
  operators = [
    schema.OperatorT(
      opcodeIndex=0,
      inputs=[first + number, weight, -1],
      outputs=[first + number + 1],
      builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
      builtinOptions=options,
    )
    for number, weight in enumerate(layers)
  ]
  code = schema.BuiltinOperator.FULLY_CONNECTED
  return schema.ModelT(
    version=3,
    operatorCodes=[
      schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=4)
    ],
    subgraphs=[
      schema.SubGraphT(
        tensors=tensors,
        inputs=[first],
        outputs=[len(tensors) - 1],
        operators=operators,
      )
    ],
    buffers=[schema.BufferT()]
    + [schema.BufferT(data=array.view(np.uint8).reshape(-1)) for array in buffers],
  )


def written(model):
  builder = flatbuffers.Builder(1024)
  builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
  return bytes(builder.Output())


def operator_names(model):
  names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
  return [
    (model.operatorCodes[operator.opcodeIndex].customCode or b"").decode()
    or names[model.operatorCodes[operator.opcodeIndex].builtinCode]
    for operator in model.subgraphs[0].operators
  ]


def unpack(packed, shape, dtype, zeros):
  """Decodes as the layout says, one bit at a time."""
  assert packed.ancillary[:16] == HEADER
  table = np.frombuffer(packed.ancillary[16:], dtype)
  values = np.broadcast_to(zeros, shape).astype(dtype).reshape(-1)
  taken = 0
  for index in range(values.size):
    if packed.encoded[index // 8] >> (7 - index % 8) & 1:
      values[index] = table[taken]
      taken += 1
  assert taken == len(table)
  assert len(packed.encoded) == -(-values.size // 8)
  return values.reshape(shape)


def decoded_tensors(model_bytes, dense_bytes):
  """Returns (decoded, dense) values for each output of each DECODE."""
  model, dense = read_model(model_bytes), read_model(dense_bytes)
  pairs = []
  for graph, dense_graph in zip(model.subgraphs, dense.subgraphs, strict=True):
    names = {tensor.name: tensor for tensor in dense_graph.tensors}
    for operator in graph.operators:
      if model.operatorCodes[operator.opcodeIndex].customCode != b"TFLM_DECODE":
        continue
      for number, target in enumerate(operator.outputs):
        encoded, ancillary = (
          model.buffers[graph.tensors[at].buffer].data.tobytes()
          for at in operator.inputs[2 * number : 2 * number + 2]
        )
        tensor = graph.tensors[target]
        points = np.array(tensor.quantization.zeroPoint, np.int8)
        shape = [1] * len(tensor.shape)
        shape[tensor.quantization.quantizedDimension] = len(points)
        values = unpack(
          tflm_decode.PackedTensor(encoded, ancillary),
          tuple(tensor.shape),
          np.int8,
          points.reshape(shape),
        )
        data = dense.buffers[names[tensor.name].buffer].data
        pairs.append((values.tobytes(), data.tobytes()))
  return pairs


class TestPackPruned:
  def test_int8_bytes_by_hand(self):
    values = np.array([[0, 5, 0, 0], [-1, 0, 0, 0], [0, 7, 0, 0]], np.int8)
    packed = pack_pruned(values, np.zeros((1, 1), np.int8))
    assert packed.encoded == bytes([0b01001000, 0b01000000])
    assert packed.ancillary == HEADER + bytes([5, 255, 7])

  def test_zero_point_is_what_a_zero_bit_means(self):
    values = np.array([3, 0, 3, -3], np.int8)
    packed = pack_pruned(values, np.array([3], np.int8))
    assert packed.encoded == bytes([0b01010000])
    assert packed.ancillary == HEADER + bytes([0, 253])

  def test_per_channel_zero_points_on_the_last_axis(self):
    values = np.array([[1, 2], [2, 1]], np.int8)
    packed = pack_pruned(values, np.array([[1, 2]], np.int8))
    assert packed.encoded == bytes([0b00110000])
    assert packed.ancillary == HEADER + bytes([2, 1])

  def test_int16_is_little_endian(self):
    packed = pack_pruned(np.array([0, 258], "<i2"), np.zeros(1, "<i2"))
    assert packed.encoded == bytes([0b01000000])
    assert packed.ancillary == HEADER + bytes([2, 1])

  def test_negative_zero_is_stored(self):
    packed = pack_pruned(np.array([0.0, -0.0], "<f4"), np.zeros(1, "<f4"))
    assert packed.encoded == bytes([0b01000000])
    assert packed.ancillary == HEADER + bytes([0, 0, 0, 128])

  def test_all_zeros_need_no_values(self):
    packed = pack_pruned(np.zeros(17, np.int8), np.zeros(1, np.int8))
    assert packed.encoded == bytes(3)
    assert packed.ancillary == HEADER
    assert packed.bytes == 19

  @settings(max_examples=150, deadline=None)
  @given(st.data())
  def test_decodes_to_the_same_bytes(self, data):
    dtype = np.dtype(data.draw(st.sampled_from(["<i1", "<i2", "<i4", "<i8", "<f4"])))
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=5))
    elements = hnp.from_dtype(dtype) if data.draw(st.booleans()) else st.just(0)
    values = data.draw(
      hnp.arrays(dtype, tuple(shape), elements=elements, fill=st.just(0))
    )
    zero_shape = [1] * len(shape)
    if dtype == np.int8:
      axis = data.draw(st.sampled_from([0, len(shape) - 1]))
      zero_shape[axis] = shape[axis]
      zeros = data.draw(hnp.arrays(dtype, tuple(zero_shape)))
    else:
      zeros = np.zeros(zero_shape, dtype)
    packed = pack_pruned(values, zeros)
    assert unpack(packed, shape, dtype, zeros).tobytes() == values.tobytes()


class TestEncodePruned:
  def test_shrinks_and_decodes_to_the_same_weights(self, sparse_file):
    encoded = encode_pruned(sparse_file)
    assert len(encoded.model_bytes) < len(sparse_file)
    pairs = decoded_tensors(encoded.model_bytes, sparse_file)
    assert len(pairs) == 4
    assert all(values == dense for values, dense in pairs)

  def test_decode_stands_right_before_its_reader(self, sparse_file):
    model = read_model(encode_pruned(sparse_file).model_bytes)
    operators = model.subgraphs[0].operators
    names = operator_names(model)
    assert names.count("TFLM_DECODE") == 4
    for at, name in enumerate(names):
      if name == "TFLM_DECODE":
        assert set(operators[at].outputs) <= set(operators[at + 1].inputs)

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

  def test_same_input_same_bytes(self, sparse_file):
    assert encode_pruned(sparse_file) == encode_pruned(sparse_file)

  def test_buffers_start_at_multiples_of_16(self, sparse_file):
    model_bytes = encode_pruned(sparse_file).model_bytes
    root = schema.Model.GetRootAs(model_bytes, 0)
    for number in range(root.BuffersLength()):
      data = root.Buffers(number).DataAsNumpy()
      if isinstance(data, np.ndarray) and data.size:
        start = np.frombuffer(model_bytes, np.uint8).ctypes.data
        assert (data.ctypes.data - start) % 16 == 0

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


class TestEligibility:
  @pytest.mark.parametrize(
    ("change", "reason"),
    [
      ({"type": schema.TensorType.UINT8}, "tensor type"),
      ({"isVariable": True}, "variable"),
      ({"sparsity": schema.SparsityParametersT()}, "sparse already"),
    ],
  )
  def test_tensors_the_kernel_cannot_write(self, change, reason):
    model = chain([sparse_values()], [(1, 0)], [0])
    vars(model.subgraphs[0].tensors[0]).update(change)
    (report,) = encode_pruned(written(model)).tensors
    assert reason in report.left_dense_because

  @pytest.mark.parametrize(
    ("scales", "points", "axis", "reason"),
    [
      (32, 32, 0, None),
      (32, 32, 1, None),
      (1, 1, 1, "axis 1"),
      (32, 1, 0, "1 zero points"),
      (16, 16, 0, "16 scales"),
      (32, 32, 2, "axis 2"),
    ],
  )
  def test_quantisation_the_kernel_takes(self, scales, points, axis, reason):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[0].quantization = schema.QuantizationParametersT(
      scale=[0.1] * scales, zeroPoint=[0] * points, quantizedDimension=axis
    )
    (report,) = encode_pruned(written(model)).tensors
    if reason is None:
      assert report.encoded
    else:
      assert reason in report.left_dense_because

  @pytest.mark.parametrize("field", ["inputs", "outputs"])
  def test_ends_of_the_graph(self, field):
    model = chain([sparse_values()], [(1, 0)], [0])
    getattr(model.subgraphs[0], field).append(0)
    (report,) = encode_pruned(written(model)).tensors
    assert "input or output" in report.left_dense_because

  def test_tensor_that_an_operator_writes(self):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].operators[0].outputs.append(0)
    (report,) = encode_pruned(written(model)).tensors
    assert "an operator writes it" in report.left_dense_because

  def test_other_types_need_zero_point_0(self):
    model = chain([sparse_values()], [(1, 5)], [0])
    tensor = model.subgraphs[0].tensors[0]
    tensor.type, tensor.shape = schema.TensorType.INT16, [16, 32]
    (report,) = encode_pruned(written(model)).tensors
    assert "zero points [5]" in report.left_dense_because

  def test_int8_zero_points_are_in_range(self):
    model = chain([sparse_values()], [(1, 128)], [0])
    (report,) = encode_pruned(written(model)).tensors
    assert "zero points [128]" in report.left_dense_because

  @pytest.mark.parametrize("operator", ["SVDF", "BATCH_MATMUL"])
  def test_kernels_that_read_weights_in_prepare(self, operator):
    model = chain([sparse_values()], [(1, 0)], [0])
    code = getattr(schema.BuiltinOperator, operator)
    model.operatorCodes[0].builtinCode = code
    model.operatorCodes[0].deprecatedBuiltinCode = code
    (report,) = encode_pruned(written(model)).tensors
    assert "Prepare" in report.left_dense_because

  def test_knows_every_input_upstream_keeps_constant(self):
    assert set(constant_inputs._REQUIRED_INPUTS) <= tflm_decode._READ_IN_PREPARE


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

  def test_parts_claimed_many_times_over(self):
    count = 2000
    builder = flatbuffers.Builder(1024)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    tensors = vector_of(builder, schema.SubGraphStartTensorsVector, tensor, count)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraph = schema.SubGraphEnd(builder)
    subgraphs = vector_of(builder, schema.ModelStartSubgraphsVector, subgraph, count)
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, subgraphs)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    with pytest.raises(InputError, match="claim more than"):
      read_model(bytes(builder.Output()))

  @pytest.mark.parametrize(
    ("field", "value", "message"),
    [
      ("inputs", [99], "tensor 99 of"),
      ("inputs", [-2], "tensor -2 of"),
      ("opcodeIndex", 7, "operator code 7 of 1"),
    ],
  )
  def test_indices_out_of_range(self, field, value, message):
    model = chain([sparse_values()], [(1, 0)], [0])
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
    model = chain([sparse_values()], [(1, 0)], [0])
    model.buffers[0].data = np.zeros(4, np.uint8)
    with pytest.raises(InputError, match="buffer 0"):
      read_model(written(model))

  @pytest.mark.parametrize("shape", [[32, 31], [-32, -32], [2**31 - 1] * 4])
  def test_shape_that_does_not_fit_the_data(self, shape):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[0].shape = shape
    with pytest.raises(InputError, match="1024 bytes of data"):
      encode_pruned(written(model))


def vector_of(builder, start, offset, count):
  start(builder, count)
  for _ in range(count):
    builder.PrependUOffsetTRelative(offset)
  return builder.EndVector()
