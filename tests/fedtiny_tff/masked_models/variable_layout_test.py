"""Variables laid out flat and cut again."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.masked_models import variable_layout


@pytest.fixture(name="model")
def fixture_model():
  layers = tf.keras.layers
  inputs = tf.keras.Input([2])
  x = layers.Dense(3, name="hidden")(inputs)
  model = tf.keras.Model(inputs, layers.Dense(1, name="logits")(x))
  model.get_layer("hidden").set_weights(
    [np.arange(6.0).reshape(2, 3), np.array([10.0, 11.0, 12.0])]
  )
  model.get_layer("logits").set_weights(
    [np.array([[20.0], [21.0], [22.0]]), np.array([30.0])]
  )
  return model


MASKS = {"logits": np.array([[True], [False], [True]])}


def test_masked_variables_lie_apart(model):
  layout, weights, mask = variable_layout.lay_out(model, MASKS)
  assert layout.shapes == ((2, 3), (3,), (3, 1), (1,))
  assert layout.masked == (False, False, True, False)
  assert layout.sizes == (3, 10, 0, 0)
  assert weights.prunable.tolist() == [20, 21, 22]
  assert weights.dense.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 30]
  assert mask.tolist() == [True, False, True]


@pytest.mark.parametrize(
  "masks", [{}, MASKS, MASKS | {"hidden": np.ones((2, 3), bool)}]
)
def test_splitting_gives_the_variables_back(model, masks):
  layout, weights, mask = variable_layout.lay_out(model, masks)
  assert mask.shape == weights.prunable.shape
  for found, variable in zip(layout.split(weights), model.variables, strict=True):
    np.testing.assert_array_equal(found, variable)


def test_constants_come_after_the_variables(model):
  constants = (np.array(0.5, np.float32), np.array([[7.0, 8.0]], np.float32))
  layout, weights, _ = variable_layout.lay_out(model, MASKS, constants)
  assert layout.shapes[4:] == ((), (1, 2))
  assert weights.dense.tolist()[-4:] == [30, 0.5, 7, 8]
  found = layout.split(weights)
  assert float(found[4]) == 0.5
  assert found[5].numpy().tolist() == [[7, 8]]
