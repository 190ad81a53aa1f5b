"""Runs a cell of a comparison and keeps what came of it.

`cells/NAME.json` is written last and alone says that a cell is finished; `runs/NAME/` is
its run directory, which `pipelines.export` can make files of; `data/` holds the clients'
records, shared by the cells of one split. `comparison.json` holds the flags that all cells
share, and is written before any of them.
"""

import json
import pathlib
import time
from typing import Any, Optional

from fedtiny_tff.errors import InputError
from pipelines import run_report
from pipelines.apps import damage, files, folder_lock
from pipelines.apps.progress import Progress
from pipelines.comparisons.comparison_grid import Cell, method_flags
from pipelines.datasets import data_folder
from pipelines.runs import metrics_log
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import choices
from pipelines.settings import config as config_lib
from pipelines.training import experiments, training_pipeline

# The columns of a result, in order.
COLUMNS = (
  "method", "density", "seed", "alpha", "accuracy", "rounds", "flops", "memory_bytes",
  "upload_bytes", "download_bytes", "auc", "held_out_accuracy", "density_all_parameters",
  "forward_flops", "adjustments", "seconds", "round_seconds",
)  # fmt: skip
# What some runs do not have.
_OPTIONAL = ("accuracy", "auc", "held_out_accuracy")


class CellStore:
  """The folders of a comparison."""

  def __init__(self, folder: pathlib.Path):
    """Names the folders; nothing is made."""
    self._folder = folder
    self._common = folder / "comparison.json"

  def path(self, cell: Cell) -> pathlib.Path:
    """Returns where the result of a cell is kept."""
    return self._folder / "cells" / f"{cell.name}.json"

  def run_directory(self, cell: Cell) -> RunDirectory:
    """Returns the cell's run directory."""
    return RunDirectory(self._folder / "runs" / cell.name)

  def data(self, cell: Cell) -> pathlib.Path:
    """Returns the folder of the clients' records."""
    return self._folder / "data" / cell.data_name

  def has_data(self, cell: Cell) -> bool:
    """Tells whether those records are written, or were prepared and lie elsewhere."""
    is_prepared = cell.config.dataset == choices.PREPARED
    return is_prepared or data_folder.is_written(self.data(cell))

  def log(self, cell: Cell) -> pathlib.Path:
    """Returns where a process of the cell's own prints to."""
    return self._folder / "logs" / f"{cell.name}.log"

  def check(self, common: config_lib.RunConfig) -> None:
    """Makes sure that the folder is new, or of the same configuration.

    Args:
      common: What all cells share.

    Raises:
      InputError: When its data or any of its cells, which another call may have run, are
        of another configuration, or a file is damaged.
    """
    if self._common.exists():
      _check_flags(self._common, _load_common(self._common), common)
    self.read_all(common)

  def claim(self, common: config_lib.RunConfig) -> None:
    """Says which configuration the folder, which exists, is of; after `check`.

    Raises:
      InputError: When another process has claimed it for another configuration since,
        or does so now.
    """
    if not self._common.exists():
      lock = folder_lock.FolderLock(self._folder, "output_dir")
      try:
        if not self._common.exists():
          found = {"flags": _stored_flags(common)}
          files.write_text(self._common, json.dumps(found, indent=1) + "\n")
      finally:
        lock.release()
    self.check(common)

  def read(self, cell: Cell) -> Optional[dict[str, Any]]:
    """Reads what came of a cell; None while it is not finished.

    Raises:
      InputError: When the file is damaged, or of another configuration.
    """
    path = self.path(cell)
    if not path.exists():
      return None
    found = _load(path)
    _check_flags(path, found["flags"], cell.config)
    return found

  def read_all(self, common: config_lib.RunConfig) -> list[dict[str, Any]]:
    """Reads what came of every finished cell, of earlier calls too.

    Args:
      common: What all cells share.

    Returns:
      Sorted by alpha, falling density, method and seed.

    Raises:
      InputError: When a file is damaged, or not of this comparison.
    """
    found = []
    for path in sorted((self._folder / "cells").glob("*.json")):
      each = _load(path)
      result = each["result"]
      axes = {
        "target_density": result["density"],
        "dirichlet_alpha": result["alpha"],
        "seed": result["seed"],
      }
      try:
        values = {**common.values, **method_flags(result["method"]), **axes}
      except InputError as error:
        raise InputError(
          f"{path}: is of a method that cannot be used ({error}); delete it, or use "
          "another --output_dir"
        ) from error
      _check_flags(path, each["flags"], config_lib.RunConfig(values))
      found.append(each)

    def place(each: dict[str, Any]) -> tuple[Any, ...]:
      result = each["result"]
      return result["alpha"], -result["density"], result["method"], result["seed"]

    return sorted(found, key=place)


def _load(path: pathlib.Path) -> dict[str, Any]:
  """Reads a cell's file.

  Raises:
    InputError: When it is damaged.
  """
  try:
    found = damage.parsed(path.read_text())
    missing = set(COLUMNS) - set(found["result"])
    missing |= {"curve", "layers", "flags"} - set(found)
    if not missing:
      _check_form(found)
  except (OSError, *damage.FORM) as error:
    raise InputError(
      f"{path}: cannot be read ({error}); delete it, and the cell runs again"
    ) from error
  if missing:
    raise InputError(
      f"{path}: lacks {', '.join(sorted(missing))}; delete it, and the cell runs again"
    )
  return found


def _check_form(found: dict[str, Any]) -> None:
  """Refuses what tables and pictures cannot be made of.

  Raises:
    LookupError: When something lacks.
    TypeError: When something is of another type.
  """
  result = found["result"]
  expected: list[tuple[str, Any, Any]] = [
    ("flags", found["flags"], dict),
    ("method", result["method"], str),
  ]
  expected += [
    (name, result[name], (int, float))
    for name in COLUMNS
    if name != "method" and not (name in _OPTIONAL and result[name] is None)
  ]
  for point in found["curve"]:
    expected.append(("round", point["round"], int))
    if point["eval_accuracy"] is not None:
      expected.append(("eval_accuracy", point["eval_accuracy"], (int, float)))
  for layer in found["layers"]:
    expected.append(("name of a layer", layer["name"], str))
    expected.append(("density of a layer", layer["density"], (int, float)))
  for name, value, types in expected:
    if not isinstance(value, types) or isinstance(value, bool):
      raise TypeError(f"{name} is of type {type(value).__name__}")


def _load_common(path: pathlib.Path) -> dict[str, Any]:
  """Reads the flags that all cells share.

  Raises:
    InputError: When the file is damaged.
  """
  try:
    return dict(damage.parsed(path.read_text())["flags"])
  except (OSError, *damage.FORM) as error:
    raise InputError(
      f"{path}: cannot be read ({error}); delete it and data/, which are written again"
    ) from error


def _check_flags(
  path: pathlib.Path, stored: dict[str, Any], config: config_lib.RunConfig
) -> None:
  """Makes sure that a cell was run with this configuration.

  A flag that came later makes no other cell.

  Raises:
    InputError: Naming what differs.
  """
  changed = [
    f"--{name}={value} (now {config.values[name]})"
    for name, value in stored.items()
    if config.values.get(name, value) != value
  ]
  if changed:
    raise InputError(
      f"{path}: is of another configuration: {', '.join(changed)}; use another "
      "--output_dir"
    )


def run_cell(cell: Cell, store: CellStore, progress: Progress) -> dict[str, Any]:
  """Runs or continues a cell and writes its result.

  Raises:
    InputError: When it cannot be run.
  """
  start = time.monotonic()
  with store.run_directory(cell) as run:
    run.check(cell.config)
    experiment = experiments.plan_experiment(
      cell.config, store.data(cell), progress, is_begun=run.flags.exists()
    )
    run.claim(cell.config)
    outcome = training_pipeline.train(experiment, run, progress, store.data(cell))
    with progress.stage("report", "final figures on the test split"):
      made = run_report.make_report(cell.config, run, outcome, progress.seconds)
    run_report.write(run, made)
    rows = outcome.sparse.rows
    found = {
      "result": _result(cell, made, rows, time.monotonic() - start),
      "curve": [_point(row) for row in rows],
      "layers": made["layers"],
      "flags": _stored_flags(cell.config),
    }
    files.write_text(store.path(cell), json.dumps(found, indent=1) + "\n")
  return found


def _stored_flags(config: config_lib.RunConfig) -> dict[str, Any]:
  """Returns what makes a cell: not where its data lie, which may be elsewhere."""
  return {
    name: value for name, value in config.configuration().items() if name != "data_dir"
  }


def _result(
  cell: Cell, made: dict[str, Any], rows: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
  """Returns the figures of a cell, named by `COLUMNS`.

  FLOPs and bytes are those of one mean device that takes part in every round.
  """
  cost = made["cost"]
  adjustments = sum(row["adjusted_block"] != "" for row in rows)
  ordinary = cost["training_flops_per_round"]
  examples = ordinary / (3.0 * cost["forward_flops"])
  flops = ordinary * (len(rows) - adjustments)
  flops += cost["adjust_round_flops"] * examples * adjustments
  held_out = [row["eval_accuracy"] for row in rows if row["eval_accuracy"] != ""]
  values = (
    cell.method, cell.density, cell.seed, cell.alpha, made["accuracy"]["sparse"], len(rows),
    flops, cost["memory_bytes"],
    sum(row["bytes_up_per_client"] for row in rows) + cost["selection_upload_bytes"],
    sum(row["bytes_down_per_client"] for row in rows) + cost["selection_download_bytes"],
    made["auc"], held_out[-1] if held_out else None, made["density_all_parameters"],
    cost["forward_flops"], adjustments, round(seconds, 1),
    round(sum(row["seconds"] for row in rows), 1),
  )  # fmt: skip
  return dict(zip(COLUMNS, values, strict=True))


def _point(row: dict[str, Any]) -> dict[str, Any]:
  """Returns what curves show of a round."""
  names = ("round", "train_loss", "eval_loss", "eval_accuracy", "adjusted_block")
  assert set(names) <= set(metrics_log.COLUMNS)
  return {name: None if row[name] == "" else row[name] for name in names}
