"""Models that functions make are admitted, and start from weights that repeat."""

import random

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import model_function, registry

LAYERS = tf.keras.layers


def _net(head=None, units=4, activation=None):
  return tf.keras.Sequential(
    [
      tf.keras.Input((6,)),
      LAYERS.Dense(units),
      LAYERS.BatchNormalization(),
      head or LAYERS.Dense(3, activation=activation),
    ]
  )


def _start(found, seed):
  model = found.build()
  found.set_initial_weights(model, seed)
  return model.get_weights()


def _equal(left, right):
  return [np.array_equal(a, b) for a, b in zip(left, right, strict=True)]


def test_random_weights_are_drawn_from_the_seed_whatever_was_built_before():
  first = model_function.admit(_net, tasks.CLASSIFY)
  _net()
  second = model_function.admit(_net, tasks.CLASSIFY)
  assert [x.name for x in first.spec.layers] == [x.name for x in second.spec.layers]
  assert all(_equal(_start(first, 1), _start(second, 1)))
  # Kernels differ; biases and batch norm start from constants.
  changed = [not same for same in _equal(_start(first, 1), _start(first, 2))]
  assert changed == [True, False, False, False, False, False, True, False]


def test_weights_that_the_function_loads_are_kept_and_others_drawn():
  pretrained = np.arange(24, dtype=np.float32).reshape(6, 4)

  def loading():
    model = _net()
    model.layers[0].set_weights([pretrained, np.ones(4, np.float32)])
    return model

  found = model_function.admit(loading, tasks.CLASSIFY)
  weights = _start(found, 5)
  np.testing.assert_array_equal(weights[0], pretrained)
  np.testing.assert_array_equal(weights[1], 1.0)
  np.testing.assert_array_equal(weights[6], _start(found, 5)[6])
  assert not np.array_equal(weights[6], _start(found, 6)[6])


def test_other_random_variables_repeat_too():
  def embedding():
    return tf.keras.Sequential(
      [
        tf.keras.Input((5,)),
        LAYERS.Embedding(4, 3),
        LAYERS.Flatten(),
        LAYERS.Dense(2),
      ]
    )

  found = model_function.admit(embedding, tasks.CLASSIFY)
  assert all(_equal(_start(found, 3), _start(found, 3)))
  assert not _equal(_start(found, 3), _start(found, 4))[0]


def test_the_callers_random_state_is_left_alone():
  random.seed(3)
  np.random.seed(3)
  expected = random.random(), np.random.rand()
  random.seed(3)
  np.random.seed(3)
  found = model_function.admit(_net, tasks.CLASSIFY)
  _start(found, 1)
  assert (random.random(), np.random.rand()) == expected


def test_a_softmax_is_taken_off_and_blocks_may_be_named():
  named = LAYERS.Dense(3, activation="softmax", name="head")
  config = named.get_config()

  def build():
    return _net(LAYERS.Dense.from_config(config))

  found = model_function.admit(build, tasks.CLASSIFY, [["head"], ["dense"]])
  assert [[found.spec.layers[i].name for i in b] for b in found.spec.blocks] == [
    ["head"],
    ["dense"],
  ]
  outputs = found.build()(np.random.default_rng(0).normal(size=(5, 6)))
  assert np.abs(np.sum(outputs, 1) - 1).max() > 1e-3
  with pytest.raises(InputError, match="must name its prunable layers"):
    model_function.admit(build, tasks.CLASSIFY, [["head"]])


def test_a_definition_is_taken_as_it_is():
  found = model_function.admit(
    lambda: registry.get_model("digits_cnn", (8, 8, 1), 10), tasks.CLASSIFY
  )
  assert found.name == "digits_cnn"
  with pytest.raises(InputError, match="leave the plan's blocks out"):
    model_function.admit(lambda: found, tasks.CLASSIFY, [["conv2"]])


def test_a_width_is_passed_on():
  def wide(width):
    return _net(units=int(4 * width))

  assert model_function.takes_width(wide)
  assert not model_function.takes_width(_net_without_arguments)
  found = model_function.admit(wide, tasks.CLASSIFY, (), 2.0)
  assert found.spec.sizes == (48, 24)


def _net_without_arguments():
  return _net()


def _fails():
  raise OSError("no such\nfile")


class _Subclassed(tf.keras.Model):
  pass


@pytest.mark.parametrize(
  ("model_fn", "said"),
  [
    (3, "must be a function"),
    (lambda: 3, "returned int; return a tf.keras.Model"),
    (_fails, "model _fails: OSError: no such file"),
    (_Subclassed, "subclassed"),
    (lambda: tf.keras.Sequential([LAYERS.Dense(2)]), "has no input shape"),
    (
      lambda: tf.keras.Sequential([tf.keras.Input((None, 2)), LAYERS.Dense(2)]),
      "every size of an example",
    ),
  ],
)
def test_what_cannot_be_used(model_fn, said):
  with pytest.raises(InputError, match=said):
    model_function.admit(model_fn, tasks.CLASSIFY)
