import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from tests.tflite_export import calibrating, models
from tflite_export.artifacts import VerificationError
from tflite_export.conversion import float_activations
from tflite_export.conversion.convert import convert, float_file
from tflite_export.file_format.activation_ranges import activations


@pytest.fixture(name="model", scope="module")
def fixture_model():
  return calibrating.plain_cnn()


@pytest.fixture(name="content", scope="module")
def fixture_content(model):
  return float_file(model)


@pytest.fixture(name="rows", scope="module")
def fixture_rows():
  return np.random.default_rng(0).normal(size=(12, 8, 8, 2)).astype(np.float32)


def test_activations_are_the_models(model, content, rows):
  names = activations(content)
  wanted = {"serving_default_inputs:0": rows, "StatefulPartitionedCall:0": model(rows)}
  inner = tf.keras.Model(model.inputs, model.get_layer("relu").output)
  [relu] = [name for name in names if name.startswith("plain_cnn/relu/")]
  wanted[relu] = inner(rows)
  found = list(float_activations.batches(content, rows, 4))
  assert len(found) == 3
  together = [np.concatenate(parts) for parts in zip(*found, strict=True)]
  for name, value in wanted.items():
    np.testing.assert_allclose(together[names.index(name)], value, atol=1e-5)


def test_at_100_percent_ranges_are_the_converters(model, content, rows):
  found = float_activations.percentile_ranges(content, rows, 100)
  wanted = calibrating.converters_ranges(content, rows)
  np.testing.assert_allclose(found.minimum, wanted.minimum, atol=1e-5)
  np.testing.assert_allclose(found.maximum, wanted.maximum, atol=1e-5)
  assert convert(model, "int8_dense", found) == convert(model, "int8_dense", rows)


def test_percentiles_cut_tails(content, rows):
  whole = float_activations.percentile_ranges(content, rows, 100)
  cut = float_activations.percentile_ranges(content, rows, 95)
  # The first activation is the input itself, of both signs.
  part = (whole.maximum[0] - whole.minimum[0]) / 2048
  ordered = np.sort(rows, axis=None)
  kept = int(np.ceil(0.95 * rows.size))
  assert cut.minimum[0] == pytest.approx(ordered[-kept], abs=part)
  assert cut.maximum[0] == pytest.approx(ordered[kept - 1], abs=part)
  assert (cut.minimum >= whole.minimum).all()
  assert (cut.maximum <= whole.maximum).all()
  assert (cut.minimum <= np.maximum(whole.minimum, 0)).all()


def test_cut_ranges_bring_no_operators(model, content, rows):
  cut = convert(
    model, "int8_dense", float_activations.percentile_ranges(content, rows, 95)
  )
  whole = convert(model, "int8_dense", rows)
  assert cut != whole
  assert len(activation_types(cut)) == len(activation_types(whole))


def activation_types(content):
  from tflite_export.file_format import flatbuffer_model

  model = flatbuffer_model.read_model(content)
  return [
    flatbuffer_model.operator_code(model, operator)
    for operator in model.subgraphs[0].operators
  ]


def test_an_activation_that_overflows_is_refused():
  model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
  model.set_weights([np.full((2, 1), 3e38), np.zeros(1)])
  content = float_file(model)
  # LiteRT ends at the largest float32, of either sign.
  rows = np.array([[0.1, 0.2], [1, 1], [-1, -1]], np.float32)
  assert float_activations.percentile_ranges(content, rows[:1], 99)
  with pytest.raises(InputError, match=r"'Stateful.*' has the range \[-3.4.*, 3.4"):
    float_activations.percentile_ranges(content, rows, 99)


def test_a_file_that_litert_does_not_run_is_refused(content, rows):
  with pytest.raises(VerificationError, match="cannot run the float file"):
    float_activations.percentile_ranges(content, rows[:, :4], 99)


def test_control_flow_is_refused():
  inputs = tf.keras.Input((6, 3))
  model = tf.keras.Model(inputs, tf.keras.layers.GRU(4)(inputs))
  models.randomise(model, seed=0)
  rows = np.zeros((1, 6, 3), np.float32)
  with pytest.raises(InputError, match="control flow"):
    float_activations.percentile_ranges(float_file(model), rows, 99)
