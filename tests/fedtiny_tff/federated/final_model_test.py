"""The final model is the masked state, whatever the state holds where it is pruned."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated import final_model, states
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from tests.fedtiny_tff import support


def _state(definition, mask) -> states.ServerState:
  # Not masked beforehand: the masks alone must take care of it.
  weights = support.random_weights(definition, 1)
  numbers = ModelWeights(*(np.asarray(vector) for vector in weights))
  return states.ServerState(numbers, np.asarray(mask), np.int32(3))


def _some(definition) -> np.ndarray:
  return np.asarray(support.random_mask(definition.spec.size, 20))


def test_by_hand():
  # Two features to two logits, without bias: what is pruned does not count.
  weights = ModelWeights(support.floats([1, 2, 3, 4]), *([support.floats([])] * 3))
  mask = np.array([True, False, False, True])
  model = final_model.finalize(
    support.linear(), states.ServerState(weights, mask, np.int32(0))
  )
  assert model.get_layer("logits").kernel.numpy().tolist() == [[1, 0], [0, 4]]
  assert model(support.floats([[10, 100]])).numpy().tolist() == [[10, 400]]


def test_it_computes_what_the_masked_state_does():
  definition = support.cnn()
  mask = _some(definition)
  state = _state(definition, mask)
  model = final_model.finalize(definition, state)
  expected = support.plain_model(definition, state.weights, mask)
  images = support.random_images(8)[0]
  np.testing.assert_allclose(
    model(images, training=False), expected(images, training=False), rtol=1e-6
  )
  for name, part in definition.spec.masks_by_layer(mask).items():
    kernel = model.get_layer(name).kernel.numpy()
    assert not kernel[~part].any()
    assert kernel[part].all()


def test_its_layers_are_plain_ones():
  definition = support.cnn()
  model = final_model.finalize(definition, _state(definition, _some(definition)))
  # The input's name counts the models built.
  found, plain = (
    [(layer.name, type(layer)) for layer in each.layers][1:]
    for each in (model, definition.build())
  )
  assert found == plain


def test_a_dense_state_keeps_every_weight():
  definition = support.cnn()
  state = _state(definition, np.ones(definition.spec.size, bool))
  model = final_model.finalize(definition, state)
  kernels = [model.get_layer(x.name).kernel.numpy() for x in definition.spec.layers]
  flat = np.concatenate([kernel.ravel() for kernel in kernels])
  np.testing.assert_array_equal(flat, state.weights.prunable)


@pytest.mark.parametrize(
  ("layer", "place"), [("conv2", (0, 0, 1, 2)), ("logits", (2, 1))]
)
def test_a_pruned_weight_that_stays_is_a_defect(monkeypatch, layer, place):
  definition = support.cnn()
  mask = np.ones(definition.spec.size, bool)
  # In a kernel [3, 3, 2, 3] that is weight 1 · 3 + 2; [3, 3] come after its 54.
  mask[{"conv2": 5, "logits": 54 + 2 * 3 + 1}[layer]] = False
  state = _state(definition, mask)
  leaky = support.plain_model(definition, state.weights, tf.ones_like(mask))
  assert leaky.get_layer(layer).kernel.numpy()[place] != 0.0
  monkeypatch.setattr(tfmot_masking, "strip", lambda masked: leaky)
  message = f"^layer {layer}: 1 pruned weights are not zero$"
  with pytest.raises(RuntimeError, match=message):
    final_model.finalize(definition, state)
