"""The pruning methods by name."""

from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import base, fedtiny

STRATEGIES: dict[str, type[base.Strategy]] = {
  "fedavg": base.Strategy,
  "fedtiny": fedtiny.FedTiny,
}


def get_strategy(name: str) -> base.Strategy:
  """Returns a strategy.

  Raises:
    InputError: When the name is unknown.
  """
  if name not in STRATEGIES:
    raise InputError(f"unknown strategy {name!r}: choose one of {', '.join(STRATEGIES)}")
  return STRATEGIES[name]()
