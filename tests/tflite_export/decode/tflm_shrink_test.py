"""Tests of all steps together, with names and without."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.burdened import burdened, outputs
from tflite_export.decode import tflm_shrink_steps
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.runtimes import litert


class TestShrink:
  def test_whole(self):
    content = write_compact(burdened())
    shrunk = shrink(content).model_bytes
    np.testing.assert_array_equal(outputs(shrunk), outputs(content))
    model = read_model(shrunk)
    assert not any(tensor.name for tensor in model.subgraphs[0].tensors)
    assert (model.description, model.signatureDefs, model.metadata) == (
      None,
      None,
      None,
    )
    assert (
      len({bytes(each.data) for each in model.buffers[1:]}) == len(model.buffers) - 1
    )
    assert all(each.data is not None for each in model.buffers[1:])

  def test_says_where_tensors_stood(self):
    model = burdened()
    shrunk = shrink(write_compact(model))
    (places,) = shrunk.tensors
    assert places == tuple(
      index for index in range(len(model.subgraphs[0].tensors)) if index != 3
    )

  def test_kept_names_make_a_file_for_litert(self):
    content = models.converted("int8_dense", 0.2)
    kept = shrink(content, keep_names=True).model_bytes
    assert len(shrink(content).model_bytes) < len(kept) < len(content)
    given, model = read_model(content), read_model(kept)
    assert [each.name for each in model.subgraphs[0].tensors] == [
      each.name for each in given.subgraphs[0].tensors
    ]
    assert model.signatureDefs[0].signatureKey == b"serving_default"
    assert b"min_runtime_version" in [each.name for each in model.metadata]
    inputs = models.random_inputs(8)
    np.testing.assert_array_equal(litert.run(kept, inputs), litert.run(content, inputs))
    np.testing.assert_array_equal(outputs(kept), outputs(content))

  def test_same_input_same_bytes_and_again_nothing(self):
    content = models.converted("int8_dense", 0.2)
    shrunk = shrink(content)
    assert shrink(content) == shrunk
    again = shrink(shrunk.model_bytes)
    assert again.model_bytes == shrunk.model_bytes
    assert again.tensors == (tuple(range(len(shrunk.tensors[0]))),)

  def test_floats(self):
    content = models.converted("fp32_dense", 0.2)
    np.testing.assert_array_equal(
      outputs(shrink(content).model_bytes), outputs(content)
    )

  def test_damaged(self):
    content = models.converted("int8_dense", 0.2)
    for length in range(0, len(content), 997):
      with pytest.raises(InputError):
        shrink(content[:length])


class TestMemoryPlan:
  def test_stays_with_all_its_tensors(self):
    model = burdened()
    count = len(model.subgraphs[0].tensors)
    plan = np.array([1, 0, count, *[-1] * count], np.int32)
    model.buffers.append(schema.BufferT(data=plan.view(np.uint8)))
    model.metadata.append(
      schema.MetadataT(
        name=tflm_shrink_steps.PLAN_METADATA, buffer=len(model.buffers) - 1
      )
    )
    content = write_compact(model)
    shrunk = shrink(content).model_bytes
    found = read_model(shrunk)
    assert len(found.subgraphs[0].tensors) == count
    assert [each.name for each in found.metadata] == [tflm_shrink_steps.PLAN_METADATA]
    assert bytes(found.buffers[found.metadata[0].buffer].data) == plan.tobytes()
    np.testing.assert_array_equal(outputs(shrunk), outputs(content))
