"""Compares pruning methods: methods × densities × seeds, everything else equal."""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.apps import app
from pipelines.settings import run_flags
from pipelines.settings.dry_run_flag import DRY_RUN

_SUMMARY = """
Compares methods on the same clients, batches, pre-trained weights and number of rounds.
A finished cell is never run again; stop it at any time and run the same command.

  python -m pipelines.compare --flagfile=pipelines/presets/digits.flags \\
    --methods=fedtiny,prunefl,fedtiny:selection=vanilla --densities=0.1,0.02 --seeds=0,1 \\
    --output_dir=runs/comparison

Writes results.csv, results.json, results.md, figures/, a run directory for each cell
(runs/), cells/, which says what is finished, and comparison.json: what all cells share,
and later calls must not change. Of the flags of a run, --strategy, --target_density,
--dirichlet_alpha, --seed, --targets and --dense_baseline are the comparison's own. Test
accuracy is that of the final models; curves by rounds show the clients' held-out parts.
"""

_METHODS = flags.DEFINE_list(
  "methods",
  ["fedtiny", "fedavg"],
  "Methods: strategies, fedtiny_no_selection, fedtiny_vanilla_selection, "
  "fedtiny_no_progressive, or any of them with other flags: NAME:flag=value.",
)
_DENSITIES = flags.DEFINE_list("densities", ["0.1"], "Target densities.")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds; figures are means over them.")
_ALPHAS = flags.DEFINE_list(
  "alphas", [], "Concentrations of the Dirichlet split; empty = --dirichlet_alpha."
)
_PARALLEL = flags.DEFINE_integer(
  "parallel",
  1,
  "Cells that run at a time, each in processes of its own.",
  lower_bound=1,
)
_ONLY_CELL = flags.DEFINE_string(
  "only_cell",
  None,
  "Run this cell alone, by name, and make no tables (for --parallel).",
)
_GROUPS = {
  "Comparison": [
    "methods", "densities", "seeds", "alphas", "parallel", "dry_run", "only_cell",
  ],
  **run_flags.GROUPS,
}  # fmt: skip


def _numbers(name: str, given: Sequence[str], kind: type) -> list[Any]:
  try:
    return [kind(each) for each in given]
  except ValueError as error:
    raise InputError(f"--{name}: {error}; name numbers, separated by commas") from error


def _grid() -> tuple[Any, list[Any]]:
  """Returns what all cells share, and the cells."""
  from pipelines.comparisons import comparison_grid

  values = {name: flags.FLAGS[name].value for name in run_flags.names()}
  if not values["output_dir"]:
    raise InputError("--output_dir is missing: name the folder of the comparison")
  alphas = _ALPHAS.value or [str(values["dirichlet_alpha"])]
  common = comparison_grid.common_config(values)
  cells = comparison_grid.make_cells(
    common,
    _METHODS.value,
    _numbers("densities", _DENSITIES.value, float),
    _numbers("alphas", alphas, float),
    _numbers("seeds", _SEEDS.value, int),
  )
  return common, cells


def _command(cell: Any) -> list[str]:
  """Returns the command line that runs one cell in a process of its own."""
  command = [sys.executable, "-m", "pipelines.compare", *sys.argv[1:]]
  return [*command, f"--only_cell={cell.name}"]


def _print_plan(cells: Sequence[Any], finished: dict[str, Any]) -> None:
  from pipelines.comparisons import comparison_estimate

  seconds = comparison_estimate.estimate_seconds(cells, finished)
  for cell in cells:
    minutes = (
      f"{seconds[cell.name] / 60:8.1f} min" if cell.name in seconds else "    done"
    )
    print(f"{minutes:>12}  {cell.name}")
  print(
    f"{sum(seconds.values()) / 60:8.1f} min in all for {len(seconds)} of {len(cells)} "
    "cells, one at a time"
  )


def main() -> Optional[int]:
  """Runs what is not finished, then writes tables and figures."""
  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  progress = Progress()
  with progress.loading():
    from pipelines.apps import files
    from pipelines.comparisons import comparison_cells, comparison_schedule

  common, cells = _grid()
  folder = pathlib.Path(flags.FLAGS.output_dir)
  store = comparison_cells.CellStore(folder)
  store.check(common)
  if DRY_RUN.value:
    _print_plan(cells, comparison_schedule.read_finished(cells, store))
    return None
  files.make_folder(folder, "output_dir")
  store.claim(common)
  if _ONLY_CELL.value:
    named = [cell for cell in cells if cell.name == _ONLY_CELL.value]
    if not named:
      raise InputError(f"--only_cell={_ONLY_CELL.value}: is no cell of this comparison")
    comparison_cells.run_cell(named[0], store, progress)
    return None
  _run(cells, common, store, folder, progress)
  return None


def _run(
  cells: Sequence[Any],
  common: Any,
  store: Any,
  folder: pathlib.Path,
  progress: Any,
) -> None:
  from pipelines.comparisons import (
    comparison_figures,
    comparison_schedule,
    comparison_tables,
  )

  finished = comparison_schedule.read_finished(cells, store)

  def done() -> None:
    comparison_tables.write(folder, store.read_all(common))

  if _PARALLEL.value > 1:
    comparison_schedule.run_side_by_side(
      cells, store, progress, finished, done, _command, _PARALLEL.value
    )
  else:
    comparison_schedule.run_in_turn(cells, store, progress, finished, done)
  done()
  comparison_figures.write(folder / "figures", store.read_all(common))
  print((folder / "results.md").read_text(), end="")
  print(f"Files: {folder}/")


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS))
