"""Each check names the layer, its type and the mend; and lets the good pass."""

import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import user_model_checks

layers = tf.keras.layers


class _Own(tf.keras.layers.Layer):
  def call(self, inputs):
    return inputs


class _OwnNorm(tf.keras.layers.BatchNormalization):
  __module__ = "keras.elsewhere"


def _functional(*inner):
  x = inputs = layers.Input((4, 4, 2))
  for layer in inner:
    x = layer(x)
  return tf.keras.Model(inputs, x)


def _frozen():
  layer = layers.Conv2D(2, 1, name="odd")
  layer.trainable = False
  return layer


@pytest.mark.parametrize(
  ("layer", "said"),
  [
    (lambda: tf.keras.Sequential([layers.Dense(2)], name="odd"), "is a model within"),
    (lambda: _Own(name="odd"), "is not Keras's own"),
    (lambda: layers.Dense(2, name="o/dd"), "has a '/' in its name; rename it"),
    (lambda: layers.Dense(2, dtype="float64", name="odd"), "computes in float64"),
    (
      lambda: layers.Dense(2, dtype="mixed_bfloat16", name="odd"),
      "computes in bfloat16",
    ),
    (
      lambda: layers.GlobalMaxPooling2D(data_format="channels_first", name="odd"),
      "has its channels first",
    ),
    (_frozen, "is frozen; set layer.trainable = True"),
    (lambda: layers.Normalization(name="odd"), "(mean:0, variance:0, count:0)"),
    (lambda: _OwnNorm(name="odd"), "is a variant of batch norm"),
    (
      lambda: layers.BatchNormalization(synchronized=True, name="odd"),
      "is a variant of batch norm",
    ),
    (
      lambda: layers.BatchNormalization(axis=[1, 3], name="odd"),
      "normalises over the axes [1, 3]; give it one axis",
    ),
  ],
)
def test_a_layer_that_does_not_do(layer, said):
  made = layer()
  with pytest.raises(InputError) as raised:
    user_model_checks.check_layers("net", _functional(made))
  message = str(raised.value)
  assert message.startswith(f"model net: layer {made.name!r} ({type(made).__name__}) ")
  assert said in message


def test_a_stateful_layer():
  inputs = layers.Input((3, 2), batch_size=1)
  model = tf.keras.Model(inputs, layers.LSTM(2, stateful=True, name="odd")(inputs))
  with pytest.raises(InputError, match=r"layer 'odd' \(LSTM\) is stateful"):
    user_model_checks.check_layers("net", model)


def test_a_layer_used_twice():
  twice = layers.Dense(2, name="twice")
  with pytest.raises(InputError, match=r"'twice' \(Dense\) is used 2 times; make"):
    user_model_checks.check_layers("net", _functional(twice, layers.ReLU(), twice))


def test_a_layer_used_in_another_model_is_used_once():
  shared = layers.Dense(2)
  _functional(shared)
  user_model_checks.check_layers("net", _functional(shared))


def test_a_kernel_of_two_layers():
  one, other = (layers.Dense(2, use_bias=False, name=n) for n in ("one", "other"))
  model = _functional(one, other)
  other.kernel = one.kernel
  other._trainable_weights = [one.kernel]
  message = r"'other' \(Dense\) shares 'one/kernel:0' with layer 'one'; give each"
  with pytest.raises(InputError, match=message):
    user_model_checks.check_layers("net", model)


@pytest.mark.parametrize(
  "layer",
  [
    layers.BatchNormalization(scale=False, center=False),
    layers.BatchNormalization(axis=1),
    layers.Dropout(0.5),
    layers.RandomFlip(),
    layers.SeparableConv2D(2, 1),
    layers.LayerNormalization(),
    layers.TimeDistributed(layers.Dense(2)),
  ],
)
def test_layers_that_do(layer):
  user_model_checks.check_layers("net", _functional(layer))


def test_sequential_and_functional_models_become_functional():
  sequential = tf.keras.Sequential([layers.Input((2,)), layers.Dense(3)], name="s")
  found = user_model_checks.as_functional("net", sequential)
  assert (type(found), found.name) == (type(_functional(layers.ReLU())), "s")
  assert found.layers[-1] is sequential.layers[-1]
  assert user_model_checks.as_functional("net", found) is found


def _of_subclass():
  class Net(tf.keras.Model):
    pass

  x = layers.Input((2,))
  return Net(x, x)


def _with_two_outputs():
  x = layers.Input((2,))
  return tf.keras.Model(x, [x, layers.ReLU()(x)])


def _with_two_inputs():
  x, y = layers.Input((2,)), layers.Input((2,))
  return tf.keras.Model([x, y], layers.Add()([x, y]))


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (_of_subclass, r"is a subclassed model \(Net\)"),
    (lambda: tf.keras.Sequential([layers.Dense(2)]), "has no input shape; begin it"),
    (_with_two_outputs, "has 1 inputs and 2 outputs"),
    (_with_two_inputs, "has 2 inputs and 1 outputs"),
  ],
)
def test_models_of_another_kind(make, said):
  with pytest.raises(InputError, match=f"model net: {said}"):
    user_model_checks.as_functional("net", make())


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_outputs(task):
  model = _functional(layers.Flatten(), layers.Dense(3))
  user_model_checks.check_output("net", model, 3, task)
  what = "class" if task.has_classes else "input value"
  message = rf"output is \(None, 3\), needed is \(None, 2\), one for each {what}"
  with pytest.raises(InputError, match=message):
    user_model_checks.check_output("net", model, 2, task)
  with pytest.raises(InputError, match=r"output is \(None, 4, 4, 3\)"):
    user_model_checks.check_output("net", _functional(layers.Dense(3)), 3, task)
