"""Eager Keras models survive that others are built in graphs."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import keras_graphs, model_profile
from tests.fedtiny_tff import support

_INPUTS = np.ones([1, 4, 4, 1], np.float32)


def _build_in_a_graph():
  with tf.Graph().as_default():
    support.build_cnn()


def test_keras_itself_breaks_eager_models():
  # The reason for the module: when Keras no longer does, it can go.
  model = support.build_cnn()
  _build_in_a_graph()
  assert tf.keras.layers.BatchNormalization in keras_graphs.switched_classes()
  with pytest.raises(ValueError, match="invalid state"):
    model(_INPUTS)


def test_eager_models_are_spared():
  model = support.build_cnn()
  expected = model(_INPUTS)
  with keras_graphs.sparing_eager_models():
    _build_in_a_graph()
  assert not keras_graphs.switched_classes()
  np.testing.assert_array_equal(model(_INPUTS), expected)


def test_also_when_building_fails():
  with pytest.raises(RuntimeError), keras_graphs.sparing_eager_models():
    _build_in_a_graph()
    raise RuntimeError
  assert not keras_graphs.switched_classes()


def test_inside_a_graph_nothing_is_switched_back():
  with tf.Graph().as_default(), keras_graphs.sparing_eager_models():
    support.build_cnn()
  assert keras_graphs.switched_classes()


@pytest.mark.parametrize(
  "build", [model_profile.profile_model, tfmot_masking.vector_sizes]
)
def test_the_functions_that_only_look_at_a_model_spare_others(build):
  model = support.build_cnn()
  expected = model(_INPUTS)
  # Sizes of a definition that was seen before would be remembered.
  build(dataclasses.replace(support.cnn(), name="unseen"))
  np.testing.assert_array_equal(model(_INPUTS), expected)
