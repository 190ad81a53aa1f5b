"""Every activation of every model is found, and has the file's values on new inputs."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry
from tests.fedtiny_tff import support as core_support
from tests.tflite_export import calibrating, models
from tflite_export.conversion import activation_graph as activation_graph_module
from tflite_export.conversion import float_activations
from tflite_export.conversion.activation_graph import activation_graph
from tflite_export.conversion.convert import float_file
from tflite_export.file_format.activation_ranges import activations


def on_clients(graph, model, rows):
  """Computes the activations as clients do: all rows at once."""
  values = [tf.constant(variable.numpy()) for variable in model.variables]
  values += [tf.constant(constant) for constant in graph.constants]
  return [x.numpy() for x in tf.function(lambda x: graph(x, values))(tf.constant(rows))]


def check(model, monkeypatch):
  content = float_file(model)
  # Converting twice would be most of the time.
  monkeypatch.setattr(activation_graph_module, "float_file", lambda model: content)
  graph = activation_graph(model)
  assert graph.names == activations(content)
  shape = model.inputs[0].shape[1:]
  rows = np.random.default_rng(9).normal(0.2, 1.5, size=(3, *shape)).astype(np.float32)
  [wanted] = float_activations.batches(content, rows, 3)
  found = on_clients(graph, model, rows)
  for name, value, other in zip(graph.names, wanted, found, strict=True):
    close = 2e-4 * np.abs(value).max()
    assert other.dtype == np.float32
    np.testing.assert_allclose(
      np.sort(other, axis=None), np.sort(value, axis=None), atol=close, err_msg=name
    )
  return graph


@pytest.mark.parametrize("name", core_support.quick_models(registry.MODELS))
def test_all_activations_of_our_models(name, monkeypatch):
  shape = (8, 8, 1) if name in ("digits_cnn", "autoencoder") else (32, 32, 3)
  model = registry.get_model(name, shape, 4, 0.1).build()
  models.randomise(model, seed=0)
  graph = check(model, monkeypatch)
  assert graph.constants == ()


@pytest.mark.parametrize("name", calibrating.OWN_MODELS)
def test_all_activations_of_own_models(name, monkeypatch):
  check(calibrating.OWN_MODELS[name](), monkeypatch)


def test_pruned_layers_and_sums(monkeypatch):
  check(models.pruned(0.05)[0], monkeypatch)


def test_the_graph_holds_no_weights():
  model = tf.keras.Sequential([tf.keras.Input((64,)), tf.keras.layers.Dense(64)])
  models.randomise(model, seed=0)
  graph = activation_graph(model)
  assert len(graph.graph.SerializeToString()) < 4 * 64 * 64 / 2
  assert None not in graph.variables
  # Other weights give other activations.
  rows = np.ones((2, 64), np.float32)
  values = [np.zeros((64, 64), np.float32), np.full(64, 7, np.float32)]
  *_, outputs = tf.function(lambda x: graph(x, values))(tf.constant(rows))
  assert np.unique(outputs).tolist() == [7]


def test_a_layer_that_is_never_on_is_found_by_name():
  """Two dead layers have the same values; on other weights they would not."""
  inputs = tf.keras.Input((4,))
  x = tf.keras.layers.Dense(4, activation="relu", name="first")(inputs)
  x = tf.keras.layers.Dense(4, activation="relu", name="second")(x)
  model = tf.keras.Model(
    inputs, tf.keras.layers.Dense(2, name="logits")(x), name="dead"
  )
  for name in ("first", "second"):
    model.get_layer(name).set_weights([np.eye(4), np.full(4, -1e4)])
  graph = activation_graph(model)
  relus = [tensor for tensor in graph.tensors if "Relu" in tensor]
  assert relus == ["dead/first/Relu:0", "dead/second/Relu:0"]


def test_an_activation_that_cannot_be_computed_is_named():
  inputs = tf.keras.Input((6, 3))
  outputs = tf.keras.layers.Dense(2)(tf.keras.layers.LSTM(4)(inputs))
  model = tf.keras.Model(inputs, outputs, name="fused")
  models.randomise(model, seed=0)
  with pytest.raises(
    InputError, match=r"model 'fused': its activation 'fused/lstm.*' cannot be measured"
  ) as caught:
    activation_graph(model)
  assert "samples of the server" in str(caught.value)
  assert "\n" not in str(caught.value)
