"""Small trained-looking models that the export tests share."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.data.preprocessing import Preprocessing
from tflite_export.artifacts import ExportRequest
from tflite_export.conversion.convert import convert
from tflite_export.provenance import Provenance

INPUT_SHAPE = (16, 16, 3)
NUM_CLASSES = 4


def small_classifier(seed: int = 0) -> tf.keras.Model:
  """Returns a MobileNet-like classifier, 16x16x3 to 4 logits.

  Its two pointwise convolutions, and its two depthwise ones, have equal shapes: a
  check that mixes them up is found out. Biases and batch norm statistics are random
  instead of the zeros and ones the converter would simplify away.
  """
  layers = tf.keras.layers
  inputs = layers.Input(INPUT_SHAPE)
  x = layers.ZeroPadding2D(1, name="stem_pad")(inputs)
  x = layers.Conv2D(16, 3, strides=2, use_bias=False, name="stem")(x)
  x = layers.BatchNormalization(name="stem_bn")(x)
  x = layers.ReLU(6.0, name="stem_relu")(x)
  for block in ("first", "second"):
    y = layers.DepthwiseConv2D(3, padding="same", name=f"{block}_depthwise")(x)
    y = layers.BatchNormalization(name=f"{block}_depthwise_bn")(y)
    y = layers.ReLU(name=f"{block}_relu")(y)
    y = layers.Conv2D(16, 1, use_bias=False, name=f"{block}_pointwise")(y)
    y = layers.BatchNormalization(name=f"{block}_pointwise_bn")(y)
    x = layers.Add(name=f"{block}_add")([x, y])
  x = layers.Conv2D(32, 1, activation="relu", name="expand")(x)
  x = layers.GlobalAveragePooling2D(name="pool")(x)
  x = layers.Dense(NUM_CLASSES, name="head")(x)
  model = tf.keras.Model(inputs, x, name="small_classifier")
  randomise(model, seed)
  return model


def randomise(model: tf.keras.Model, seed: int) -> None:
  """Gives every variable values as after training."""
  generator = np.random.default_rng(seed)
  for variable in model.variables:
    values = generator.normal(size=variable.shape) / np.sqrt(
      max(1, np.prod(variable.shape[:-1]))
    )
    if variable.name.endswith(("moving_variance:0", "gamma:0")):
      values = 0.5 + np.abs(values)
    variable.assign(values.astype(np.float32))


def kernel_of(layer: tf.keras.layers.Layer) -> tf.Variable:
  """Returns the variable a mask belongs to."""
  if isinstance(layer, tf.keras.layers.DepthwiseConv2D):
    return layer.depthwise_kernel
  return layer.kernel


def prune(
  model: tf.keras.Model, density: float, layers: tuple[str, ...] = (), seed: int = 1
) -> dict[str, np.ndarray]:
  """Zeroes random weights in place and returns the masks.

  What stays grows, as in training: else little of the input reaches the output.

  Args:
    model: Any Keras model.
    density: Share of each kernel that stays, rounded to a whole number of weights.
    layers: Names of the layers to prune; without any, all with a kernel but
      depthwise ones, which nobody prunes in practice.
    seed: Of the random choice.
  """
  generator = np.random.default_rng(seed)
  names = layers or tuple(
    layer.name
    for layer in model.layers
    if hasattr(layer, "kernel")
    and not isinstance(layer, tf.keras.layers.DepthwiseConv2D)
  )
  masks = {}
  for name in names:
    kernel = kernel_of(model.get_layer(name))
    size = int(np.prod(kernel.shape))
    mask = np.zeros(size, bool)
    mask[generator.permutation(size)[: round(density * size)]] = True
    masks[name] = mask.reshape(kernel.shape)
    kernel.assign(kernel.numpy() * masks[name] / np.sqrt(density or 1))
  return masks


def random_inputs(count: int, seed: int = 2) -> np.ndarray:
  """Returns float32 [count, 16, 16, 3]: noise around a colour of each image's own."""
  generator = np.random.default_rng(seed)
  colours = generator.normal(size=(count, 1, 1, 3))
  return (colours + generator.normal(size=(count, *INPUT_SHAPE))).astype(np.float32)


PROVENANCE = Provenance(
  name="small_classifier",
  version="0.1.0",
  licence="CC0-1.0",
  method="By chance.",
  training={"Data": "None."},
  calibration="On 16 random examples.",
  evaluation="32 random examples",
  preprocessing=Preprocessing(1 / 255, (0.5, 0.4, 0.3), (0.25, 0.25, 0.2)),
  feature_type="uint8",
)


def request(
  model: tf.keras.Model, masks: dict[str, np.ndarray], evaluated: int = 32
) -> ExportRequest:
  """Returns an export request; labels are the model's own classes, so accuracy is 1."""
  inputs = random_inputs(evaluated, seed=3)
  return ExportRequest(
    model=model,
    masks=masks,
    task=tasks.CLASSIFY,
    calibration=random_inputs(16, seed=4),
    evaluation_inputs=inputs,
    evaluation_labels=np.argmax(model(inputs, training=False).numpy(), axis=1),
    class_names=tuple(f"class {index}" for index in range(NUM_CLASSES)),
    provenance=PROVENANCE,
  )


def trained(density: float) -> tuple[tf.keras.Model, dict[str, np.ndarray]]:
  """Returns a pruned `small_classifier` with logits around 0: no class always wins."""
  model = small_classifier()
  masks = prune(model, density)
  mean = model(random_inputs(64), training=False).numpy().mean(axis=0)
  model.get_layer("head").bias.assign_sub(mean)
  return model, masks


@functools.cache
def pruned(density: float) -> tuple[tf.keras.Model, dict[str, np.ndarray]]:
  """Returns `trained`, once for all tests; leave model and masks unchanged."""
  return trained(density)


@functools.cache
def converted(format: str, density: float = 0.2) -> bytes:
  """Returns `pruned(density)` converted, once for all tests."""
  return convert(pruned(density)[0], format, random_inputs(64))


def autoencoder_request(density: float = 0.2) -> ExportRequest:
  """Returns a request for a pruned, untrained autoencoder of 16 values.

  Every second of its 24 evaluation examples counts as an anomaly.
  """
  layers = tf.keras.layers
  inputs = layers.Input((4, 4))
  x = layers.Flatten(name="flatten")(inputs)
  for name, units in (("encoder", 32), ("bottleneck", 8), ("decoder", 32)):
    x = layers.Dense(units, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
  model = tf.keras.Model(inputs, layers.Dense(16, name="reconstruction")(x))
  randomise(model, seed=0)
  generator = np.random.default_rng(5)
  examples = generator.normal(size=(40, 4, 4)).astype(np.float32)
  return ExportRequest(
    model=model,
    masks=prune(model, density),
    task=tasks.RECONSTRUCT,
    calibration=examples[:16],
    evaluation_inputs=examples[16:],
    evaluation_labels=np.arange(24) % 2,
    class_names=("zero", "one"),
    provenance=dataclasses.replace(PROVENANCE, preprocessing=None),
  )
