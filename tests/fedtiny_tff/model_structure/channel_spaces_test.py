"""Channel spaces: by hand, of every model of the registry, and what is refused."""

import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import channel_spaces, definition
from fedtiny_tff.model_structure.channel_spaces import Axis
from fedtiny_tff.models import registry
from tests.fedtiny_tff.models import support

layers = tf.keras.layers


def _spaces(make, shape=(4, 4, 2)):
  """Analyses a model: `make` turns its input into what a classifier reads."""

  def build():
    inputs = layers.Input(shape, name="image")
    x = make(inputs)
    return tf.keras.Model(inputs, layers.Dense(3, name="logits")(x))

  return channel_spaces.find_spaces(definition.define_model("made", build))


def _axes(found):
  return {f"{each.layer}/{each.name}": each.axes for each in found.variables}


def test_a_plain_network():
  def make(x):
    x = layers.Conv2D(5, 3, name="conv1")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU()(x)
    x = layers.ZeroPadding2D()(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(6, 1, use_bias=False, name="conv2")(x)
    return layers.GlobalAveragePooling2D()(x)

  found = _spaces(make)
  # The image, both convolutions, the logits.
  assert found.channels == (2, 5, 6, 3)
  assert found.is_whole == (True, False, False, True)
  image, first, second, logits = map(Axis, range(4))
  assert _axes(found) == {
    "conv1/kernel": (None, None, image, first),
    "conv1/bias": (first,),
    "norm/gamma": (first,),
    "norm/beta": (first,),
    "norm/moving_mean": (first,),
    "norm/moving_variance": (first,),
    "depthwise/depthwise_kernel": (None, None, first, None),
    "depthwise/bias": (first,),
    "conv2/kernel": (None, None, first, second),
    "logits/kernel": (second, logits),
    "logits/bias": (logits,),
  }
  vectors = {f"{each.layer}/{each.name}": each.vector for each in found.variables}
  assert [name for name, vector in vectors.items() if vector == "prunable"] == [
    "conv2/kernel", "logits/kernel",
  ]  # fmt: skip
  assert vectors["conv1/kernel"] == "dense"
  assert vectors["norm/moving_mean"] == "batch_norm_mean"
  assert vectors["norm/moving_variance"] == "batch_norm_variance"
  makers = {
    each.layer: each.made_space for each in found.variables if each.makes_channels
  }
  assert makers == {"conv1": 1, "conv2": 2, "logits": 3}


def test_sums_join_spaces_also_in_a_row():
  def make(x):
    parts = [layers.Conv2D(4, 1, name=f"conv{i}")(x) for i in range(4)]
    first = layers.Add()(parts[:2])
    second = layers.Add()(parts[2:])
    x = layers.Add()([second, first])
    return layers.GlobalAveragePooling2D()(x)

  found = _spaces(make)
  assert found.channels == (2, 4, 3)
  kernels = [each for each in found.variables if each.layer.startswith("conv")]
  assert {each.axes[-1] for each in kernels} == {Axis(1)}


def test_a_sum_with_the_input_stays_whole():
  def make(x):
    y = layers.Conv2D(2, 1, name="conv")(x)
    return layers.GlobalAveragePooling2D()(layers.Add()([y, x]))

  found = _spaces(make)
  assert found.channels == (2, 3)
  assert found.is_whole == (True, True)


def test_flatten_repeats_channels():
  def make(x):
    x = layers.Flatten()(layers.Conv2D(5, 3, name="conv")(x))
    x = layers.BatchNormalization(name="norm")(x)
    return layers.Dense(7, name="hidden")(x)

  found = _spaces(make)
  # Two rows and two columns of 5 channels.
  assert _axes(found)["hidden/kernel"] == (Axis(1, 4), Axis(2))
  assert _axes(found)["norm/gamma"] == (Axis(1, 4),)
  assert found.channels == (2, 5, 7, 3)


def test_repeated_inputs_stay_whole():
  def make(x):
    x = layers.Concatenate()([x, x])
    return layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, name="conv")(x))

  found = _spaces(make)
  assert (found.channels, found.is_whole) == ((2, 4, 5, 3), (True, True, False, True))


def _one(layer, *arguments, **options):
  def apply(x):
    return layer(*arguments, **options, name="odd")(x)

  return apply


def _twice(x):
  conv = layers.Conv2D(2, 1, name="odd")
  return conv(conv(x))


@pytest.mark.parametrize(
  "make",
  [
    _one(layers.Conv2D, 4, 1, groups=2),
    _one(layers.DepthwiseConv2D, 1, depth_multiplier=2),
    _one(layers.Reshape, (8, 4)),
    _one(layers.Softmax),
    _one(layers.BatchNormalization, axis=1),
    _one(layers.Conv2D, 4, 1, data_format="channels_first"),
    _one(layers.PReLU),
    lambda x: layers.Concatenate(name="odd")([x, layers.Conv2D(2, 1)(x)]),
    lambda x: layers.Add(name="odd")([layers.Conv2D(n, 1)(x) for n in (1, 2)]),
    _twice,
  ],
  ids=[
    "groups", "depth_multiplier", "reshape", "softmax", "batch_norm_axis",
    "channels_first", "own_weights", "concatenate", "broadcast", "shared_layer",
  ],
)  # fmt: skip
def test_layers_of_other_kinds_are_refused(make):
  with pytest.raises(InputError, match=r"layer 'odd' \(\w+\): what it does") as caught:
    _spaces(lambda x: layers.Flatten()(make(x)))
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_model_is_understood(name):
  found = support.get_model(name, support.TINY[name], 3, 0.3)
  spaces = channel_spaces.find_spaces(found)
  model = support.graph_model(name, support.TINY[name], 3, 0.3)
  lengths = dict.fromkeys(("prunable", "dense", "batch_norm_mean"), 0)
  for each in spaces.variables:
    for length, axis in zip(each.shape, each.axes, strict=True):
      assert axis is None or length == axis.repeats * spaces.channels[axis.space]
    if each.vector in lengths:
      lengths[each.vector] += each.size
  assert lengths["prunable"] == found.spec.size
  trainable = sum(v.shape.num_elements() for v in model.trainable_variables)
  assert lengths["prunable"] + lengths["dense"] == trainable
  assert sum(v.shape.num_elements() for v in model.variables) == (
    trainable + 2 * lengths["batch_norm_mean"]
  )
  assert spaces.is_whole[0]
  assert spaces.is_whole[-1]
  assert not any(spaces.is_whole[2:-1])


def test_units_of_resnets_share_channels_through_their_shortcuts():
  found = channel_spaces.find_spaces(support.get_model("resnet8", (9, 5, 2), 3, 1.0))
  made = {
    each.layer: each.made_space for each in found.variables if each.makes_channels
  }
  assert made["stem"] == made["unit1_conv2"] != made["unit1_conv1"]
  assert made["unit2_shortcut"] == made["unit2_conv2"] != made["stem"]
  assert found.channels == (2, 16, 16, 32, 32, 64, 64, 3)
