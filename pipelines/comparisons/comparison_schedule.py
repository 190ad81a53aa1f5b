"""Runs the cells of a comparison, one after the other or several processes at a time."""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from fedtiny_tff.errors import InputError
from pipelines.apps import interruption
from pipelines.apps.progress import Progress
from pipelines.comparisons import comparison_cells, comparison_estimate
from pipelines.comparisons.comparison_grid import Cell

Results = dict[str, dict[str, Any]]

_POLL_SECONDS = 0.5
_STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1


def read_finished(cells: Sequence[Cell], store: comparison_cells.CellStore) -> Results:
  """Reads the results that are there.

  Returns:
    By the cell's name, in the order of the cells.
  """
  found = {cell.name: store.read(cell) for cell in cells}
  return {name: each for name, each in found.items() if each is not None}


def run_in_turn(
  cells: Sequence[Cell],
  store: comparison_cells.CellStore,
  progress: Progress,
  finished: Results,
  done: Callable[[], None],
) -> None:
  """Runs every unfinished cell in this process.

  Args:
    cells: All cells.
    store: Where results are kept.
    progress: Where progress is shown.
    finished: Results there are.
    done: Called after every cell.
  """
  results = dict(finished)
  for number, cell in enumerate(cells, 1):
    if cell.name in results:
      continue
    progress.say(f"cell {number}/{len(cells)}: {cell.name}; {_left(cells, results)}")
    # Stages of one cell must not count for another.
    results[cell.name] = comparison_cells.run_cell(
      cell, store, Progress(progress.console)
    )
    done()
    progress.say(_figures(cell, results[cell.name]))


def run_side_by_side(
  cells: Sequence[Cell],
  store: comparison_cells.CellStore,
  progress: Progress,
  finished: Results,
  done: Callable[[], None],
  command: Callable[[Cell], list[str]],
  processes: int,
) -> None:
  """Runs every unfinished cell in a process of its own.

  Args:
    cells: All cells.
    store: Where results are kept.
    progress: Where progress is shown.
    finished: Results there are.
    done: Called after every cell.
    command: From a cell to the command line that runs it.
    processes: How many run at a time.

  Raises:
    InputError: When a process fails; the others are stopped, and go on where they were
      with the same command.
  """
  results = dict(finished)
  waiting = [cell for cell in cells if cell.name not in results]
  with _Children(core_shares(os.sched_getaffinity(0), processes)) as children:
    while waiting or children.running:
      while waiting and len(children.running) < processes:
        cell = waiting.pop(0)
        # Two processes must not write the records of one split at the same time.
        if not store.has_data(cell) and any(
          other.data_name == cell.data_name for other in children.running
        ):
          waiting.insert(0, cell)
          break
        children.start(cell, command(cell), store.log(cell))
        progress.say(f"started {cell.name}; {_left(cells, results)}")
      for cell in children.ended():
        result = store.read(cell)
        if result is None:
          raise InputError(
            f"cell {cell.name} failed; {store.log(cell)} says why. Mend it and run the "
            "same command again"
          )
        results[cell.name] = result
        done()
        progress.say(_figures(cell, result))
      interruption.check()
      time.sleep(_POLL_SECONDS)


def core_shares(cores: Collection[int], processes: int) -> list[set[int]]:
  """Splits cores evenly over processes.

  Processes that share cores keep one another's threads waiting: two cells took a
  fifth longer on two cores than with a core each.

  Returns:
    One set for each process; all of them for every one where there are fewer cores.
  """
  if processes > len(cores):
    return [set(cores) for _ in range(processes)]
  ordered = sorted(cores)
  return [set(ordered[number::processes]) for number in range(processes)]


def _left(cells: Sequence[Cell], results: Results) -> str:
  """Says how long the unfinished cells will take."""
  if not results:
    return f"{len(cells)} cells left"
  seconds = sum(comparison_estimate.estimate_seconds(cells, results).values())
  return f"about {seconds / 60:.0f} min left"


def _figures(cell: Cell, found: dict[str, Any]) -> str:
  result = found["result"]
  name = "auc" if result["accuracy"] is None else "accuracy"
  quality = "unknown" if result[name] is None else f"{result[name]:.4f}"
  return f"finished {cell.name}: {name} {quality}, {result['seconds']:.0f} s"


def _prepare_child(cores: set[int]) -> None:
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
  os.sched_setaffinity(0, cores)


class _Children(contextlib.AbstractContextManager):
  """Processes that run cells; none outlives the block."""

  def __init__(self, shares: list[set[int]]) -> None:
    """Takes the cores of each process that runs at a time."""
    self._free = shares
    self._processes: dict[str, tuple[Cell, subprocess.Popen, set[int]]] = {}

  @property
  def running(self) -> list[Cell]:
    """Cells whose processes were not seen to end."""
    return [cell for cell, _, _ in self._processes.values()]

  def start(self, cell: Cell, command: list[str], log: pathlib.Path) -> None:
    """Starts a process whose output goes to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    cores = self._free.pop(0)
    with log.open("ab") as output:
      process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # Ctrl-C reaches this process alone, which stops the others.
        start_new_session=True,
        preexec_fn=lambda: _prepare_child(cores),  # noqa: PLW1509
      )
    self._processes[cell.name] = cell, process, cores

  def ended(self) -> Iterator[Cell]:
    """Yields the cells whose processes have ended, once."""
    for name, (cell, process, cores) in list(self._processes.items()):
      if process.poll() is not None:
        del self._processes[name]
        self._free.append(cores)
        yield cell

  def __exit__(self, *exception: object) -> None:
    """Ends what still runs."""
    processes = [process for _, process, _ in self._processes.values()]
    for process in processes:
      process.terminate()
    for process in processes:
      try:
        process.wait(_STOP_SECONDS)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
