"""Which layers a purpose leaves to prune, and their blocks."""

import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition, pruning_scope
from fedtiny_tff.models import registry
from tests.fedtiny_tff.models import support

layers = tf.keras.layers


def _network():
  """Nine prunable layers of which two are 1×1, of stride 1 and without groups."""
  image = layers.Input((8, 8, 3))
  x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(image)
  x = layers.Conv2D(8, 1, name="point1")(x)
  x = layers.Conv2D(8, 3, padding="same", name="spatial")(x)
  x = layers.Conv2D(8, (1, 3), padding="same", name="row")(x)
  x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
  x = layers.DepthwiseConv2D(1, name="depthwise")(x)
  x = layers.Conv2D(8, 1, strides=2, name="strided")(x)
  x = layers.Conv2D(8, 1, dilation_rate=1, name="point2")(x)
  x = layers.GlobalAveragePooling2D()(x)
  return tf.keras.Model(image, layers.Dense(4, name="head")(x))


_BLOCKS = (("point1", "spatial"), ("row", "grouped", "strided"), ("point2", "head"))


def _names(found):
  return [layer.name for layer in found.spec.layers]


def test_any_leaves_a_model_as_it_is():
  made = definition.define_model("mixed", _network, _BLOCKS)
  assert pruning_scope.prune_for(made, "any") is made


def test_only_pointwise_kernels_are_left_for_xnnpack():
  made = definition.define_model("mixed", _network, _BLOCKS)
  found = pruning_scope.prune_for(made, "xnnpack")
  assert _names(found) == ["point1", "point2"]
  # The middle block has lost all its layers.
  assert support.blocks(found) == (("point1",), ("point2",))
  assert (found.name, found.build, found.task) == (made.name, made.build, made.task)
  # The given definition is not changed.
  assert len(_names(made)) == 7


def test_mobilenet_v1_loses_its_classifier_only():
  plain = support.get_model("mobilenet_v1_sparse", (8, 8, 1), 10, 0.25)
  found = pruning_scope.prune_for(plain, "xnnpack")
  assert _names(found) == [f"unit{n}_pointwise" for n in range(1, 14)]
  assert [len(block) for block in found.spec.blocks] == [5, 3, 3, 1, 1]


def test_mobilenet_v2_loses_its_classifier_only():
  plain = support.get_model("mobilenet_v2_sparse", (8, 8, 3), 10, 0.25)
  found = pruning_scope.prune_for(plain, "xnnpack")
  assert set(_names(plain)) - set(_names(found)) == {"logits"}
  assert len(found.spec.blocks) == len(plain.spec.blocks)


@pytest.mark.parametrize("name", ["resnet18", "digits_cnn", "autoencoder"])
def test_a_model_without_any_is_refused(name):
  # ResNet's shortcuts are 1×1, but of stride 2.
  shape, classes = ((12,), None) if name == "autoencoder" else ((8, 8, 1), 10)
  plain = registry.get_model(name, shape, classes)
  with pytest.raises(InputError, match=f"'{name}' has no prunable 1×1 convolution"):
    pruning_scope.prune_for(plain, "xnnpack")
