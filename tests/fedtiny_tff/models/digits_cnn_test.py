"""The digits network: layers, sizes and blocks."""

import tensorflow as tf

from fedtiny_tff.models import definition, digits_cnn


def test_sizes_by_hand():
  found = definition.define_model(
    "digits_cnn", lambda: digits_cnn.build((8, 8, 1), 10), digits_cnn.BLOCK_LAYERS
  )
  assert {layer.name: layer.size for layer in found.spec.layers} == {
    "conv2": 9 * 16 * 32,
    "conv3": 9 * 32 * 32,
    "conv4": 9 * 32 * 64,
    "dense1": 64 * 64,
    "logits": 64 * 10,
  }
  assert found.spec.blocks == ((0,), (1, 2), (3, 4))


def test_it_maps_images_to_logits():
  model = digits_cnn.build((8, 8, 1), 10)
  assert model.output_shape == (None, 10)
  # Prunable 36,992; stem 144; batch norm 2 * 144; biases 64 + 10.
  assert sum(v.shape.num_elements() for v in model.trainable_variables) == (
    4608 + 9216 + 18432 + 4096 + 640 + 144 + 288 + 74
  )
  norms = [x for x in model.layers if isinstance(x, tf.keras.layers.BatchNormalization)]
  assert len(norms) == 4
  # Convolutions have no bias: batch norm brings its own.
  assert not any(
    layer.use_bias for layer in model.layers if isinstance(layer, tf.keras.layers.Conv2D)
  )
