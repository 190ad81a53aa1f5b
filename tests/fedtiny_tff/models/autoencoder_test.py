"""The autoencoder is MLPerf Tiny's, but for the biases that batch norm cancels."""

import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from tests.fedtiny_tff.models import support

_ENCODER = tuple(f"encoder{n}" for n in (1, 2, 3, 4))
_DECODER = tuple(f"decoder{n}" for n in (1, 2, 3, 4))


def test_layers():
  assert support.sizes(support.get_model("autoencoder", (640,), None)) == {
    "encoder1": 640 * 128,
    **dict.fromkeys(_ENCODER[1:], 128 * 128),
    "bottleneck": 128 * 8,
    "decoder1": 8 * 128,
    **dict.fromkeys(_DECODER[1:], 128 * 128),
    "reconstruction": 128 * 640,
  }


def test_parameters():
  # Reference: 269,992 with biases and moving statistics, of 8 · 128 + 8 units each.
  units = 8 * 128 + 8
  parameters = support.profile("autoencoder", (640,), None).parameters
  assert parameters == 269_992 - units - 2 * units == 266_896


def test_blocks():
  assert support.blocks(support.get_model("autoencoder", (640,), None)) == (
    _ENCODER,
    ("bottleneck", *_DECODER),
    ("reconstruction",),
  )


@pytest.mark.parametrize(
  ("shape", "values"), [((1,), 1), ((640,), 640), ((5, 2), 10), ((2, 3, 4, 5), 120)]
)
def test_any_shape_comes_back_flat(shape, values):
  model = support.graph_model("autoencoder", shape, None, 0.1)
  assert model.input_shape == (None, *shape)
  assert model.output_shape == (None, values)


def test_width_multiplies_the_bottleneck_too():
  weights = support.sizes(support.get_model("autoencoder", (4,), None, 0.5))
  assert weights["encoder1"] == 4 * 64
  assert weights["bottleneck"] == 64 * 4
  assert weights["reconstruction"] == 64 * 4


def test_classes_are_ignored():
  assert support.get_model("autoencoder", (4,), 3, 0.5).spec == (
    support.get_model("autoencoder", (4,), None, 0.5).spec
  )


def test_its_task():
  assert support.get_model("autoencoder", (4,), None, 0.5).task is tasks.RECONSTRUCT


def test_only_the_output_has_a_bias_and_no_batch_norm():
  layers = support.graph_model("autoencoder", (640,), None, 0.1).layers
  dense = [x for x in layers if isinstance(x, tf.keras.layers.Dense)]
  assert [x.name for x in dense if x.use_bias] == ["reconstruction"]
  norms = [x for x in layers if isinstance(x, tf.keras.layers.BatchNormalization)]
  assert len(norms) == len(dense) - 1
  assert {(x.momentum, x.epsilon) for x in norms} == {(0.9, 1e-5)}
