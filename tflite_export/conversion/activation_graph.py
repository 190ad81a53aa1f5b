"""The graph that gives, on clients, the activations a `.tflite` file will have.

Clients run TensorFlow; the ranges are those of a converted file's tensors. Which tensor
of the model's graph has the values of which tensor of the file is found by computing
both on random inputs. What the converter made of several operators and the model's
graph has nowhere (a batch norm without a convolution before it becomes a product and a
sum) is computed from its inputs as the file does. The weights are taken out of the
graph, so that they travel like those of any round.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Optional, cast

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
  convert_variables_to_constants_v2,
)

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.conversion import activation_match, float_activations
from tflite_export.conversion.activation_derivation import derive
from tflite_export.conversion.convert import INPUT_NAME, float_file
from tflite_export.file_format.activation_ranges import activations

_PROBES_AT_A_TIME = 2


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationGraph:
  """A model without its weights, and where its activations are.

  Attributes:
    names: Of the file's activation tensors, as in `ActivationRanges`.
    graph: Placeholders for inputs, variables and constants, and all operators.
    variables: Names of the placeholders, in the order of the model's variables and
      then of `constants`; None for one that inference does not use.
    constants: float32; numbers of the file that are none of the model's variables.
    tensors: One name in the graph for each of `names`.
  """

  names: tuple[str, ...]
  graph: tf.compat.v1.GraphDef
  variables: tuple[Optional[str], ...]
  constants: tuple[Array, ...]
  tensors: tuple[str, ...]

  def __call__(
    self, inputs: tf.Tensor, variables: Sequence[tf.Tensor]
  ) -> list[tf.Tensor]:
    """Computes the activations; call within a graph, as in a `tf.function`.

    Args:
      inputs: float32 [n, ...].
      variables: Values of the model's variables and of `constants`, in this order.

    Returns:
      One tensor for each of `names`, float32 of any shape.
    """
    fed = {INPUT_NAME: inputs}
    fed |= {
      name: value
      for name, value in zip(self.variables, variables, strict=True)
      if name is not None
    }
    # Identities, because a tensor from outside of a loop is none of its body's graph.
    here = {f"{name}:0": tf.identity(value) for name, value in fed.items()}
    tensors = tf.graph_util.import_graph_def(
      self.graph, input_map=here, return_elements=list(self.tensors)
    )
    return cast("list[tf.Tensor]", tensors)


def activation_graph(model: tf.keras.Model) -> ActivationGraph:
  """Finds the activations of a model's file in its graph.

  Args:
    model: As for `convert`.

  Raises:
    InputError: The model cannot be converted, has control flow, or has an activation
      that can be computed neither way.
  """
  content = float_file(model)
  names = activations(content)
  graph, variables = _graph(model)
  plain = ActivationGraph(names, graph, variables, (), ())
  values = [tf.constant(variable.numpy()) for variable in model.variables]
  probes = _probes(tuple(model.inputs[0].shape)[1:])
  found = activation_match.match(
    names,
    activation_match.tensor_names(graph),
    _computed(plain, values, content, probes),
  )
  tensors = tuple(each.tensor for each in found if each.tensor)
  if len(tensors) == len(names):
    return dataclasses.replace(plain, tensors=tensors)
  derived = derive(content, graph, found)
  whole = ActivationGraph(
    names,
    derived.graph,
    (*variables, *derived.placeholders),
    derived.constants,
    tuple(name or "" for name in derived.tensors),
  )
  _check(model.name, whole, values, content, probes)
  return whole


def _check(
  model: str,
  found: ActivationGraph,
  values: Sequence[tf.Tensor],
  content: bytes,
  probes: Array,
) -> None:
  """Raises `InputError` unless each activation equals the file's on all probes."""
  left = [index for index, name in enumerate(found.tensors) if not name]
  if not left:
    fed = [*values, *(tf.constant(value) for value in found.constants)]
    own = [(name,) for name in found.tensors]
    left = activation_match.unequal(own, _computed(found, fed, content, probes))
  if left:
    raise InputError(
      f"model {model!r}: its activation {found.names[left[0]]!r} cannot be measured on "
      "clients, because the converter computes it otherwise than the model; calibrate "
      "on samples of the server"
    )


def _computed(
  graph: ActivationGraph,
  values: Sequence[tf.Tensor],
  content: bytes,
  probes: Array,
) -> activation_match.Computed:
  """Returns a function from tensor names to their values and the file's, by probe."""

  def computed(
    tensors: Sequence[str], first: int, last: int
  ) -> Iterator[tuple[list[Array], list[Array]]]:
    asked = dataclasses.replace(graph, tensors=tuple(tensors))
    compute = tf.function(lambda inputs: asked(inputs, values))
    rows = probes[first * _PROBES_AT_A_TIME : last * _PROBES_AT_A_TIME]
    wanted = float_activations.batches(content, rows, _PROBES_AT_A_TIME)
    for number, of_file in enumerate(wanted):
      start = number * _PROBES_AT_A_TIME
      given = tf.constant(rows[start : start + _PROBES_AT_A_TIME])
      yield of_file, [value.numpy() for value in compute(given)]

  return activation_match.Computed(computed, len(probes) // _PROBES_AT_A_TIME)


def _probes(shape: tuple[int, ...]) -> Array:
  """Returns inputs [N, ...] that switch on as much of a model as possible."""
  generator = np.random.default_rng(0)
  size = (_PROBES_AT_A_TIME, *shape)
  plain_size = (_PROBES_AT_A_TIME, *(1 for _ in shape[1:]), *shape[-1:])
  parts = [generator.normal(size=size) * scale for scale in (1.0, 1.0, 0.3, 3.0, 10.0)]
  # Plain colours reach channels that noise averages out.
  parts += [
    generator.normal(size=plain_size) + 0.3 * generator.normal(size=size)
    for _ in range(3)
  ]
  parts.append(generator.uniform(size=size))
  examples: Array = np.concatenate(parts).astype(np.float32)
  return examples


def _graph(
  model: tf.keras.Model,
) -> tuple[tf.compat.v1.GraphDef, tuple[Optional[str], ...]]:
  """Returns a model's graph without weights, and its variables' placeholders."""
  shape = (None, *tuple(model.inputs[0].shape)[1:])

  @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)])
  def serve(inputs: tf.Tensor) -> tf.Tensor:
    return model(inputs, training=False)

  function = serve.get_concrete_function()
  # Freezing also inlines the functions within, whose tensors could not be read.
  frozen = convert_variables_to_constants_v2(
    function, lower_control_flow=False, aggressive_inlining=True
  )
  graph = frozen.graph.as_graph_def()
  nodes = {node.name: node for node in graph.node}
  captured = {
    id(outside): inside.op.name for outside, inside in function.graph.captures
  }
  names: list[Optional[str]] = []
  for variable in model.variables:
    name = captured.get(id(variable.handle), "")
    node = nodes.get(name)
    names.append(name if node else None)
    if node:
      node.op = "Placeholder"
      del node.attr["value"]
      node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())
  return graph, tuple(names)
