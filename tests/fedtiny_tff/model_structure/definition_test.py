"""What is pruned in a model, in which blocks, and how it is initialised."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition
from tests.fedtiny_tff import support


def _build_mixed():
  layers = tf.keras.layers
  inputs = layers.Input((8, 8, 3))
  x = layers.Conv2D(4, 3, name="stem")(inputs)
  x = layers.DepthwiseConv2D(3, name="depthwise")(x)
  x = layers.Conv2D(8, 1, name="pointwise")(x)
  x = layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)
  x = layers.Conv2DTranspose(4, 2, name="transposed")(x)
  x = layers.GlobalAveragePooling2D()(x)
  x = layers.Dense(6, name="hidden")(x)
  return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))


def test_all_but_the_first_convolution_and_depthwise_kernels_is_prunable():
  names = definition.default_prunable_layers(_build_mixed())
  assert names == ("pointwise", "hidden", "logits")


def test_without_convolutions_every_dense_layer_is_prunable():
  assert definition.default_prunable_layers(support.build_linear()) == ("logits",)


def test_a_definition_by_hand():
  found = support.cnn()
  assert [(x.name, x.shape) for x in found.spec.layers] == [
    ("conv2", (3, 3, 2, 3)),
    ("logits", (3, 3)),
  ]
  assert found.spec.blocks == ((0,), (1,))


def test_without_blocks_there_are_three_contiguous_groups():
  def build():
    inputs = tf.keras.Input((3,))
    x = inputs
    for number in range(7):
      x = tf.keras.layers.Dense(3, name=f"dense{number}")(x)
    return tf.keras.Model(inputs, x)

  # Cuts at 7/3 = 2.33 and 14/3 = 4.67.
  assert definition.define_model("deep", build).spec.blocks == (
    (0, 1),
    (2, 3, 4),
    (5, 6),
  )


def test_a_model_with_nothing_to_prune_is_refused():
  def build():
    inputs = tf.keras.Input((4, 4, 1))
    x = tf.keras.layers.Conv2D(2, 4, name="only")(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Flatten()(x))

  with pytest.raises(InputError, match="model 'bare' has nothing to prune: it needs"):
    definition.define_model("bare", build)


def test_blocks_that_leave_a_layer_out_are_refused():
  with pytest.raises(ValueError, match="must name its prunable layers"):
    definition.define_model("tiny", support.build_cnn, (("conv2",),))


def test_blocks_that_name_an_unknown_layer_are_refused():
  with pytest.raises(ValueError, match=r"once each, got \[.*'conv9'"):
    definition.define_model("tiny", support.build_cnn, (("conv2",), ("conv9",)))


@support.quick
@given(st.integers(1, 40), st.integers(1, 12))
def test_groups_are_contiguous_never_empty_and_near_equal(count, wanted):
  blocks = definition.contiguous_blocks(count, wanted)
  assert len(blocks) == min(count, wanted)
  assert list(itertools.chain(*blocks)) == list(range(count))
  sizes = [len(block) for block in blocks]
  assert min(sizes) >= 1
  assert max(sizes) - min(sizes) <= 2


def _drawn(seed):
  model = _build_mixed()
  definition.initialize(model, seed)
  return {v.name: v.numpy() for v in model.trainable_variables}


def test_every_kernel_depends_on_the_seed_only():
  tf.random.set_seed(1)
  first = _drawn(3)
  tf.random.set_seed(2)
  again, other = _drawn(3), _drawn(4)
  kernels = [name for name in first if "kernel" in name]
  # stem, depthwise, pointwise, two of the separable one, transposed, two dense.
  assert len(kernels) == 8
  for name in kernels:
    np.testing.assert_array_equal(first[name], again[name], err_msg=name)
    assert (first[name] != other[name]).any(), name


def test_layers_of_one_shape_are_drawn_differently():
  def build():
    inputs = tf.keras.Input((5,))
    x = tf.keras.layers.Dense(5, name="a")(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(5, name="b")(x))

  model = build()
  definition.initialize(model, 0)
  a, b = (model.get_layer(name).kernel.numpy() for name in "ab")
  assert (a != b).any()


def test_the_layers_own_initialiser_is_used():
  inputs = tf.keras.Input((20,))
  outputs = tf.keras.layers.Dense(
    20, name="d", kernel_initializer=tf.keras.initializers.RandomUniform(2.0, 3.0)
  )(inputs)
  model = tf.keras.Model(inputs, outputs)
  definition.initialize(model, 0)
  kernel = model.get_layer("d").kernel.numpy()
  assert kernel.min() >= 2.0
  assert kernel.max() <= 3.0
  assert np.unique(kernel).size > 100
  # Biases keep what their layer gave them.
  assert not model.get_layer("d").bias.numpy().any()
