import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import calibrating, models
from tflite_export.conversion.convert import float_file
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.activation_ranges import (
  ActivationRanges,
  activation_indices,
  activations,
  write_ranges,
)


def ranges(low, high, names=("a", "b")):
  return ActivationRanges(
    names, *(np.asarray(ends, np.float32) for ends in (low, high))
  )


@pytest.fixture(name="content", scope="module")
def fixture_content():
  return float_file(calibrating.plain_cnn())


def test_activations_are_what_operators_read_and_write(content):
  names = activations(content)
  # Input, convolution, pool, convolution, flat, logits.
  assert len(names) == len(set(names)) == 6
  assert names[0] == "serving_default_inputs:0"
  assert names[-1] == "StatefulPartitionedCall:0"
  model = flatbuffer_model.read_model(content)
  kinds = {model.subgraphs[0].tensors[i].type for i in activation_indices(model)}
  assert kinds == {schema.TensorType.FLOAT32}


def test_ranges_are_written_and_nothing_else(content):
  names = activations(content)
  low, high = -np.arange(6.0), 1 + np.arange(6.0)
  model = flatbuffer_model.read_model(write_ranges(content, ranges(low, high, names)))
  tensors = model.subgraphs[0].tensors
  for place, index in enumerate(activation_indices(model)):
    assert tensors[index].quantization.min == [low[place]]
    assert tensors[index].quantization.max == [high[place]]
    tensors[index].quantization = None
  before = flatbuffer_model.read_model(content)
  for index, tensor in enumerate(before.subgraphs[0].tensors):
    assert tensors[index].name == tensor.name
    if flatbuffer_model.is_constant(before, tensor):
      np.testing.assert_array_equal(
        flatbuffer_model.constant(model, tensors[index]),
        flatbuffer_model.constant(before, tensor),
      )


def test_ranges_of_another_model_are_refused(content):
  names = activations(content)
  changed = (*names[:-1], "other")
  with pytest.raises(InputError, match=r"of another model .*'(other|Stateful.*)'"):
    write_ranges(content, ranges(np.zeros(6), np.ones(6), changed))
  with pytest.raises(InputError, match="in another order"):
    write_ranges(content, ranges(np.zeros(6), np.ones(6), names[::-1]))
  with pytest.raises(InputError, match=r"2 activations .* one with 6"):
    write_ranges(content, ranges([0, 0], [1, 1]))


@pytest.mark.parametrize(
  ("low", "high"),
  [
    ([0, np.nan], [1, 1]),
    ([0, -np.inf], [1, np.inf]),
    ([0, 0], [1, np.inf]),
    # What no example at all gives.
    ([0, 3e38], [1, -3e38]),
  ],
)
def test_what_is_no_range_is_refused_by_name(low, high):
  with pytest.raises(InputError, match="activation 'b' has the range"):
    ranges(low, high)


def test_a_constant_activation_has_a_range():
  assert ranges([0, 2], [0, 2]).names == ("a", "b")


def test_vectors_must_fit_the_names():
  with pytest.raises(ValueError, match=r"2 tensors have \(1,\) minima"):
    ranges([0], [1, 1])


def test_control_flow_is_refused():
  inputs = tf.keras.Input((6, 3))
  outputs = tf.keras.layers.Dense(2)(tf.keras.layers.GRU(4)(inputs))
  model = tf.keras.Model(inputs, outputs)
  models.randomise(model, seed=0)
  with pytest.raises(InputError, match=r"control flow \(3 subgraphs\).* unroll=True"):
    activations(float_file(model))
