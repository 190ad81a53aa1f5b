"""The cells of a comparison: methods × densities × alphas × seeds.

All cells share one configuration; each differs from it in what it is named by, so that
methods meet the same clients, batches, pre-trained weights and number of rounds.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from fedtiny_tff import plugins, suggestions
from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as strategies
from pipelines.settings import config as config_lib
from pipelines.settings import data_flags, run_flags

# Ablations that have a name of their own: strategy, and the flags that differ.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
  "fedtiny_no_selection": ("fedtiny", {"selection": "none"}),
  "fedtiny_vanilla_selection": ("fedtiny", {"selection": "vanilla"}),
  "fedtiny_no_progressive": ("fedtiny", {"adjust_until_round": 0}),
}
# What names a cell, or is the comparison's own, and so is no method's to change.
_AXES = ("strategy", "target_density", "dirichlet_alpha", "seed")
_FIXED = (
  *_AXES,
  "output_dir",
  "targets",
  "dense_baseline",
  "dataset",
  "data_dir",
  "rounds",
)

# What a method may change of them gives it clients of its own.
_DATA = frozenset(name for group in data_flags.GROUPS.values() for name in group)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run of a comparison.

  Attributes:
    method: As it was asked for: a strategy, a variant, or NAME:flag=value.
    density: Target density; 1 for dense FedAvg, whatever was asked for.
    alpha: Concentration of the Dirichlet split.
    seed: Seed of the run.
    config: All its flags.
  """

  method: str
  density: float
  alpha: float
  seed: int
  config: config_lib.RunConfig

  @property
  def name(self) -> str:
    """What its files are called."""
    return f"{self._method_name}-density{self.density:g}-{self._split}"

  @property
  def data_name(self) -> str:
    """What it shares with the cells of the same clients."""
    if _DATA.isdisjoint(method_flags(self.method)):
      return self._split
    return f"{self._method_name}-{self._split}"

  @property
  def _method_name(self) -> str:
    return self.method.replace(":", ".").replace("=", "-").replace("/", "-")

  @property
  def _split(self) -> str:
    return f"alpha{self.alpha:g}-seed{self.seed}"


def method_flags(method: str) -> dict[str, Any]:
  """Resolves a method's name.

  Args:
    method: A strategy, which may be a user's own, or a key of `VARIANTS`; either may be
      followed by :flag=value, as often as wanted.

  Returns:
    The flags that differ from the common configuration, `strategy` among them.

  Raises:
    InputError: When the method, a flag or a value is unknown.
  """
  name, *changes = method.split(":")
  ours = [*strategies.STRATEGIES, *VARIANTS]
  if name not in ours and changes and "=" not in changes[0]:
    # A strategy of one's own has a colon in its name.
    name = f"{name}:{changes.pop(0)}"
  if name not in ours and not plugins.is_entry_point(name):
    raise InputError(
      f"--methods must name {', '.join(ours)}, or PACKAGE.MODULE:CLASS of your own, got "
      f"{name!r}{suggestions.question(name, ours)}"
    )
  strategy, variant = VARIANTS.get(name, (name, {}))
  found = {"strategy": strategy, **variant}
  for change in changes:
    flag, separator, value = change.partition("=")
    if not separator or flag not in run_flags.names() or flag in _FIXED:
      raise InputError(
        f"--methods: {method!r}: {flag!r} is no flag that a method may change; write "
        "NAME:flag=value"
      )
    try:
      found[flag] = flags.FLAGS[flag].parser.parse(value)
    except (ValueError, TypeError) as error:
      raise InputError(f"--methods: {method!r}: --{flag}: {error}") from error
  return found


def common_config(values: dict[str, Any]) -> config_lib.RunConfig:
  """Returns the configuration that all cells share, its axes at fixed values.

  Args:
    values: Every flag of a run, by name.

  Raises:
    InputError: When a value is wrong.
  """
  fixed = {
    "strategy": base.Strategy.name,
    "target_density": 1.0,
    "dirichlet_alpha": 1.0,
    "seed": 0,
    "targets": [],
    "dense_baseline": False,
  }
  return config_lib.make_config({**values, **fixed})


def make_cells(
  common: config_lib.RunConfig,
  methods: Sequence[str],
  densities: Sequence[float],
  alphas: Sequence[float],
  seeds: Sequence[int],
) -> list[Cell]:
  """Lists the cells, those of one seed together.

  Args:
    common: As `common_config` gives it.
    methods: Names, see `method_flags`.
    densities: Target densities; dense FedAvg runs once for all of them.
    alphas: Concentrations of the split.
    seeds: Seeds.

  Raises:
    InputError: When a name or value is wrong, or given twice, or a strategy of one's
      own cannot be used.
  """
  for name, given in (
    ("methods", methods), ("densities", densities), ("alphas", alphas), ("seeds", seeds),
  ):  # fmt: skip
    if len(set(given)) < len(given):
      raise InputError(
        f"--{name} names a value more than once: {_joined(given)}; name it once"
      )
    if not given:
      raise InputError(f"--{name} is empty: name at least one")
  resolved = {method: method_flags(method) for method in methods}
  for changes in resolved.values():
    # One's own that is wrong shall not come up when the others have run.
    strategies.get_strategy(changes["strategy"])
  cells: dict[str, Cell] = {}
  for seed in seeds:
    for alpha in alphas:
      for density in densities:
        for method, changes in resolved.items():
          dense = changes["strategy"] == base.Strategy.name
          at = 1.0 if dense else density
          axes = {"target_density": at, "dirichlet_alpha": alpha, "seed": seed}
          config = config_lib.make_config({**common.values, **changes, **axes})
          cell = Cell(method, at, alpha, seed, config)
          cells.setdefault(cell.name, cell)
  return list(cells.values())


def _joined(values: Iterable[Any]) -> str:
  return ",".join(map(str, values))
