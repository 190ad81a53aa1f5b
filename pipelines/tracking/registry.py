"""Every tracker by its name; each is imported when it is asked for."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from fedtiny_tff import suggestions
from fedtiny_tff.errors import InputError
from fedtiny_tff.plugins import Deferred

if TYPE_CHECKING:
  from pipelines.tracking import base


@dataclasses.dataclass(frozen=True)
class Plugin:
  """Where a tracker is.

  Attributes:
    make: Returns a new tracker.
    package: Name under which its package is imported; empty where none is needed.
    requirement: What to install for it.
    problem: Says what must be there beside the package and is not, or None; left out
      where nothing must.
  """

  make: Deferred
  package: str = ""
  requirement: str = ""
  problem: Optional[Deferred] = None


TRACKERS: dict[str, Plugin] = {
  "tensorboard": Plugin(Deferred("pipelines.tracking.tensorboard_tracker:make")),
  "jsonl": Plugin(Deferred("pipelines.tracking.jsonl_tracker:make")),
  "mlflow": Plugin(
    Deferred("pipelines.tracking.mlflow_tracker:make"), "mlflow", "mlflow-skinny==3.5.1"
  ),
  "wandb": Plugin(
    Deferred("pipelines.tracking.wandb_tracker:make"),
    "wandb",
    "wandb==0.19.11",
    Deferred("pipelines.tracking.wandb_tracker:problem"),
  ),
}


def check(names: Sequence[str]) -> None:
  """Makes sure that trackers can be used.

  Raises:
    InputError: When one is unknown, named twice, not installed, or not set up.
  """
  for name in names:
    if name not in TRACKERS:
      raise InputError(
        f"--trackers must name {', '.join(TRACKERS)}, got {name!r}"
        f"{suggestions.question(name, TRACKERS)}"
      )
    if names.count(name) > 1:
      raise InputError(f"--trackers names {name!r} more than once; name it once")
    plugin = TRACKERS[name]
    if plugin.package and importlib.util.find_spec(plugin.package) is None:
      raise InputError(
        f"--trackers={name}: {plugin.package} is not installed; "
        f"install {plugin.requirement} as docs/watching.md shows, or leave it out"
      )
    found = plugin.problem() if plugin.problem else None
    if found:
      raise InputError(f"--trackers={name}: {found}")


def make(name: str) -> "base.Tracker":
  """Returns a new tracker."""
  return TRACKERS[name].make()
