"""Every tracker by its name; each is imported when it is asked for."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Sequence

from fedtiny_tff.errors import InputError
from pipelines.tracking import base


@dataclasses.dataclass(frozen=True)
class Plugin:
  """Where a tracker is.

  Attributes:
    module: Module with `make()`, which returns a new tracker; and, if something
      beside the package must be there, `problem()`, which says what is not, or None.
    package: Name under which its package is imported; empty where none is needed.
    requirement: What to install for it.
  """

  module: str
  package: str = ""
  requirement: str = ""


TRACKERS: dict[str, Plugin] = {
  "tensorboard": Plugin("pipelines.tracking.tensorboard_tracker"),
  "jsonl": Plugin("pipelines.tracking.jsonl_tracker"),
  "mlflow": Plugin(
    "pipelines.tracking.mlflow_tracker", "mlflow", "mlflow-skinny==3.5.1"
  ),
  "wandb": Plugin("pipelines.tracking.wandb_tracker", "wandb", "wandb==0.19.11"),
}


def check(names: Sequence[str]) -> None:
  """Makes sure that trackers can be used.

  Raises:
    InputError: When one is unknown, named twice, not installed, or not set up.
  """
  for name in names:
    if name not in TRACKERS:
      raise InputError(f"--trackers must name {', '.join(TRACKERS)}, got {name!r}")
    if names.count(name) > 1:
      raise InputError(f"--trackers names {name!r} more than once; name it once")
    plugin = TRACKERS[name]
    if plugin.package and importlib.util.find_spec(plugin.package) is None:
      raise InputError(
        f"--trackers={name}: {plugin.package} is not installed; "
        f"`pip install {plugin.requirement}` (docs/watching.md), or leave it out"
      )
    problem = getattr(importlib.import_module(plugin.module), "problem", None)
    found = problem() if problem else None
    if found:
      raise InputError(f"--trackers={name}: {found}")


def make(name: str) -> base.Tracker:
  """Returns a new tracker."""
  return importlib.import_module(TRACKERS[name].module).make()
