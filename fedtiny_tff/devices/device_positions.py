"""Where the active weights of a message are, read without TensorFlow.

The codes are those of `positions`: none, a bitmap, or Elias-Fano.
"""

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.devices.device_plan import PlannedModel
from fedtiny_tff.errors import InputError


def decode_mask(encoded: Array, model: PlannedModel) -> Array:
  """Decodes a mask.

  Args:
    encoded: uint8 [position_bytes], from whomever.
    model: Says which code it is.

  Returns:
    bool [prunable weights] with exactly `active` True.

  Raises:
    InputError: When it marks another number of weights, or none that exist.
  """
  if model.position_bytes == 0:
    return np.full(model.prunable, model.active > 0)
  bits = np.unpackbits(encoded)
  if not model.position_low_bits:
    mask = bits[: model.prunable].astype(bool)
  else:
    mask = np.zeros(model.prunable, bool)
    places = _elias_fano(bits, model)
    if len(places) and places.max() >= model.prunable:
      raise InputError(
        f"positions: one is {places.max()}, the model has {model.prunable} weights; "
        "send them as the plan codes them"
      )
    mask[places] = True
  found = int(np.count_nonzero(mask))
  if found != model.active:
    raise InputError(
      f"positions: mark {found} weights, the plan has {model.active}; send them as the "
      "plan codes them"
    )
  return mask


def _elias_fano(bits: Array, model: PlannedModel) -> Array:
  """Returns the positions that bits stand for, as many as there are."""
  low_bits, count = model.position_low_bits, model.active
  lower_bytes = -(-count * low_bits // 8)
  digits = bits[: count * low_bits].reshape(count, low_bits).astype(np.int64)
  lower = digits @ (1 << np.arange(low_bits - 1, -1, -1, dtype=np.int64))
  marked = np.flatnonzero(bits[lower_bytes * 8 :])[:count]
  upper = marked - np.arange(len(marked))
  places: Array = (upper << low_bits) + lower[: len(upper)]
  return places
