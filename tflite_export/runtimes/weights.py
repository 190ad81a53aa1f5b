"""Checks on the bytes of a `.tflite` file that every pruned weight is still zero.

Quantisation, folding of batch norm and re-training can all turn a masked zero
into a small number, and nothing downstream would notice. So the check reads what
is shipped, not what was converted.
"""

import dataclasses
from collections.abc import Mapping
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.artifacts import VerificationError
from tflite_export.file_format.stored_weights import (
  CONV_2D,
  DEPTHWISE_CONV_2D,
  FULLY_CONNECTED,
  StoredWeight,
  stored_weights,
)


@dataclasses.dataclass(frozen=True)
class MaskedWeights:
  """What a file holds of the masked layers.

  A layer that is used twice can be stored twice: batch norm is folded into each use.

  Attributes:
    density: Non-zero share of all their weights; 1 without masked layers.
    layer_density: Layer name to the non-zero share of its weights.
    stored_sparse: Layer name to whether all its tensors have SparsityParameters.
  """

  density: float
  layer_density: Mapping[str, float]
  stored_sparse: Mapping[str, bool]


def check_masked_zeros(model_bytes: bytes, masks: Mapping[str, Array]) -> MaskedWeights:
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
  uses = _uses(masks, stored_weights(model_bytes))
  nonzero, stored = {}, {}
  for layer, mask in masks.items():
    drifted = sum(_drifted(mask, weight) for weight in uses[layer])
    if drifted:
      raise VerificationError(
        f"layer {layer!r}: {drifted} of {len(uses[layer]) * int((~mask).sum())} masked "
        "weights are not zero in the file"
      )
    nonzero[layer] = sum(int((~weight.zero).sum()) for weight in uses[layer])
    stored[layer] = len(uses[layer]) * mask.size
  total = sum(stored.values())
  return MaskedWeights(
    density=sum(nonzero.values()) / total if total else 1.0,
    layer_density={layer: nonzero[layer] / stored[layer] for layer in masks},
    stored_sparse={
      layer: all(weight.stored_sparse for weight in uses[layer]) for layer in masks
    },
  )


def _in_file_layout(mask: Array, weight: StoredWeight) -> Optional[Array]:
  """Returns a kernel-shaped array in the weight's layout; None if it does not fit."""
  if mask.ndim == 2 and weight.operator == FULLY_CONNECTED:
    arranged = mask.T
  elif mask.ndim in (3, 4) and weight.operator == CONV_2D:
    # Conv1D runs as a Conv2D of height 1.
    arranged = np.moveaxis(mask if mask.ndim == 4 else mask[np.newaxis], -1, 0)
  elif mask.ndim == 4 and weight.operator == DEPTHWISE_CONV_2D:
    arranged = mask.reshape(1, *mask.shape[:2], -1)
  else:
    return None
  return arranged if arranged.shape == weight.zero.shape else None


def _drifted(mask: Array, weight: StoredWeight) -> int:
  """Returns how many masked weights are not zero."""
  arranged = _in_file_layout(mask, weight)
  assert arranged is not None
  return int((~arranged & ~weight.zero).sum())


def _uses(
  masks: Mapping[str, Array], stored: list[StoredWeight]
) -> dict[str, list[StoredWeight]]:
  """Finds all weights of each masked layer; one that is read twice comes once.

  Each layer is given a weight of its own first. Of the others, those that name masked
  layers only are further uses: each of the layer whose mask it breaks least.
  A further use without any name cannot be told from an unmasked layer and is not
  checked.
  """
  own = _match(masks, stored)
  uses = {layer: {stored[index].tensor: stored[index]} for layer, index in own.items()}
  for index, weight in enumerate(stored):
    fitting = [
      (_drifted(mask, weight), layer)
      for layer, mask in masks.items()
      if any(_names(path, layer) for path in weight.layer_paths)
      and _in_file_layout(mask, weight) is not None
    ]
    only_masked = all(
      any(_names(path, layer) for layer in masks) for path in weight.layer_paths
    )
    if index not in own.values() and only_masked and fitting:
      uses[min(fitting)[1]][weight.tensor] = weight
  return {layer: list(weights.values()) for layer, weights in uses.items()}


def _names(path: str, layer: str) -> bool:
  """Returns whether a path such as `net/block/conv` is the layer's."""
  return f"/{path}".endswith(f"/{layer}")


def _match(masks: Mapping[str, Array], stored: list[StoredWeight]) -> dict[str, int]:
  """Finds the index in `stored` of one weight for each masked layer.

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
      named = any(_names(path, layer) for path in weight.layer_paths)
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
