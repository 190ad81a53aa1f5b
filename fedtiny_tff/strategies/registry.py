"""The pruning methods by name; each is imported when it is asked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fedtiny_tff import suggestions
from fedtiny_tff.errors import InputError
from fedtiny_tff.plugins import Deferred

if TYPE_CHECKING:  # TensorFlow takes seconds to import and command lines read this.
  from fedtiny_tff.strategies import base

STRATEGIES: dict[str, Callable[[], "base.Strategy"]] = {
  "fedavg": Deferred("fedtiny_tff.strategies.base:Strategy"),
  "fedtiny": Deferred("fedtiny_tff.strategies.fedtiny:FedTiny"),
  "prunefl": Deferred("fedtiny_tff.strategies.prunefl:PruneFL"),
  "feddst": Deferred("fedtiny_tff.strategies.feddst:FedDST"),
  "lotteryfl": Deferred("fedtiny_tff.strategies.lotteryfl:LotteryFL"),
  "fedmef": Deferred("fedtiny_tff.strategies.fedmef:FedMef"),
  "fedrts": Deferred("fedtiny_tff.strategies.fedrts:FedRTS"),
  "fl_pqsu": Deferred("fedtiny_tff.strategies.fl_pqsu:FLPQSU"),
  "snip": Deferred("fedtiny_tff.strategies.snip:SNIP"),
  "synflow": Deferred("fedtiny_tff.strategies.synflow:SynFlow"),
  "small_dense": Deferred("fedtiny_tff.strategies.small_dense:SmallDense"),
  "federated_pruning": Deferred(
    "fedtiny_tff.strategies.federated_pruning:FederatedPruning"
  ),
}


def get_strategy(name: str) -> "base.Strategy":
  """Returns a strategy.

  Raises:
    InputError: When the name is unknown.
  """
  if name not in STRATEGIES:
    raise InputError(
      f"unknown strategy {name!r}: choose one of {', '.join(STRATEGIES)}"
      f"{suggestions.question(name, STRATEGIES)}"
    )
  return STRATEGIES[name]()
