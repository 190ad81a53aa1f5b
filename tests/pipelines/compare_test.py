"""Methods on the digits, three rounds each, in one comparison; and what is refused."""

import csv
import json
import shutil
import signal

import pytest

from fedtiny_tff.strategies import registry
from pipelines import compare
from pipelines.comparisons import comparison_grid
from tests.pipelines import support

_SMALL = {
  **support.TINY, "width": 0.5, "rounds": 3, "adjust_until_round": 3, "pool_size": 2,
  "clients_per_round": 2, "num_clients": 2, "max_local_steps": 2, "public_samples_per_class": 1,
}  # fmt: skip
_ALL = [*registry.STRATEGIES, *comparison_grid.VARIANTS]
# One of each kind: dense, dense and small, moving, and a variant, whose mask stays.
_SOME = ["fedavg", "small_dense", "prunefl", "fedtiny_no_progressive"]
_DENSITY = 0.3


def _arguments(folder, methods, *more):
  flags = [f"--{name}={value}" for name, value in _SMALL.items() if name != "seed"]
  axes = [f"--methods={','.join(methods)}", f"--densities={_DENSITY}", "--seeds=5"]
  return [*flags, *axes, f"--output_dir={folder}", *more]


def _call(folder, methods, *more):
  return support.call("compare", compare.main, *_arguments(folder, methods, *more))


@pytest.fixture(
  name="methods",
  scope="module",
  params=[
    pytest.param(_SOME, id="some"), pytest.param(_ALL, id="all", marks=pytest.mark.slow),
  ],
)  # fmt: skip
def fixture_methods(request):
  return request.param


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory, methods):
  folder = tmp_path_factory.mktemp("comparison") / "compared"
  assert _call(folder, methods) == 0
  return folder


def _rows(folder):
  with (folder / "results.csv").open() as file:
    return {row["method"]: row for row in csv.DictReader(file)}


def test_every_method_has_its_row(folder, methods):
  rows = _rows(folder)
  assert set(rows) == set(methods)
  for method, row in rows.items():
    assert 0.0 <= float(row["accuracy"]) <= 1.0, method
    assert row["rounds"] == "3"
    assert float(row["flops"]) > 0, method
    assert int(row["upload_bytes"]) > 0, method
    assert row["density"] == ("1.0" if method == "fedavg" else str(_DENSITY))


def test_sparse_methods_keep_exactly_the_density(folder, methods):
  for method in methods:
    (path,) = folder.glob(f"runs/{method}-density*/report.json")
    report = json.loads(path.read_text())
    strategy = registry.get_strategy(report["run"]["strategy"])
    if strategy.is_sparse:
      layers = report["layers"]
      size = sum(_product(layer["shape"]) for layer in layers)
      active = sum(
        round(layer["density"] * _product(layer["shape"])) for layer in layers
      )
      # Rounded down to whole weights.
      assert active == int(_DENSITY * size), method


def _product(shape):
  product = 1
  for side in shape:
    product *= side
  return product


def test_methods_that_adjust_have_moved_their_masks(folder, methods):
  moved = {}
  for method in methods:
    (path,) = folder.glob(f"runs/{method}-density*/report.json")
    events = json.loads(path.read_text())["events"]
    moved[method] = sum(x["dropped"] for event in events for x in event["layers"])
  still = (
    "fedavg",
    "small_dense",
    "snip",
    "synflow",
    "fl_pqsu",
    "fedtiny_no_progressive",
  )
  assert {method for method in methods if not moved[method]} == {
    *still, "federated_pruning",
  } & set(methods)  # fmt: skip


def test_all_start_from_the_same_clients(folder):
  names = {path.name for path in (folder / "data").iterdir()}
  assert names == {"alpha1-seed5", "alpha1-seed5.json"}


def test_tables_and_figures_are_there(folder, methods):
  document = json.loads((folder / "results.json").read_text())
  assert len(document["results"]) == len(document["means"]) == len(methods)
  text = (folder / "results.md").read_text()
  assert all(f"| {method} |" in text for method in methods)
  assert {path.name for path in (folder / "figures").iterdir()} == {
    "accuracy_density.png", "accuracy_flops.png", "accuracy_memory.png",
    "accuracy_upload.png", f"accuracy_rounds_{_DENSITY}.png",
    f"layer_densities_{_DENSITY}.png",
  }  # fmt: skip


def test_the_same_command_runs_nothing_again(folder, methods, capsys):
  before = support.snapshot(folder / "cells"), (folder / "results.csv").read_bytes()
  assert _call(folder, methods) == 0
  assert "cell 1/" not in capsys.readouterr().err
  after = support.snapshot(folder / "cells"), (folder / "results.csv").read_bytes()
  assert after == before


def test_a_plan_says_what_is_done_and_runs_nothing(folder, capsys):
  before = support.snapshot(folder / "cells")
  assert _call(folder, ["fedavg", "prunefl", "fedtiny:pool_size=3"], "--dry_run") == 0
  out = capsys.readouterr().out
  assert "done  fedavg-density1-alpha1-seed5" in out
  assert "min  fedtiny.pool_size-3-density0.3-alpha1-seed5" in out
  assert "min in all for 1 of 3 cells" in out
  assert support.snapshot(folder / "cells") == before


def test_a_plan_of_nothing_finished_measures_some_steps(tmp_path, capsys):
  assert _call(tmp_path / "none", ["fedavg", "snip"], "--dry_run") == 0
  out = capsys.readouterr().out
  assert out.count(" min  ") == 2
  assert "in all for 2 of 2 cells" in out
  assert not (tmp_path / "none").exists()


def test_another_configuration_is_refused(folder, capsys):
  assert _call(folder, ["fedavg"], "--rounds=4") == 2
  assert "--rounds=3 (now 4); use another --output_dir" in capsys.readouterr().err


def test_another_configuration_is_refused_before_another_method_runs(folder, capsys):
  before = support.snapshot(folder)
  assert _call(folder, ["fedtiny:pool_size=3"], "--rounds=4") == 2
  assert "--rounds=3 (now 4); use another --output_dir" in capsys.readouterr().err
  assert support.snapshot(folder) == before


@pytest.mark.parametrize("more", [(), ("--dry_run",)])
def test_data_of_another_configuration_are_not_taken(folder, tmp_path, capsys, more):
  # What a comparison leaves that was stopped in its first cell.
  shutil.copytree(folder / "data", tmp_path / "data")
  shutil.copy(folder / "comparison.json", tmp_path)
  before = support.snapshot(tmp_path)
  assert _call(tmp_path, ["fedtiny:pool_size=3"], "--num_clients=3", *more) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert f"{tmp_path}/comparison.json: is of another configuration" in line
  assert "--num_clients=2 (now 3)" in line
  assert support.snapshot(tmp_path) == before


@pytest.mark.parametrize(
  ("more", "said"),
  [
    (["--methods=magic"], "--methods must name fedavg"),
    (
      ["--densities=0.1,lots"],
      "--densities: could not convert string to float: 'lots'",
    ),
    (["--seeds=1.5"], "--seeds: invalid literal"),
    (["--densities="], "--densities is empty"),
    (["--parallel=0"], "parallel"),
    (["--only_cell=other"], "--only_cell=other: is no cell of this comparison"),
    (["--output_dir="], "--output_dir is missing"),
    (["--dataset=cifar10"], "cifar10"),
  ],
)
def test_bad_input_ends_in_one_line(tmp_path, capsys, more, said):
  assert _call(tmp_path / "none", ["fedavg"], *more) == 2
  (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
  assert line.startswith("compare: ")
  assert said in line


@pytest.mark.slow
def test_a_comparison_that_is_stopped_goes_on_to_the_same_result(folder, tmp_path):
  stopped = tmp_path / "stopped"
  app = support.App(tmp_path, "compare", *_arguments(stopped, ["fedavg", "prunefl"]))
  name = f"prunefl-density{_DENSITY}-alpha1-seed5"
  state = stopped / "runs" / name / "state" / "sparse" / "round_000001.state"
  assert app.signal_when(state, signal.SIGTERM) == 143
  assert not app.survivors()
  assert not (stopped / "cells" / f"{name}.json").exists()
  assert _call(stopped, ["fedavg", "prunefl"]) == 0
  figures = ("accuracy", "flops", "upload_bytes", "held_out_accuracy")
  whole, parts = _rows(folder), _rows(stopped)
  for method in ("fedavg", "prunefl"):
    assert [parts[method][f] for f in figures] == [whole[method][f] for f in figures]
  shutil.rmtree(stopped)


@pytest.mark.slow
def test_side_by_side_gives_the_same(folder, tmp_path):
  beside = tmp_path / "beside"
  app = support.App(
    tmp_path,
    "compare",
    *_arguments(beside, ["fedavg", "prunefl", "small_dense"], "--parallel=2"),
  )
  assert app.wait() == 0, app.stderr
  assert not app.survivors()
  whole, parts = _rows(folder), _rows(beside)
  assert set(parts) == {"fedavg", "prunefl", "small_dense"}
  for method, row in parts.items():
    assert row["accuracy"] == whole[method]["accuracy"]
