"""Tests of each step: fewer bytes, and bit for bit the same outputs in TFLM."""

import copy

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_export.burdened import burdened, outputs
from tests.tflite_export.files import WIDTH, chain, sparse_values, written
from tflite_export.artifacts import VerificationError
from tflite_export.decode import tflm_shrink_steps
from tflite_export.decode.tflm_shrink_steps import ANONYMOUS_STEPS, STEPS
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.runtimes import tflm


@pytest.mark.parametrize(
  "step", [*ANONYMOUS_STEPS, *STEPS], ids=lambda each: each.__name__
)
class TestEachStep:
  def test_saves_bytes_and_changes_no_output(self, step):
    model = burdened()
    before = write_compact(copy.deepcopy(model))
    step(model)
    after = write_compact(model)
    assert len(after) < len(before)
    np.testing.assert_array_equal(outputs(after), outputs(before))

  def test_again_changes_nothing(self, step):
    model = burdened()
    step(model)
    once = write_compact(copy.deepcopy(model))
    step(model)
    assert write_compact(model) == once


class TestZeroPoints:
  def test_different_ones_stay(self):
    model = chain([sparse_values()], [(1, 0)], [0])
    quantization = model.subgraphs[0].tensors[0].quantization
    quantization.scale, quantization.zeroPoint = [0.1] * 3, [0, 0, 1]
    tflm_shrink_steps.merge_zero_points(model)
    assert quantization.zeroPoint == [0, 0, 1]
    quantization.zeroPoint = [5, 5, 5]
    tflm_shrink_steps.merge_zero_points(model)
    assert quantization.zeroPoint == [5]


def with_bias(output_scale):
  """Returns a dense layer whose product of scales is 0.02 * 0.02."""
  model = chain([sparse_values(density=1.0)], [(1, 0)], [0])
  graph = model.subgraphs[0]
  bias = np.arange(WIDTH, dtype=np.int32)
  model.buffers.append(schema.BufferT(data=bias.view(np.uint8)))
  graph.tensors.append(
    schema.TensorT(
      shape=[WIDTH],
      type=schema.TensorType.INT32,
      buffer=2,
      quantization=schema.QuantizationParametersT(scale=[0.0004], zeroPoint=[0]),
    )
  )
  graph.operators[0].inputs[2] = 3
  graph.tensors[2].quantization.scale = [output_scale]
  return model


class TestBiasQuantisation:
  ROWS = np.random.default_rng(0).normal(size=(4, WIDTH)).astype(np.float32)

  # 0.0004 is 0.4 or 0.04 or 0.011 of the output scale, where TFLM would refuse or
  # nearly so; 0.001 of it, where it cannot.
  @pytest.mark.parametrize(
    ("output_scale", "kept"), [(0.001, True), (0.01, True), (0.036, True), (0.4, False)]
  )
  def test_dense_layer_keeps_what_is_checked(self, output_scale, kept):
    model = with_bias(output_scale)
    before = tflm.run(written(model), self.ROWS).stored_outputs
    tflm_shrink_steps.drop_bias_quantisation(model)
    assert (model.subgraphs[0].tensors[3].quantization is not None) == kept
    after = tflm.run(written(model), self.ROWS).stored_outputs
    np.testing.assert_array_equal(after, before)
    assert len(np.unique(after)) > 2

  def test_tflm_does_check(self):
    model = with_bias(0.01)
    model.subgraphs[0].tensors[3].quantization = None
    with pytest.raises(VerificationError, match=r"scale_diff|0\.02"):
      tflm.run(written(model), self.ROWS)

  @pytest.mark.parametrize("use", ["output", "weight"])
  def test_other_uses_keep_it(self, use):
    model = with_bias(0.4)
    graph = model.subgraphs[0]
    if use == "output":
      graph.outputs.append(3)
    else:
      other = copy.deepcopy(graph.operators[0])
      other.inputs = [3, 0, -1]
      graph.operators.append(other)
    tflm_shrink_steps.drop_bias_quantisation(model)
    assert graph.tensors[3].quantization is not None
