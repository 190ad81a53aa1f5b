"""Models by name, and what is said when one does not fit."""

import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry


@pytest.mark.parametrize(
  ("name", "shape"), [("digits_cnn", (8, 8, 1)), ("resnet8", (32, 32, 3))]
)
def test_every_model_can_be_defined_and_built(name, shape):
  found = registry.get_model(name, shape, 10)
  assert found.name == name
  model = found.build()
  assert model.input_shape == (None, *shape)
  assert model.output_shape == (None, 10)
  # Layer names are the same at every build, so the spec finds its kernels.
  for layer in found.spec.layers:
    assert tuple(model.get_layer(layer.name).kernel.shape) == layer.shape


def test_the_table_holds_what_is_tested():
  assert set(registry.MODELS) == {"digits_cnn", "resnet8"}


def test_an_unknown_name_is_refused_with_the_known_ones():
  message = "unknown model 'resnet9': choose one of digits_cnn, resnet8"
  with pytest.raises(InputError, match=message):
    registry.get_model("resnet9", (8, 8, 1), 10)


@pytest.mark.parametrize("name", ["digits_cnn", "resnet8"])
def test_a_shape_that_does_not_fit_is_the_inputs_fault(name):
  message = rf"model '{name}' cannot be built for input shape \(7,\): "
  with pytest.raises(InputError, match=message) as raised:
    registry.get_model(name, (7,), 10)
  assert "\n" not in str(raised.value)
