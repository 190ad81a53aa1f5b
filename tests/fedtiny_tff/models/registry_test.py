"""What holds for every model, and what is said when one does not fit."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry
from pipelines.settings import run_flags
from tests.fedtiny_tff.models import support

# Small enough to draw and train; channels are still more than one.
_WIDTH = 0.1
_CLASSIFIERS = [n for n, entry in registry.MODELS.items() if entry.task.has_classes]


def test_the_names_are_the_documented_ones():
  assert list(registry.MODELS) == [
    "resnet18", "vgg11_bn", "resnet8", "ds_cnn", "mobilenet_v1_025",
    "mobilenet_v1_sparse", "mobilenet_v2_sparse", "small_cnn", "digits_cnn",
    "autoencoder",
  ]  # fmt: skip
  described = run_flags.FLAGS["model"].help
  assert all(name in described for name in registry.MODELS)


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_model_builds_for_odd_images(name):
  shape = support.TINY[name]
  found = support.get_model(name, shape, 3, _WIDTH)
  model = support.graph_model(name, shape, 3, _WIDTH)
  assert (found.name, model.name) == (name, name)
  assert model.input_shape == (None, *shape)
  assert model.output_shape == (None, found.task.num_outputs(name, shape, 3))
  # Layer names are the same at every build, so the spec finds its kernels.
  for layer in found.spec.layers:
    assert tuple(model.get_layer(layer.name).kernel.shape) == layer.shape


@pytest.mark.parametrize("name", registry.MODELS)
def test_blocks_cover_the_prunable_layers_once_and_in_order(name):
  found = support.get_model(name, support.TINY[name], 3, _WIDTH)
  # Keras lists a shortcut between its unit's convolutions; blocks are still apart.
  layers = list(itertools.chain(*map(sorted, found.spec.blocks)))
  assert layers == list(range(len(found.spec.layers)))
  assert all(found.spec.blocks)
  assert support.blocks(found) == registry.MODELS[name].block_layers
  last = "logits" if found.task.has_classes else "reconstruction"
  assert support.blocks(found)[-1][-1] == last


@pytest.mark.parametrize("name", _CLASSIFIERS)
def test_first_convolution_and_depthwise_kernels_stay_dense(name):
  prunable = support.sizes(support.get_model(name, support.TINY[name], 3, _WIDTH))
  layers = support.graph_model(name, support.TINY[name], 3, _WIDTH).layers
  depthwise = tf.keras.layers.DepthwiseConv2D
  convolutions = [x for x in layers if type(x) is tf.keras.layers.Conv2D]
  assert convolutions[0].input.shape[-1] == 2
  assert convolutions[0].name not in prunable
  assert not any(x.name in prunable for x in layers if isinstance(x, depthwise))
  dense = [x for x in layers if isinstance(x, tf.keras.layers.Dense)]
  assert set(prunable) == {x.name for x in (*convolutions[1:], *dense)}


@pytest.mark.parametrize("name", _CLASSIFIERS)
def test_conventions(name):
  layers = support.graph_model(name, support.TINY[name], 3, _WIDTH).layers
  norms = [x for x in layers if isinstance(x, tf.keras.layers.BatchNormalization)]
  assert {(x.momentum, x.epsilon) for x in norms} == {(0.9, 1e-5)}
  convolutions = [
    x
    for x in layers
    if isinstance(x, (tf.keras.layers.Conv2D, tf.keras.layers.DepthwiseConv2D))
  ]
  # ResNet-8's two shortcuts have no batch norm, as in MLPerf Tiny.
  assert len(norms) == len(convolutions) - (2 if name == "resnet8" else 0)
  assert not any(x.use_bias for x in convolutions)
  assert all(x.use_bias for x in layers if isinstance(x, tf.keras.layers.Dense))
  pooling = tf.keras.layers.GlobalAveragePooling2D
  assert [x.keepdims for x in layers if isinstance(x, pooling)] == [False]


def _weights(name, seed):
  model = support.get_model(name, support.TINY[name], 3, _WIDTH).build()
  definition.initialize(model, seed)
  return {x.name: x.numpy() for x in model.trainable_variables}


@pytest.mark.parametrize("name", registry.MODELS)
def test_the_seed_alone_decides_the_initial_weights(name):
  tf.random.set_seed(1)
  first = _weights(name, 3)
  tf.random.set_seed(2)
  again, other = _weights(name, 3), _weights(name, 4)
  for weight, values in first.items():
    np.testing.assert_array_equal(values, again[weight], err_msg=weight)
    assert ("kernel" in weight) == bool((values != other[weight]).any()), weight


@pytest.mark.parametrize("name", ["ds_cnn", "mobilenet_v2_sparse", "vgg11_bn"])
def test_the_masks_adapter_takes_the_model(name):
  found = support.get_model(name, support.TINY[name], 3, _WIDTH)
  masked = tfmot_masking.MaskedModel(found)
  masked.assign(masked.read(), tf.zeros(found.spec.size, tf.bool))
  model = tfmot_masking.strip(masked)
  for layer in found.spec.layers:
    assert not model.get_layer(layer.name).kernel.numpy().any()
  logits = model(tf.ones((2, *support.TINY[name])))
  np.testing.assert_array_equal(logits, np.zeros((2, 3)))


def test_only_vgg_needs_more_than_a_pixel():
  smallest = {name: entry.smallest_side for name, entry in registry.MODELS.items()}
  assert smallest == dict.fromkeys(registry.MODELS, 1) | {
    "vgg11_bn": 32,
    "autoencoder": None,
  }


@pytest.mark.parametrize("name", _CLASSIFIERS)
def test_the_smallest_image_and_width_are_enough(name):
  side = registry.MODELS[name].smallest_side
  assert side is not None
  found = registry.get_model(name, (side, side, 1), 2, 1e-6)
  # One channel everywhere, but for MobileNetV2's expansion by six and the logits.
  outputs = {layer.shape[-1] for layer in found.spec.layers}
  assert outputs == {1, 2} | ({6} if name == "mobilenet_v2_sparse" else set())


def test_an_unknown_name_is_refused_with_the_known_ones():
  message = "unknown model 'resnet9': choose one of resnet18, .*, autoencoder; did you mean resnet8\\?$"
  with pytest.raises(InputError, match=message):
    registry.get_model("resnet9", (8, 8, 1), 10)


@pytest.mark.parametrize("name", _CLASSIFIERS)
@pytest.mark.parametrize("shape", [(7,), (8, 8), (2, 8, 8, 1)])
def test_images_have_three_dimensions(name, shape):
  with pytest.raises(InputError) as raised:
    registry.get_model(name, shape, 10)
  assert str(raised.value) == (
    f"model {name!r} cannot be built for input shape {shape}: it needs (height, "
    "width, channels); give examples such a shape (rows and windows of tables by "
    "--feature_shape), or take a model of your own, which may have any"
  )


@pytest.mark.parametrize(
  ("name", "shape", "smallest"),
  [
    ("vgg11_bn", (31, 32, 3), "(32, 32, 1)"),
    ("vgg11_bn", (32, 8, 3), "(32, 32, 1)"),
    ("resnet8", (0, 8, 3), "(1, 1, 1)"),
    ("resnet8", (8, 8, 0), "(1, 1, 1)"),
  ],
)
def test_the_smallest_image_is_named(name, shape, smallest):
  with pytest.raises(InputError) as raised:
    registry.get_model(name, shape, 10)
  assert str(raised.value) == (
    f"model {name!r} cannot be built for input shape {shape}: the smallest is "
    f"{smallest}"
  )


@pytest.mark.parametrize("width", [0.0, -1.0, 1001.0, float("nan"), float("inf")])
def test_a_width_out_of_range_is_refused(width):
  message = rf"width must be in \(0, 1000\], got {width:g}"
  with pytest.raises(InputError, match=message):
    registry.get_model("digits_cnn", (8, 8, 1), 10, width)


@pytest.mark.parametrize("classes", [0, None])
def test_no_class_is_refused(classes):
  message = f"'resnet8' needs at least 1 class, got {classes}"
  with pytest.raises(InputError, match=message):
    registry.get_model("resnet8", (8, 8, 1), classes)


@pytest.mark.parametrize("shape", [(), (0,), (8, 0, 1)])
def test_an_autoencoder_needs_values(shape):
  with pytest.raises(InputError) as raised:
    registry.get_model("autoencoder", shape)
  assert str(raised.value) == (
    f"model 'autoencoder' cannot be built for input shape {shape}: it needs one "
    "dimension or more, each of at least 1"
  )


def test_tasks():
  assert [n for n in registry.MODELS if n not in _CLASSIFIERS] == ["autoencoder"]
  assert registry.task_of("autoencoder") is tasks.RECONSTRUCT
  assert registry.task_of("resnet8") is tasks.CLASSIFY
  assert registry.task_of("some/where.keras") is tasks.CLASSIFY
  with pytest.raises(InputError, match="unknown model 'resnet9'"):
    registry.task_of("resnet9")


def test_the_models_definition_knows_its_task():
  for name in ("digits_cnn", "autoencoder"):
    found = support.get_model(name, support.TINY[name], 3, _WIDTH)
    assert found.task is registry.task_of(name)
