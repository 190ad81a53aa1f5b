"""Cells are run once, in turn or side by side, and no process is left behind."""

import contextlib
import io
import json
import os
import sys

import psutil
import pytest
import rich.console

from fedtiny_tff.errors import InputError
from pipelines.apps.progress import Progress
from pipelines.comparisons import comparison_cells, comparison_grid, comparison_schedule
from tests.pipelines import support
from tests.pipelines.comparisons.comparison_results import finished_cell

# Writes a result as `--only_cell` would; its first argument is the file.
_WORK = """
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(sys.argv[2])
"""


@pytest.fixture(name="cells")
def fixture_cells():
  common = comparison_grid.common_config(support.make_config().values)
  return comparison_grid.make_cells(
    common, ["fedtiny", "prunefl"], [0.1], [0.5], [0, 1]
  )


@pytest.fixture(name="store")
def fixture_store(tmp_path):
  return comparison_cells.CellStore(tmp_path)


@pytest.fixture(name="said")
def fixture_said():
  return io.StringIO()


@pytest.fixture(name="progress")
def fixture_progress(said):
  return Progress(rich.console.Console(file=said, soft_wrap=True))


def _found(cell):
  return finished_cell(cell.method, cell.density, cell.seed) | {
    "flags": comparison_cells._stored_flags(cell.config)
  }


def test_finished_cells_are_not_run_again(cells, store, progress, said, monkeypatch):
  ran, tables = [], []

  def run_cell(cell, _, __):
    ran.append(cell.name)
    return _found(cell)

  monkeypatch.setattr(comparison_schedule.comparison_cells, "run_cell", run_cell)
  finished = {cells[1].name: _found(cells[1])}
  comparison_schedule.run_in_turn(
    cells, store, progress, finished, lambda: tables.append(len(ran))
  )
  assert ran == [cell.name for cell in (cells[0], cells[2], cells[3])]
  assert tables == [1, 2, 3]
  # Sixty seconds a cell, of three cells.
  assert f"cell 1/4: {cells[0].name}; about 3 min left" in said.getvalue()
  assert f"finished {cells[3].name}: accuracy 0.5000, 60 s" in said.getvalue()


class TestSideBySide:
  def command(self, store, work=_WORK):
    return lambda cell: [
      sys.executable, "-S", "-c", work, str(store.path(cell)), json.dumps(_found(cell)),
    ]  # fmt: skip

  def run(self, cells, store, progress, command, done=lambda: None, processes=2):
    comparison_schedule.run_side_by_side(
      cells, store, progress, {}, done, command, processes
    )

  def test_every_cell_has_a_process_and_a_log(self, cells, store, progress):
    work = "print('at work');" + _WORK
    tables = []
    self.run(
      cells, store, progress, self.command(store, work), lambda: tables.append(1)
    )
    assert set(comparison_schedule.read_finished(cells, store)) == {
      c.name for c in cells
    }
    assert len(tables) == 4
    assert store.log(cells[0]).read_text() == "at work\n"

  def test_one_split_is_written_by_one_process(self, cells, store, progress, said):
    self.run(cells[::2], store, progress, self.command(store))
    # Both cells are of seed 0 or 1 each; seeds differ, so both start at once.
    lines = said.getvalue().splitlines()
    assert ["started" in line for line in lines] == [True, True, False, False]
    said.truncate(0)
    for path in (store.path(cell) for cell in cells):
      path.unlink(missing_ok=True)
    self.run(cells[:2], store, progress, self.command(store))
    lines = said.getvalue().splitlines()
    assert ["started" in line for line in lines] == [True, False, True, False]

  def test_prepared_data_are_not_waited_for(self, store, progress, said):
    made = support.make_config(dataset="prepared", data_dir="somewhere")
    cells = comparison_grid.make_cells(
      comparison_grid.common_config(made.values), ["fedtiny", "prunefl"], [0.1], [0.5], [0]
    )  # fmt: skip
    self.run(cells, store, progress, self.command(store))
    lines = said.getvalue().splitlines()
    assert ["started" in line for line in lines] == [True, True, False, False]

  def test_a_cell_that_fails_ends_the_others(self, cells, store, progress):
    before = set(psutil.Process().children())
    work = (
      "import sys, time\n"
      f"if {cells[0].name!r} in sys.argv[1]: sys.exit('no')\n"
      "time.sleep(600)"
    )
    said = f"cell {cells[0].name} failed; .*{cells[0].name}.log says why"
    with pytest.raises(InputError, match=said):
      self.run([cells[0], cells[2]], store, progress, self.command(store, work))
    assert store.log(cells[0]).read_text() == "no\n"
    assert set(psutil.Process().children()) == before

  def test_a_child_does_not_outlive_a_killed_parent(self, cells, store, tmp_path):
    mark = tmp_path / "pid"
    program = f"""
import pathlib, sys
sys.path[:0] = {sys.path!r}
from pipelines.comparisons.comparison_schedule import _Children
from types import SimpleNamespace
with _Children([{{0}}]) as children:
  code = "import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(600)"
  children.start(SimpleNamespace(name="x"), [sys.executable, "-S", "-c", code], pathlib.Path({str(tmp_path / "log")!r}))
  while not (pathlib.Path({str(mark)!r}).exists() and pathlib.Path({str(mark)!r}).read_text()):
    pass
  import os, signal
  os.kill(os.getpid(), signal.SIGKILL)
"""
    support.subprocess.run([sys.executable, "-c", program], check=False, env=os.environ)
    child = int(mark.read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
      psutil.Process(child).wait(30)
    assert not psutil.pid_exists(child)


def test_results_of_other_cells_are_not_read(cells, store):
  assert comparison_schedule.read_finished(cells, store) == {}


@pytest.mark.parametrize(
  ("cores", "processes", "shares"),
  [
    ({0, 1}, 2, [{0}, {1}]),
    ({3, 0, 5, 1}, 2, [{0, 3}, {1, 5}]),
    ({0, 1, 2}, 2, [{0, 2}, {1}]),
    ({4}, 1, [{4}]),
    ({0, 1}, 3, [{0, 1}, {0, 1}, {0, 1}]),
  ],
)
def test_processes_have_cores_of_their_own(cores, processes, shares):
  assert comparison_schedule.core_shares(cores, processes) == shares
