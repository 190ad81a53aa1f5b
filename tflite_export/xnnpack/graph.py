"""A typed view of what a `.tflite` file computes: tensors and operators by name.

Schema: https://github.com/tensorflow/tensorflow/blob/v2.14.1/tensorflow/lite/schema/schema.fbs
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.decode.tflm_decoded import Decoded

# Whose weights are looked at.
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Operators between a stored weight and its consumer.
UNPACKING = ("DENSIFY", "DEQUANTIZE")


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor as the file declares it.

  Attributes:
    name: Empty if it has none.
    shape: Sizes; empty for a scalar.
    dtype: Element type in lower case, such as "float32".
    constant: Whether the file holds its values.
    sparse: Whether they are stored with SparsityParameters.
    stored_bytes: Of its values and, if sparse, of their positions.
  """

  name: str
  shape: tuple[int, ...]
  dtype: str
  constant: bool
  sparse: bool
  stored_bytes: int


@dataclasses.dataclass(frozen=True)
class Operator:
  """An operator.

  Attributes:
    index: Position in its graph.
    type: Name of the builtin operator, such as "CONV_2D", or "CUSTOM".
    custom_name: Of a custom operator; empty otherwise.
    inputs: Tensors; -1 stands for one that is left out.
    outputs: Tensors.
    options: The schema's table of options, None if the file has none.
  """

  index: int
  type: str
  custom_name: str
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  options: Any

  def option(self, name: str, default: Optional[int] = None) -> int:
    """Returns a number of the options.

    Args:
      name: As the schema's Python code calls it, such as "strideW".
      default: For a file without options; without it there must be some.

    Raises:
      InputError: The file has no such option for this operator.
    """
    value = getattr(self.options, name, default)
    if value is None:
      raise InputError(
        f"operator {self.index} ({self.type}) has no option {name}; the file is "
        "damaged, convert the model again"
      )
    return int(value)


@dataclasses.dataclass(frozen=True)
class Graph:
  """One subgraph of a file.

  Attributes:
    number: Of the subgraph.
    tensors: By index.
    operators: In order of execution.
    inputs: Tensors that are given.
    outputs: Tensors that are asked for.
    producer: Tensor to the operator that writes it.
    consumers: Tensor to the operators that read it, each once.
    origin: Tensor to the constant it is unpacked from by DENSIFY or DEQUANTIZE;
      a constant that nothing unpacks is its own.
    paddings: PAD to its constant amounts, before and after, for each dimension.
    axes: MEAN or SUM to the dimensions it is over, counted from 0, if constant.
    nonzero: Constant to bool values of its shape, True where it is not zero, for
      the weights of convolutions and dense layers.
    zeros: Constant to how many of these values are zero.
    decoded: Operator of TFLM to what it unpacks while the model runs.
  """

  number: int
  tensors: tuple[Tensor, ...]
  operators: tuple[Operator, ...]
  inputs: frozenset[int]
  outputs: frozenset[int]
  producer: Mapping[int, int]
  consumers: Mapping[int, tuple[int, ...]]
  origin: Mapping[int, int]
  paddings: Mapping[int, tuple[tuple[int, int], ...]]
  axes: Mapping[int, frozenset[int]]
  nonzero: Mapping[int, Array]
  zeros: Mapping[int, int]
  decoded: Mapping[int, Decoded] = dataclasses.field(default_factory=dict)

  def weight(self, operator: Operator) -> Optional[int]:
    """Returns the constant that holds an operator's weight, None without one."""
    if operator.type not in WEIGHTED or len(operator.inputs) < 2:
      return None
    return self.origin.get(operator.inputs[1])

  def unpacks(self, operator: Operator) -> bool:
    """Returns whether an operator only unpacks a constant, once, on loading."""
    return operator.type in UNPACKING and any(
      output in self.origin for output in operator.outputs
    )
