"""Weights in Keras's order and flat vectors lead to one another."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import keras_layout
from fedtiny_tff.model_structure import definition
from tests.fedtiny_tff import support

LAYERS = tf.keras.layers


def _branched() -> definition.ModelDefinition:
  """Two branches, so that Keras's order is not that of any list of ours."""

  def build() -> tf.keras.Model:
    inputs = tf.keras.Input([3], name="in")
    left = LAYERS.Dense(2, name="left")(inputs)
    right = LAYERS.BatchNormalization(name="norm")(
      LAYERS.Dense(2, name="right")(inputs)
    )
    return tf.keras.Model(
      inputs, LAYERS.Dense(2, name="out")(LAYERS.Add()([right, left]))
    )

  return definition.define_model("branched", build)


@pytest.mark.parametrize("make", [support.cnn, _branched])
def test_vectors_are_the_models_own(make):
  found = make()
  weights = support.random_weights(found, 3)
  mask = np.ones(found.spec.size, bool)
  model = support.plain_model(found, weights, mask)
  layout = keras_layout.lay_out(found)
  arrays = type(weights)(*(np.asarray(vector) for vector in weights))
  trainable, others = layout.read(arrays)
  for values, variables in (
    (trainable, model.trainable_variables),
    (others, model.non_trainable_variables),
  ):
    for value, variable in zip(values, variables, strict=True):
      np.testing.assert_array_equal(value, variable.numpy())
  for before, after in zip(arrays, layout.write(trainable, others), strict=True):
    np.testing.assert_array_equal(before, after)


def test_weights_of_another_model_or_without_numbers_are_refused():
  layout = keras_layout.lay_out(_branched())
  model = _branched().build()
  trainable = [each.numpy() for each in model.trainable_variables]
  others = [each.numpy() for each in model.non_trainable_variables]
  with pytest.raises(InputError, match="are not this model's"):
    layout.write(trainable[1:], others)
  trainable[0][0] = np.nan
  with pytest.raises(InputError, match="NaN"):
    layout.write(trainable, others)
