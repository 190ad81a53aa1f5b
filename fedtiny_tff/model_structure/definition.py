"""A model as the product sees it: how to build it, what is pruned, which blocks."""

import dataclasses
import itertools
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import keras_graphs
from fedtiny_tff.sparsity import spec as spec_lib

# Contiguous groups into which models without blocks of their own are cut.
_DEFAULT_BLOCKS = 3


def initialize(model: tf.keras.Model, seed: int) -> None:
  """Draws every weight anew from its layer's own initialiser.

  Each variable's seed depends on `seed` and on the layer's name only, so the
  same seed gives the same weights in every process.

  Args:
    model: Built Keras model; changed in place.
    seed: Seed of the run.
  """
  for layer in model.layers:
    for attribute in ("kernel", "depthwise_kernel", "pointwise_kernel"):
      # Keras names them kernel_, depthwise_ and pointwise_initializer.
      prefix = attribute.removesuffix("_kernel")
      initializer = getattr(layer, f"{prefix}_initializer", None)
      variable = getattr(layer, attribute, None)
      if initializer is None or variable is None:
        continue
      config = initializer.get_config()
      if "seed" not in config:
        continue
      config["seed"] = zlib.crc32(f"{seed}/{layer.name}/{attribute}".encode())
      drawn = type(initializer).from_config(config)
      variable.assign(drawn(variable.shape, variable.dtype))


@dataclasses.dataclass(frozen=True)
class ModelDefinition:
  """What training, pruning and export need to know of a model.

  Attributes:
    name: Name for reports.
    build: Makes the Keras model with new variables at each call, in the current
      graph or eagerly; layer names are the same every time. Input [None, ...]
      float32, output [None, outputs]: logits, or what the task demands.
    spec: Prunable kernels and their blocks.
    task: What the outputs mean, and what is minimised.
    set_initial_weights: From a built model and the run's seed; gives every variable
      the value that training starts from.
  """

  name: str
  build: Callable[[], tf.keras.Model]
  spec: spec_lib.PrunableSpec
  task: tasks.Task = tasks.CLASSIFY
  set_initial_weights: Callable[[tf.keras.Model, int], None] = initialize


def default_prunable_layers(model: tf.keras.Model) -> tuple[str, ...]:
  """Names every Conv2D but the first, and every Dense, in model order.

  Depthwise kernels stay dense: they are tiny, and both mobile runtimes want
  them dense. Source: FedTiny's code, which also leaves the first convolution.
  """
  kernels = [
    layer
    for layer in model.layers
    if type(layer) in (tf.keras.layers.Conv2D, tf.keras.layers.Dense)
  ]
  first = next((k for k in kernels if isinstance(k, tf.keras.layers.Conv2D)), None)
  return tuple(layer.name for layer in kernels if layer is not first)


def contiguous_blocks(count: int, blocks: int) -> tuple[tuple[int, ...], ...]:
  """Cuts `count` layers into at most `blocks` contiguous, near-equal groups."""
  blocks = min(blocks, count)
  bounds = [round(i * count / blocks) for i in range(blocks + 1)]
  return tuple(tuple(range(start, stop)) for start, stop in itertools.pairwise(bounds))


def without_learning_phase(
  build: Callable[[], tf.keras.Model],
) -> Callable[[], tf.keras.Model]:
  """Makes building in graphs quick, see `keras_graphs.fix_learning_phase`.

  Args:
    build: Makes a model.

  Returns:
    What makes the same model quickly.
  """

  def build_quickly() -> tf.keras.Model:
    keras_graphs.fix_learning_phase()
    return build()

  return build_quickly


@keras_graphs.sparing_eager_models()
def define_model(
  name: str,
  build: Callable[[], tf.keras.Model],
  block_layers: Sequence[Sequence[str]] = (),
  task: tasks.Task = tasks.CLASSIFY,
) -> ModelDefinition:
  """Inspects a model once and says what is pruned in it.

  Args:
    name: Name for reports.
    build: As in `ModelDefinition`.
    block_layers: Names of the prunable layers of each block, input to output;
      empty for three contiguous groups.
    task: What the model is for.

  Raises:
    InputError: When the model has no layer that can be pruned.
    ValueError: When the blocks do not name exactly the prunable layers.
  """
  build_quickly = without_learning_phase(build)
  with tf.Graph().as_default():
    model = build_quickly()
    names = default_prunable_layers(model)
    if not names:
      raise InputError(
        f"model {name!r} has nothing to prune: it needs a Dense layer or a second "
        "Conv2D layer"
      )
    layers = tuple(
      spec_lib.LayerSpec(layer, tuple(model.get_layer(layer).kernel.shape.as_list()))
      for layer in names
    )
  if block_layers:
    named = sorted(n for block in block_layers for n in block)
    if named != sorted(names):
      raise ValueError(
        f"blocks of model {name!r} must name its prunable layers {sorted(names)} once "
        f"each, got {named}"
      )
    blocks = tuple(tuple(names.index(n) for n in block) for block in block_layers)
  else:
    blocks = contiguous_blocks(len(layers), _DEFAULT_BLOCKS)
  spec = spec_lib.PrunableSpec(layers, blocks)
  return ModelDefinition(name, build_quickly, spec, task)
