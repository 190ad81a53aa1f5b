"""Sizes of models by hand, and of int8 weights against converted files."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.model_structure import definition, model_profile
from fedtiny_tff.models import registry, table
from tests.fedtiny_tff import support
from tests.tflite_export import models
from tflite_export.conversion.convert import convert
from tflite_export.file_format import flatbuffer_model, stored_weights

layers = tf.keras.layers


def test_a_measured_profile_by_hand():
  profile = model_profile.profile_model(support.cnn())
  # conv1 9*1*2 = 18 weights, conv2 9*2*3 = 54, logits 9 and 3 biases, batch norm
  # 2 * (2 + 3): 94 parameters.
  assert profile.parameters == 94
  assert profile.prunable == (54, 9)
  # 16 positions each; the classifier once.
  assert profile.prunable_macs == (54 * 16, 9)
  assert profile.dense_macs == 18 * 16
  assert profile.macs == 1161
  assert profile.unpruned_parameters == 31
  assert profile.batch_norm_channels == 2 + 3
  # conv1, batch norm, ReLU: 32 each; the second three: 48 each; pool 3, logits 3.
  assert profile.activation_values == 3 * 32 + 3 * 48 + 6
  # The first ReLU's, which conv2 reads; conv1 reads the image, the classifier is none.
  assert profile.convolution_inputs == (32,)
  # Weights, and a bias for each of 2 + 3 + 3 outputs.
  assert profile.int8_bytes == 18 + 54 + 9 + 4 * 8


def test_inputs_that_other_layers_need_are_not_for_convolutions_alone():
  keras = tf.keras.layers

  def build():
    inputs = tf.keras.Input((4, 4, 1))
    x = keras.Conv2D(2, 3, padding="same", name="first")(inputs)
    # Both convolutions read it, and a sum, whose gradient needs no values.
    shared = keras.ReLU(name="shared")(x)
    left = keras.Conv2D(2, 1, name="left")(shared)
    right = keras.Conv2D(2, 1, name="right")(shared)
    total = keras.Add(name="total")([shared, left, right])
    # A batch norm needs what it normalises.
    y = keras.Conv2D(3, 1, name="middle")(total)
    y = keras.Add(name="again")([y, keras.BatchNormalization(name="norm")(y)])
    # A depthwise convolution has a kernel of its own.
    z = keras.Conv2D(2, 1, name="beside")(y)
    z = keras.Concatenate(name="joined")([z, keras.DepthwiseConv2D(1, name="own")(y)])
    z = keras.GlobalAveragePooling2D(name="pool")(z)
    return tf.keras.Model(inputs, keras.Dense(2, name="logits")(z))

  profile = model_profile.profile_model(definition.define_model("branches", build))
  # `shared` and `total`.
  assert profile.convolution_inputs == (32, 32)


def test_a_layer_that_is_used_twice_has_two_outputs():
  keras = tf.keras.layers

  def build():
    inputs = tf.keras.Input((4, 4, 1))
    rectify = keras.ReLU(name="rectify")
    x = rectify(keras.Conv2D(2, 3, padding="same", name="first")(inputs))
    x = rectify(keras.Conv2D(2, 1, name="second")(x))
    x = keras.Conv2D(2, 1, name="third")(x)
    x = keras.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, keras.Dense(2, name="logits")(x))

  profile = model_profile.profile_model(definition.define_model("twice", build))
  assert profile.convolution_inputs == (32, 32)
  # Three convolutions and the ReLU, twice, of 32 each; pool and logits.
  assert profile.activation_values == 5 * 32 + 2 + 2


def _profile(shape, inner):
  """Measures a model that ends in a classifier of two."""

  def build():
    inputs = tf.keras.Input(shape)
    x = tf.keras.layers.Flatten()(inner(inputs))
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="logits")(x))

  return model_profile.profile_model(definition.define_model("inner", build))


def _states(x):
  out, hidden, carry = tf.keras.layers.LSTM(
    4, return_sequences=True, return_state=True, unroll=True
  )(x)
  return tf.keras.layers.Concatenate()([tf.keras.layers.Flatten()(out), hidden, carry])


def test_recurrent_kernels_are_applied_at_every_step_and_every_output_is_kept():
  profile = _profile((6, 5), _states)
  # Four gates of 4, from 5 values and 4 states, at 6 steps.
  assert profile.dense_macs == 6 * (5 + 4) * 16
  assert profile.prunable_macs == (2 * (24 + 8),)
  # Sequence and two states; joined and flat: 24, 32, 32; logits.
  assert profile.activation_values == (24 + 4 + 4) + (24 + 32 + 32) + 2


def test_attention_projects_tokens_and_multiplies_them_with_each_other():
  def attend(x):
    y = tf.keras.layers.Cropping1D((0, 2))(x)
    found, scores = tf.keras.layers.MultiHeadAttention(2, 3, value_dim=7)(
      value=y, query=x, return_attention_scores=True
    )
    return tf.keras.layers.Concatenate()(
      [tf.keras.layers.Flatten()(each) for each in (found, scores)]
    )

  profile = _profile((6, 5), attend)
  # Queries and outputs of 6 tokens, keys and values of 4; 6 * 4 products in two heads.
  projections = 6 * 5 * 2 * 3 + 4 * 5 * 2 * 3 + 4 * 5 * 2 * 7 + 6 * 2 * 7 * 5
  assert profile.dense_macs == projections + 6 * 4 * 2 * (3 + 7)
  # Cropped; found and scores, again flat, joined, and flat; logits.
  assert profile.activation_values == 20 + 2 * (30 + 48) + 2 * 78 + 2


@pytest.mark.parametrize(
  ("shape", "layer", "macs"),
  [
    # Both ways.
    ((6, 5), lambda: layers.Bidirectional(layers.SimpleRNN(4, unroll=True)),
     2 * 6 * (5 + 4) * 4),
    # Each of 6 steps, and 4 steps of each of 3.
    ((6, 5), lambda: layers.TimeDistributed(layers.Dense(7)), 6 * 5 * 7),
    ((3, 4, 5), lambda: layers.TimeDistributed(layers.GRU(2, unroll=True)),
     3 * 4 * (5 + 2) * 6),
    # Nine weights at 8 * 8 positions, of 1 and 2 channels to 4 gates of 2, at 3 steps.
    ((3, 8, 8, 1), lambda: layers.ConvLSTM2D(2, 3, padding="same"),
     3 * 64 * 9 * (1 + 2) * 8),
    ((3, 8, 8, 1), lambda: layers.ConvLSTM2D(2, 3, strides=2, return_sequences=True),
     3 * 9 * 9 * (1 + 2) * 8),
    ((6, 5), lambda: layers.RNN(
      [layers.LSTMCell(4), layers.GRUCell(3)], unroll=True),
     6 * ((5 + 4) * 16 + (4 + 3) * 9)),
    ((2, 3, 4, 5), lambda: layers.Conv3DTranspose(7, 2, strides=2), 24 * 8 * 5 * 7),
  ],
)  # fmt: skip
def test_kernels_of_cells_and_of_what_is_wrapped_count(shape, layer, macs):
  def inner(inputs):
    return layer()(inputs)

  assert _profile(shape, inner).dense_macs == macs


def test_depthwise_kernels_count_as_dense():
  def build():
    inputs = tf.keras.Input((4, 4, 3))
    x = tf.keras.layers.DepthwiseConv2D(
      3, padding="same", depth_multiplier=2, use_bias=False
    )(inputs)
    x = tf.keras.layers.Flatten()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="logits")(x))

  profile = model_profile.profile_model(definition.define_model("depthwise", build))
  # 16 positions * 9 * 3 channels * 2 outputs of each; 96 * 2 for the classifier.
  assert profile.dense_macs == 16 * 54
  assert profile.prunable_macs == (192,)
  assert profile.parameters == 54 + 192 + 2
  # Biases of 3 * 2 channels and 2 logits.
  assert profile.int8_bytes == 54 + 192 + 4 * (6 + 2)


def test_transposed_convolutions_are_applied_at_their_inputs():
  def build():
    inputs = tf.keras.Input((4, 4, 3))
    x = tf.keras.layers.Conv2DTranspose(5, 2, strides=2, use_bias=False)(inputs)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="logits")(x))

  profile = model_profile.profile_model(definition.define_model("transposed", build))
  # 16 inputs * 2 * 2 * 3 channels to 5.
  assert profile.dense_macs == 16 * 60
  assert profile.int8_bytes == 60 + 10 + 4 * (5 + 2)


def _constant_bytes(content: bytes) -> int:
  """Sums the constant inputs of convolutions and dense layers, each once."""
  model = flatbuffer_model.read_model(content)
  tensors = model.subgraphs[0].tensors
  consumed = {
    index
    for operator in model.subgraphs[0].operators
    if flatbuffer_model.operator_code(model, operator)
    in (
      stored_weights.CONV_2D,
      stored_weights.DEPTHWISE_CONV_2D,
      stored_weights.FULLY_CONNECTED,
    )
    for index in operator.inputs[1:]
    if index >= 0
  }
  return sum(flatbuffer_model.constant(model, tensors[i]).nbytes for i in consumed)


# resnet8 has two convolutions without batch norm, ds_cnn depthwise kernels.
@pytest.mark.parametrize("name", ["digits_cnn", "resnet8", "ds_cnn"])
def test_int8_bytes_are_those_of_a_converted_file(name):
  row = table.usual(name)
  found = registry.get_model(*row)
  model = found.build()
  models.randomise(model, seed=0)
  inputs = np.random.default_rng(1).normal(size=(4, *row.shape))
  content = convert(model, "int8_dense", inputs.astype(np.float32))
  profile = model_profile.profile_model(found)
  assert profile.int8_bytes == _constant_bytes(content)
  assert profile.int8_bytes < len(content)


def test_groups_are_those_of_the_spec():
  found = registry.get_model("digits_cnn", (8, 8, 1), 10)
  assert model_profile.profile_model(found).channel_blocks == (1,) * 5
  pairs = dataclasses.replace(found, spec=found.spec.with_channel_block(4))
  # Ten classes have pairs, but no fours.
  assert model_profile.profile_model(pairs).channel_blocks == (4, 4, 4, 4, 2)
