"""Checks on the bytes of a `.tflite` file that every pruned weight is still zero.

Quantisation, folding of batch norm and re-training can all turn a masked zero
into a small number, and nothing downstream would notice. So the check reads what
is shipped, not what was converted.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Optional

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tflite_export import flatbuffer_model
from tflite_export.artifacts import VerificationError

_CONV_2D = schema.BuiltinOperator.CONV_2D
_DEPTHWISE = schema.BuiltinOperator.DEPTHWISE_CONV_2D
_DENSE = schema.BuiltinOperator.FULLY_CONNECTED
_WEIGHTED = (_CONV_2D, _DEPTHWISE, _DENSE)
# Operators between a stored weight and its consumer.
_UNPACKING = (schema.BuiltinOperator.DENSIFY, schema.BuiltinOperator.DEQUANTIZE)

# `net/block/conv/Conv2D12` → `net/block/conv`: the part of a tensor's name that says
# which Keras layer computed something, before TensorFlow's operator and a number
# that makes names unique.
_LAYER_PATH = re.compile(
  r"^(.*?)(?:/Tensordot)?/(?:Conv2D|Conv1D|depthwise|Tensordot|MatMul|BiasAdd)"
  r"(?:_?\d+)?(?:/(?:ReadVariableOp|ExpandDims).*)?$"
)


@dataclasses.dataclass(frozen=True)
class StoredWeight:
  """One convolution's or dense layer's weight as the file stores it.

  Attributes:
    operator: `BuiltinOperator` number of the consumer: it fixes the layout.
    layer_paths: Keras layers named by the tensors of the consumer. Usually its
      own alone; folding merges names, so there can be others, or none.
    zero: bool in the file's layout, True where the stored number means zero.
    stored_sparse: Whether the tensor has SparsityParameters.
  """

  operator: int
  layer_paths: frozenset[str]
  zero: np.ndarray
  stored_sparse: bool


@dataclasses.dataclass(frozen=True)
class MaskedWeights:
  """What a file holds of the masked layers.

  Attributes:
    density: Non-zero share of all their weights; 1 without masked layers.
    layer_density: Layer name to the non-zero share of its weights.
    stored_sparse: Layer name to whether its tensor has SparsityParameters.
  """

  density: float
  layer_density: Mapping[str, float]
  stored_sparse: Mapping[str, bool]


def check_masked_zeros(
  model_bytes: bytes, masks: Mapping[str, np.ndarray]
) -> MaskedWeights:
  """Checks that every masked weight is exactly zero in the file.

  Zero is 0.0, or the zero point of a quantised tensor.

  Args:
    model_bytes: The `.tflite` file.
    masks: Layer name to bool array in the layout of the Keras kernel (HWIO,
      [in, out] for Dense, HWC×multiplier for depthwise); False marks a zero.

  Returns:
    The densities found in the file.

  Raises:
    VerificationError: A masked weight is not zero, or a layer is not found.
    InputError: The bytes are not a readable `.tflite` file, or a mask is not bool.
  """
  for layer, mask in masks.items():
    if mask.dtype != bool:
      raise InputError(
        f"mask of layer {layer!r} must be bool, got {mask.dtype}; give kernel != 0"
      )
  stored = stored_weights(model_bytes)
  consumer_of = _match(masks, stored)
  nonzero = {}
  for layer, mask in masks.items():
    weight = stored[consumer_of[layer]]
    drifted = _drifted(mask, weight)
    if drifted:
      raise VerificationError(
        f"layer {layer!r}: {drifted} of {int((~mask).sum())} masked weights are not "
        "zero in the file"
      )
    nonzero[layer] = int((~weight.zero).sum())
  total = sum(mask.size for mask in masks.values())
  return MaskedWeights(
    density=sum(nonzero.values()) / total if total else 1.0,
    layer_density={layer: nonzero[layer] / mask.size for layer, mask in masks.items()},
    stored_sparse={layer: stored[consumer_of[layer]].stored_sparse for layer in masks},
  )


def stored_weights(model_bytes: bytes) -> list[StoredWeight]:
  """Returns the constant weight of each convolution and dense layer, in file order.

  Raises:
    InputError: The bytes are not a readable `.tflite` file.
  """
  model = flatbuffer_model.read_model(model_bytes)
  with flatbuffer_model.reading():
    tensors = model.subgraphs[0].tensors
    operators = model.subgraphs[0].operators or []
    unpacked_from = {
      int(operator.outputs[0]): int(operator.inputs[0])
      for operator in operators
      if flatbuffer_model.operator_code(model, operator) in _UNPACKING
    }
    found = []
    for operator in operators:
      code = flatbuffer_model.operator_code(model, operator)
      if code not in _WEIGHTED:
        continue
      source = _stored_tensor(int(operator.inputs[1]), unpacked_from)
      if not flatbuffer_model.is_constant(model, tensors[source]):
        continue
      named = [source, *map(int, operator.inputs[1:]), int(operator.outputs[0])]
      found.append(
        StoredWeight(
          operator=code,
          # -1 stands for an input that is left out.
          layer_paths=_layer_paths([tensors[i] for i in named if i >= 0]),
          zero=_is_zero(model, tensors[source]),
          stored_sparse=tensors[source].sparsity is not None,
        )
      )
    return found


def _stored_tensor(tensor: int, unpacked_from: Mapping[int, int]) -> int:
  """Follows DENSIFY and DEQUANTIZE back to the tensor whose bytes are stored."""
  # No longer than there are such operators: in damaged bytes they may form a ring.
  for _ in unpacked_from:
    tensor = unpacked_from.get(tensor, tensor)
  return tensor


def _is_zero(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray:
  """Returns where the stored values mean zero."""
  values = flatbuffer_model.constant(model, tensor)
  quantization = tensor.quantization
  zero_points = None if quantization is None else quantization.zeroPoint
  if values.dtype.kind == "f" or zero_points is None or not np.size(zero_points):
    return values == 0
  zero_points = np.asarray(zero_points)
  if zero_points.size > 1:
    shape = np.ones(values.ndim, int)
    shape[quantization.quantizedDimension] = zero_points.size
    zero_points = zero_points.reshape(shape)
  return values == zero_points


def _layer_paths(tensors: list[schema.TensorT]) -> frozenset[str]:
  """Returns the Keras layers that the names of an operator's tensors mention."""
  segments = {
    segment
    for tensor in tensors
    for segment in flatbuffer_model.tensor_name(tensor).split(";")
  }
  matches = [_LAYER_PATH.match(segment) for segment in segments]
  return frozenset(match.group(1) for match in matches if match)


def _in_file_layout(mask: np.ndarray, weight: StoredWeight) -> Optional[np.ndarray]:
  """Returns a kernel-shaped array in the weight's layout; None if it does not fit."""
  if mask.ndim == 2 and weight.operator == _DENSE:
    arranged = mask.T
  elif mask.ndim in (3, 4) and weight.operator == _CONV_2D:
    # Conv1D runs as a Conv2D of height 1.
    arranged = np.moveaxis(mask if mask.ndim == 4 else mask[np.newaxis], -1, 0)
  elif mask.ndim == 4 and weight.operator == _DEPTHWISE:
    arranged = mask.reshape(1, *mask.shape[:2], -1)
  else:
    return None
  return arranged if arranged.shape == weight.zero.shape else None


def _drifted(mask: np.ndarray, weight: StoredWeight) -> int:
  """Returns how many masked weights are not zero."""
  arranged = _in_file_layout(mask, weight)
  assert arranged is not None
  return int((~arranged & ~weight.zero).sum())


def _match(
  masks: Mapping[str, np.ndarray], stored: list[StoredWeight]
) -> dict[str, int]:
  """Finds the index in `stored` of each masked layer's weight.

  A weight is a candidate if its shape fits and its tensors name the layer, or no
  layer at all (the last operator takes the output's name). Folding can add the
  name of one convolution to others, so weights that name the fewest layers are
  given away first: `{b}` to b, then `{a, b}` to a. What remains undecided goes to
  the fewest non-zeros under the mask, then to the mask with the fewest kept.
  """
  candidates = []
  for layer, mask in masks.items():
    for index, weight in enumerate(stored):
      if _in_file_layout(mask, weight) is None:
        continue
      named = any(f"/{path}".endswith(f"/{layer}") for path in weight.layer_paths)
      if named or not weight.layer_paths:
        rank = (not named, len(weight.layer_paths), _drifted(mask, weight), mask.sum())
        candidates.append((rank, index, layer))
  consumer_of: dict[str, int] = {}
  for _, index, layer in sorted(candidates):
    if layer not in consumer_of and index not in consumer_of.values():
      consumer_of[layer] = index
  for layer, mask in masks.items():
    if layer not in consumer_of:
      raise VerificationError(
        f"layer {layer!r} with kernel {list(mask.shape)} is not found among the "
        f"{len(stored)} convolutions and dense layers of the file"
      )
  return consumer_of
