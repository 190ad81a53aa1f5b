"""A server's state as named arrays, which a state file holds, and back."""

import numpy as np

from fedtiny_tff.federated import states
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights

# Parts of a state that are tuples of arrays.
_REMEMBERED = ("memory", "aggregation")


def of_weights(weights: ModelWeights, mask: np.ndarray) -> dict[str, np.ndarray]:
  """Names the arrays of a state that remembers nothing."""
  named = {name: np.asarray(value) for name, value in weights._asdict().items()}
  return {**named, "mask": np.asarray(mask, bool)}


def of_state(state: states.ServerState) -> dict[str, np.ndarray]:
  """Names the arrays of a whole state, with all that is remembered."""
  return of_weights(state.weights, state.mask) | {
    f"{name}_{i:03d}": np.asarray(each)
    for name in _REMEMBERED
    for i, each in enumerate(getattr(state, name))
  }


def to_state(arrays: dict[str, np.ndarray], done: int) -> states.ServerState:
  """Rebuilds a server state after `done` rounds."""
  weights = ModelWeights(*(arrays[name] for name in ModelWeights._fields))
  remembered = {
    name: tuple(arrays[each] for each in sorted(arrays) if each.startswith(f"{name}_"))
    for name in _REMEMBERED
  }
  return states.ServerState(weights, arrays["mask"], np.int32(done), **remembered)
