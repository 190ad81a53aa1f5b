"""The widest of an architecture's models that is small enough."""

import functools
import math
from collections.abc import Callable

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.model_structure.definition import ModelDefinition

# From a width to the architecture's model of that width.
FindModel = Callable[[float], ModelDefinition]

# Widths tried are multiples of this. Channels are rounded, so that there are finitely
# many models; this is finer than the steps between those of the registry.
WIDTH_STEP = 2.0**-13


def prunable_weights(model_definition: ModelDefinition) -> int:
  """Counts the prunable weights of a model."""
  return model_definition.spec.size


def parameters(model_definition: ModelDefinition) -> int:
  """Counts the trainable parameters of a model."""
  return model_profile.profile_model(model_definition).parameters


def widest(
  find: FindModel,
  width: float,
  size_of: Callable[[ModelDefinition], int],
  limit: int,
) -> ModelDefinition:
  """Returns the widest model that is no larger than a limit.

  Sizes must not fall with the width, as no number of channels does; then it is also the
  largest such model. Found by bisection: about 14 models are built, in graphs.

  Args:
    find: The architecture.
    width: The largest width.
    size_of: What is limited, for instance `parameters`.
    limit: Its largest value.

  Raises:
    InputError: When the narrowest model is larger.
  """
  last = max(1, math.ceil(width / WIDTH_STEP))

  @functools.cache
  def at(step: int) -> tuple[ModelDefinition, int]:
    found = find(width if step == last else step * WIDTH_STEP)
    return found, size_of(found)

  # The model at `low` fits, if there is one; that at `high` does not.
  low, high = 0, last + 1
  middle = last
  while high - low > 1:
    low, high = (middle, high) if at(middle)[1] <= limit else (low, middle)
    middle = (low + high) // 2
  if not low:
    found, size = at(high)
    raise InputError(
      f"model {found.name!r} has {size:,} weights when every layer is down to one "
      f"channel, and only {limit:,} are allowed; raise the target density"
    )
  return at(low)[0]
