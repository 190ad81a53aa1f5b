import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from tests.tflite_export import files, models
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import FORMATS, convert
from tflite_export.file_format.flatbuffer_model import constant, read_model
from tflite_export.file_format.flatbuffer_writer import write_model
from tflite_export.file_format.stored_weights import stored_weights
from tflite_export.runtimes.weights import check_masked_zeros

layers = tf.keras.layers


@pytest.mark.parametrize("format", FORMATS)
def test_density_is_the_share_the_masks_keep(format):
  _, masks = models.pruned(0.2)
  weights = check_masked_zeros(models.converted(format), masks)
  # stem 432 weights keep 86, pointwise 256 keep 51 twice, expand 512 keep 102,
  # head 128 keep 26; quantisation can only add zeros.
  kept = 86 + 51 + 51 + 102 + 26
  assert weights.density <= kept / 1584
  if not format.startswith("int8"):
    assert weights.density == kept / 1584
    assert weights.layer_density["stem"] == 86 / 432


@pytest.mark.parametrize(
  ("format", "value_bytes"), [("fp32_sparse", 4), ("fp16_sparse", 2)]
)
def test_masked_layers_that_save_bytes_are_stored_sparse(format, value_bytes):
  _, masks = models.pruned(0.2)
  stored_sparse = check_masked_zeros(models.converted(format), masks).stored_sparse
  assert stored_sparse == {
    layer: mask.size * value_bytes >= 512 for layer, mask in masks.items()
  }


@pytest.mark.parametrize("format", ["fp32_dense", "fp16_dense", "int8_dense"])
def test_dense_files_store_nothing_sparse(format):
  _, masks = models.pruned(0.2)
  stored_sparse = check_masked_zeros(models.converted(format), masks).stored_sparse
  assert stored_sparse == dict.fromkeys(masks, False)


@pytest.mark.parametrize("format", FORMATS)
def test_drifted_weights_are_named_and_counted(format):
  # The opposite defect, same check: masks that want three more zeros than there are.
  _, masks = models.pruned(0.2)
  stricter = masks["second_pointwise"].copy()
  heaviest = strongest(models.pruned(0.2)[0].get_layer("second_pointwise"), 3)
  stricter[heaviest] = False
  with pytest.raises(VerificationError, match=r"'second_pointwise': 3 of 208 masked"):
    check_masked_zeros(
      models.converted(format), {**masks, "second_pointwise": stricter}
    )


def strongest(layer, count):
  """Returns indices of the largest weights: quantisation keeps them non-zero."""
  kernel = np.abs(models.kernel_of(layer).numpy())
  return np.unravel_index(np.argsort(kernel, axis=None)[-count:], kernel.shape)


@pytest.mark.parametrize("format", ["fp32_sparse", "int8_dense"])
def test_model_whose_zeros_drifted_before_conversion_is_refused(format):
  model = models.small_classifier()
  masks = models.prune(model, 0.2)
  kernel = model.get_layer("expand").kernel
  drift = np.where(
    np.cumsum(~masks["expand"]).reshape(masks["expand"].shape) <= 5, 1, 0
  )
  kernel.assign(kernel.numpy() + drift * ~masks["expand"])
  with pytest.raises(VerificationError, match="'expand': 5 of 410 masked"):
    check_masked_zeros(convert(model, format, models.random_inputs(4)), masks)


@pytest.mark.parametrize("format", ["fp32_dense", "fp32_sparse", "int8_dense"])
def test_layers_of_equal_shape_are_not_mixed_up(format):
  _, masks = models.pruned(0.2)
  swapped = {
    "first_pointwise": masks["second_pointwise"],
    "second_pointwise": masks["first_pointwise"],
  }
  with pytest.raises(VerificationError, match="masked weights are not zero"):
    check_masked_zeros(models.converted(format), swapped)


@pytest.mark.parametrize("format", FORMATS)
def test_each_layer_is_found_alone(format):
  _, masks = models.pruned(0.2)
  for layer, mask in masks.items():
    density = check_masked_zeros(models.converted(format), {layer: mask}).density
    assert density <= mask.mean()


@pytest.mark.parametrize(
  "masks",
  [
    {"nowhere": np.ones((1, 1, 16, 16), bool)},
    {"first_pointwise": np.ones((1, 1, 16, 17), bool)},
    {"first_pointwise": np.ones((16,), bool)},
    {"pool": np.ones((16, 16), bool)},
  ],
)
def test_layer_that_is_not_in_the_file_is_an_error(masks):
  with pytest.raises(VerificationError, match=f"'{next(iter(masks))}' .* not found"):
    check_masked_zeros(models.converted("fp32_dense"), masks)


@pytest.mark.parametrize("format", ["fp32_dense", "fp32_sparse", "int8_sparse"])
def test_layer_pruned_to_nothing_is_found(format):
  model = models.small_classifier()
  masks = models.prune(model, 0.0, layers=("first_pointwise", "expand"))
  content = convert(model, format, models.random_inputs(4))
  assert check_masked_zeros(content, masks).density == 0
  with pytest.raises(VerificationError, match="'stem'"):
    check_masked_zeros(content, {**masks, "stem": np.zeros((3, 3, 3, 16), bool)})


def test_mask_that_is_not_bool_is_refused():
  # ~1 is -2 in NumPy: an integer mask would be checked wrongly without a sound.
  with pytest.raises(InputError, match=r"'head' must be bool, got int64"):
    check_masked_zeros(
      models.converted("fp32_dense"), {"head": np.ones((32, 4), np.int64)}
    )


def test_without_masks_density_is_one():
  assert check_masked_zeros(models.converted("fp32_dense"), {}).density == 1


def inner(name):
  """A block used as a layer: its layers' names are nested in the file."""
  inputs = layers.Input((8, 8, 4))
  x = layers.Conv2D(4, 3, padding="same", use_bias=False, name=f"{name}_conv")(inputs)
  return tf.keras.Model(
    inputs, layers.ReLU()(layers.BatchNormalization()(x)), name=name
  )


def nested_images():
  inputs = layers.Input((8, 8, 4))
  x = inner("left")(inputs)
  x = layers.Add()([x, inner("right")(inputs)])
  x = layers.Flatten()(x)
  return inputs, layers.Dense(3, use_bias=False, name="head")(x)


def sequences():
  inputs = layers.Input((12, 3))
  x = layers.Conv1D(8, 3, name="conv", activation="relu")(inputs)
  x = layers.BatchNormalization()(x)
  x = layers.Dense(8, name="Conv2D")(x)
  x = layers.Dense(8, name="conv_1", use_bias=False)(layers.ReLU()(x))
  x = layers.GlobalAveragePooling1D()(x)
  return inputs, layers.Dense(3, name="head")(x)


def equal_dense():
  x = inputs = layers.Input((8,))
  for index in range(4):
    x = layers.Dense(8, use_bias=index % 2 == 0, name=f"dense_{index}")(x)
    x = layers.BatchNormalization(name=f"norm_{index}")(x)
    x = layers.ReLU()(x) if index < 2 else x
  return inputs, layers.Dense(8, name="head")(x)


def depthwise_multiplier():
  inputs = layers.Input((8, 8, 4))
  x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(inputs)
  x = layers.BatchNormalization()(x)
  x = layers.Conv2D(4, 3, strides=2, name="conv")(layers.ReLU()(x))
  x = layers.GlobalAveragePooling2D(keepdims=True)(x)
  x = layers.Conv2D(3, 1, name="head")(x)
  return inputs, layers.Flatten()(x)


@pytest.mark.parametrize("format", ["fp32_dense", "fp16_sparse", "int8_dense"])
@pytest.mark.parametrize(
  "architecture", [nested_images, sequences, equal_dense, depthwise_multiplier]
)
def test_architectures(architecture, format):
  content, masks = converted_pruned(architecture, format)
  kept = sum(int(mask.sum()) for mask in masks.values())
  size = sum(mask.size for mask in masks.values())
  density = check_masked_zeros(content, masks).density
  assert density == pytest.approx(kept / size, abs=0.02)
  for layer, mask in masks.items():
    found = check_masked_zeros(content, {layer: mask}).density
    assert found == pytest.approx(mask.mean(), abs=0.02)
    with pytest.raises(VerificationError, match=f"'{layer}'"):
      check_masked_zeros(content, {**masks, layer: ~mask})


def converted_pruned(architecture, format):
  """Returns the file of a model pruned to 30 %, and its masks."""
  model = tf.keras.Model(*architecture(), name="net")
  models.randomise(model, seed=5)
  masks = prune_everywhere(model)
  calibration = np.random.default_rng(6).normal(size=(4, *model.input_shape[1:]))
  return convert(model, format, calibration.astype(np.float32)), masks


def prune_everywhere(model):
  """Prunes depthwise layers and layers of inner models too."""
  masks: dict[str, np.ndarray] = {}
  for layer in model.layers:
    if isinstance(layer, tf.keras.Model):
      masks |= prune_everywhere(layer)
    elif hasattr(layer, "kernel") or hasattr(layer, "depthwise_kernel"):
      seed = sum(layer.name.encode())
      masks |= models.prune(model, 0.3, layers=(layer.name,), seed=seed)
  return masks


STORED = np.array([[7, 0, 1], [-2, -2, 0]], np.int8)


def test_stored_zero_that_means_something_else_is_refused():
  mask = np.array([[False, False], [True, True], [True, True]])
  content = files.quantised_dense(STORED, [7, -2])
  assert check_masked_zeros(content, {"dense": mask}).density == 3 / 6
  with pytest.raises(VerificationError, match="'dense': 1 of 2 masked"):
    check_masked_zeros(files.quantised_dense(STORED, [0, -2]), {"dense": mask})


def shared_convolution():
  """Both uses read one tensor."""
  inputs = layers.Input((8, 8, 4))
  convolution = layers.Conv2D(4, 3, padding="same", name="shared")
  x = convolution(layers.ReLU()(convolution(inputs)))
  return inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))


def shared_between_norms():
  """Batch norm is folded into each use: two tensors."""
  x = inputs = layers.Input((8, 8, 4))
  convolution = layers.Conv2D(4, 3, padding="same", use_bias=False, name="shared")
  for _ in range(2):
    x = layers.ReLU()(layers.BatchNormalization()(convolution(x)))
  return inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))


def shared_dense():
  x = inputs = layers.Input((16,))
  dense = layers.Dense(16, use_bias=False, name="shared")
  for _ in range(2):
    x = layers.ReLU()(layers.BatchNormalization()(dense(x)))
  x = layers.Dense(16, name="shared_1")(x)
  return inputs, layers.Dense(3, name="head")(layers.ReLU()(x))


def with_heavy_value(content, use):
  """Sets a zero of one use's weight to the largest number stored in it.

  Returns:
    The file, whose tensors stay where they are.
  """
  weight = stored_weights(content)[use]
  model = read_model(content)
  tensor = model.subgraphs[0].tensors[weight.tensor]
  values = constant(model, tensor).copy()
  values.flat[np.flatnonzero(weight.zero)[0]] = values.max()
  model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
  return write_model(model)


@pytest.mark.parametrize("format", ["fp32_dense", "fp16_dense", "int8_dense"])
@pytest.mark.parametrize(
  ("architecture", "tensors"),
  [(shared_convolution, 1), (shared_between_norms, 2), (shared_dense, 2)],
)
def test_every_use_of_a_shared_layer_is_checked(architecture, tensors, format):
  content, masks = converted_pruned(architecture, format)
  assert len({weight.tensor for weight in stored_weights(content)[:2]}) == tensors
  density = check_masked_zeros(content, masks).layer_density
  assert density["shared"] == pytest.approx(masks["shared"].mean(), abs=0.02)
  wanted = tensors * int((~masks["shared"]).sum())
  for use in range(2):
    # int8 can scale the folded norms away: two tensors, one buffer, both broken.
    with pytest.raises(VerificationError, match=f"'shared': [12] of {wanted} masked"):
      check_masked_zeros(with_heavy_value(content, use), masks)


@pytest.mark.parametrize("architecture", [shared_between_norms, shared_dense])
def test_shared_layer_stored_sparse(architecture):
  content, masks = converted_pruned(architecture, "fp32_sparse")
  weights = check_masked_zeros(content, masks)
  assert weights.stored_sparse["shared"]
  assert weights.layer_density["shared"] == masks["shared"].mean()
  with pytest.raises(VerificationError, match="'shared'"):
    check_masked_zeros(content, {**masks, "shared": ~masks["shared"]})


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_refused_or_read(seed, damages):
  content = files.damaged(models.converted("fp32_sparse"), seed, damages)
  try:
    check_masked_zeros(content, models.pruned(0.2)[1])
  except (InputError, VerificationError) as error:
    assert "\n" not in str(error)


@given(st.binary(max_size=64))
def test_random_bytes_are_refused(tail):
  for content in (tail, b"\x08\x00\x00\x00TFL3" + tail, tail[:4] + b"TFL3" + tail):
    with pytest.raises(InputError):
      check_masked_zeros(content, {})
