"""The pruning methods by name; each is imported when it is asked for."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from fedtiny_tff import plugins, suggestions
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

# Reports, tables and costs show it.
_NAME = re.compile(r"\w[\w .+-]{0,39}")


def check(name: str, what: str = "strategy") -> None:
  """Makes sure that a name may be a strategy's, without importing it.

  Args:
    name: Key of `STRATEGIES`, or `package.module:name` of a user's own.
    what: What the user has named it by.

  Raises:
    InputError: When it is neither.
  """
  if name not in STRATEGIES and not plugins.is_entry_point(name):
    raise InputError(
      f"{what} must be one of {', '.join(STRATEGIES)}, or PACKAGE.MODULE:CLASS of your "
      f"own, got {name!r}{suggestions.question(name, STRATEGIES)}"
    )


def get_strategy(name: str) -> "base.Strategy":
  """Returns a strategy.

  Args:
    name: As in `check`; a user's own is looked for in the current directory, too.

  Raises:
    InputError: When there is none of that name, or what a user's own name leads to is
      no strategy, fails, has no name or that of one of `STRATEGIES`, or an unknown
      granularity.
  """
  check(name)
  return STRATEGIES[name]() if name in STRATEGIES else _own(name)


def _own(name: str) -> "base.Strategy":
  from fedtiny_tff.sparsity import schedules  # noqa: PLC0415 - imports TensorFlow
  from fedtiny_tff.strategies import base  # noqa: PLC0415 - likewise

  make = plugins.load_entry_point("strategy", name)
  made = plugins.call_own("strategy", name, make)
  if not isinstance(made, base.Strategy):
    raise InputError(
      f"strategy {name}: makes {type(made).__name__}, no Strategy; write a class "
      "derived from fedtiny_tff.strategies.base.Strategy (docs/own_strategy.md)"
    )
  called = plugins.call_own("strategy", name, lambda: made.name)
  if not isinstance(called, str) or not _NAME.fullmatch(called):
    raise InputError(
      f"strategy {name}: calls itself {called!r:.60}; set its `name` to a word of at most "
      "40 letters, such as 'evolution'"
    )
  # Reports and costs go by the name.
  if called in STRATEGIES:
    raise InputError(
      f"strategy {name}: calls itself {called!r}, as one of ours; set its `name`"
    )
  known = (None, *schedules.GRANULARITIES)
  if made.granularity not in known:
    raise InputError(
      f"strategy {name}: its `granularity` is {made.granularity!r:.60}; set it to one of "
      f"{', '.join(map(repr, known))}"
    )
  return made
