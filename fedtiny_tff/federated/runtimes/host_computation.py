"""TFF computations whose body runs in Python and calls other computations.

A round with an adjustment exchanges other messages than one without, and TFF's types
are static: each kind of round is a computation of its own. Which one is next follows
from the state, so that `next` must look at it, and no single graph could.
"""

from collections.abc import Callable
from typing import Any

import tensorflow_federated as tff

from fedtiny_tff.federated.runtimes import execution


class HostComputation(tff.Computation):
  """A Python function under a TFF type signature.

  It may be called wherever TFF computations run at once, and nowhere inside of others.
  """

  def __init__(
    self, name: str, function: Callable[..., Any], type_signature: tff.FunctionType
  ):
    """Takes what it does.

    Args:
      name: What errors call it.
      function: Its body; called with the parameter's elements, in order.
      type_signature: Its parameter is a struct with a name for each element, the only
        one if there is only one, or None.
    """
    self._name = name
    self._function = function
    self._type_signature = type_signature

  @property
  def type_signature(self) -> tff.FunctionType:
    """The type of the parameter and of the result."""
    return self._type_signature

  def __call__(self, *arguments: Any, **named: Any) -> Any:
    """Runs the body.

    Raises:
      InputError: When it is called inside another computation.
    """
    execution.require_execution(self._name)
    return self._function(*arguments, **named)

  def __hash__(self) -> int:
    """Tells computations apart by identity, as TFF's own."""
    return id(self)
