"""How a computation over clients is taken apart, so that several workers share it.

    argument -> one for each client -> what they add to the sums -> result

TFF's compiler finds the computations before, in and after the sums.
"""

import dataclasses
import logging
from typing import Any, Optional

import tensorflow_federated as tff

from fedtiny_tff.federated.private_sums import secure_sums


@dataclasses.dataclass(frozen=True)
class Plan:
  """A computation, taken apart.

  Attributes:
    up_to_merge: From the argument, with some of the clients, to their sums; compiled
      for a worker.
    merge: From the sums of two parts to those of both. None for a computation that
      cannot be taken apart: `up_to_merge` is all of it.
    after_merge: From the argument and the sums of all to the result.
  """

  up_to_merge: tff.Computation
  merge: Optional[tff.Computation] = None
  after_merge: Optional[tff.Computation] = None


def make_plan(computation: tff.Computation) -> Plan:
  """Takes a computation over clients apart.

  One with sums that depend on other sums cannot be; it stays whole, with a warning.
  """
  computation = secure_sums.in_the_open(computation)
  try:
    form = tff.backends.native.compile_to_mergeable_comp_form(computation)
  except ValueError as error:
    # What follows is the whole computation.
    reason = str(error).splitlines()[0].partition(". ")[0]
    logging.warning("a computation runs on one worker, it cannot be spread: %s", reason)
    return Plan(_compiled(computation))
  return Plan(_compiled(form.up_to_merge), form.merge, form.after_merge)


def _compiled(computation: tff.Computation) -> tff.Computation:
  compiled = tff.backends.native.desugar_and_transform_to_native(computation)
  # The compiler forgets which Python containers results come in.
  return tff.framework.ConcreteComputation.with_type(
    compiled, computation.type_signature
  )


def count_clients(argument: Any, argument_type: Optional[tff.Type]) -> Optional[int]:
  """Counts the clients that an argument speaks of.

  Returns:
    Their number; None when nothing in it is placed at clients.

  Raises:
    ValueError: When two of its values speak of different numbers.
  """
  if isinstance(argument_type, tff.StructType):
    pairs = zip(_elements(argument), argument_type.children(), strict=True)
    found = [count_clients(value, type_) for value, type_ in pairs]
    counts = {count for count in found if count is not None}
    if len(counts) > 1:
      raise ValueError(f"values of different numbers of clients: {sorted(counts)}")
    return counts.pop() if counts else None
  return len(argument) if _is_of_each_client(argument_type) else None


def split(argument: Any, argument_type: tff.Type) -> list[Any]:
  """Takes the clients of an argument apart.

  Args:
    argument: What a computation is called with.
    argument_type: Its type, with something placed at clients.

  Returns:
    Arguments of the same type, of one client each, in their order; one without any
    when there are none. What is not the clients' is the same in all.
  """
  count = count_clients(argument, argument_type) or 0
  return [
    _cut(argument, argument_type, client, client + 1) for client in range(max(count, 1))
  ]


def _cut(value: Any, type_: tff.Type, first: int, last: int) -> Any:
  if isinstance(type_, tff.StructType):
    named = tff.structure.iter_elements(type_)
    return tff.structure.Struct(
      (name, _cut(element, element_type, first, last))
      for element, (name, element_type) in zip(_elements(value), named, strict=True)
    )
  return value[first:last] if _is_of_each_client(type_) else value


def _elements(value: Any) -> list[Any]:
  return list(tff.structure.from_container(value))


def _is_of_each_client(type_: Optional[tff.Type]) -> bool:
  return (
    isinstance(type_, tff.FederatedType)
    and type_.placement is tff.CLIENTS
    and not type_.all_equal
  )
