"""What is kept of a cell, and what is refused when it is read again."""

import json
from typing import Any

import pytest

from fedtiny_tff.errors import InputError
from pipelines.comparisons import comparison_cells, comparison_grid
from tests.pipelines import support
from tests.pipelines.comparisons.comparison_results import finished_cell


def _common(**changes):
  return comparison_grid.common_config(support.make_config(**changes).values)


def _cell(method="fedtiny", density=0.1, seed=0, **changes):
  (cell,) = comparison_grid.make_cells(
    _common(**changes), [method], [density], [0.5], [seed]
  )
  return cell


def _write(store, cell, **changes):
  found = finished_cell(cell.method, cell.density, cell.seed, **changes)
  found["flags"] = comparison_cells._stored_flags(cell.config)
  path = store.path(cell)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(found))
  return path


@pytest.fixture(name="store")
def fixture_store(tmp_path):
  return comparison_cells.CellStore(tmp_path)


def test_what_is_not_there_is_not_finished(store):
  assert store.read(_cell()) is None
  assert store.read_all(_common()) == []


def test_a_result_comes_back(store):
  _write(store, _cell(), accuracy=0.625)
  assert store.read(_cell())["result"]["accuracy"] == 0.625


def test_all_results_of_all_calls_in_order(store):
  for method, density, seed in (
    ("prunefl", 0.1, 1), ("fedtiny", 0.1, 1), ("fedtiny", 0.1, 0), ("fedtiny", 0.5, 0),
    ("fedavg", 1.0, 0), ("fedtiny_no_selection", 0.1, 0),
  ):  # fmt: skip
    _write(store, _cell(method, density, seed))
  rows = [each["result"] for each in store.read_all(_common())]
  assert [(row["method"], row["density"], row["seed"]) for row in rows] == [
    ("fedavg", 1.0, 0), ("fedtiny", 0.5, 0), ("fedtiny", 0.1, 0), ("fedtiny", 0.1, 1),
    ("fedtiny_no_selection", 0.1, 0), ("prunefl", 0.1, 1),
  ]  # fmt: skip


def test_another_configuration_is_refused_with_what_differs(store):
  path = _write(store, _cell(rounds=5))
  said = rf"{path}: is of another configuration: --rounds=5 \(now 4\); use another"
  with pytest.raises(InputError, match=said):
    store.read(_cell(rounds=4))
  with pytest.raises(InputError, match=said):
    store.read_all(_common(rounds=4))


def test_another_configuration_is_refused_before_a_cell_is_finished(store):
  store.check(_common(num_clients=4))
  store.claim(_common(num_clients=4))
  store.check(_common(num_clients=4))
  with pytest.raises(
    InputError, match=r"comparison\.json: is of another .*--num_clients=4 \(now 5\)"
  ):
    store.check(_common(num_clients=5))


def test_a_flag_that_was_not_given_may_not_be_given_later(store):
  path = _write(store, _cell())
  store.check(_common())
  with pytest.raises(InputError, match=rf"{path}: .*--partitioner=None \(now iid\)"):
    store.check(_common(partitioner="iid"))


def test_what_another_process_claimed_since_the_check_is_refused(store):
  store.check(_common(rounds=5))
  store.claim(_common())
  with pytest.raises(InputError, match=r"--rounds=4 \(now 5\)"):
    store.claim(_common(rounds=5))


@pytest.mark.parametrize(
  "content",
  ["{", "[]", '{"flags": 3}', "null", pytest.param("[" * 100_000, id="deep")],
)
def test_damaged_flags_are_named(store, tmp_path, content):
  path = tmp_path / "comparison.json"
  path.write_text(content)
  with pytest.raises(InputError, match=f"{path}: cannot be read .*delete it and data/"):
    store.check(_common())


def test_cells_of_other_calls_are_checked_too(store):
  path = _write(store, _cell("prunefl", rounds=5))
  with pytest.raises(InputError, match=rf"{path}: is of another .*--rounds=5 \(now 4"):
    store.check(_common())


def test_where_the_data_lie_makes_no_other_cell(store):
  _write(store, _cell(data_dir="here"))
  assert store.read(_cell(data_dir="there")) is not None


def test_a_flag_of_a_later_version_makes_no_other_cell(store):
  path = _write(store, _cell())
  found = json.loads(path.read_text())
  del found["flags"]["max_local_steps"]
  path.write_text(json.dumps(found))
  assert store.read(_cell()) is not None


@pytest.mark.parametrize(
  ("content", "said"),
  [
    ("{", "cannot be read"),
    pytest.param("[" * 100_000, "cannot be read", id="deep"),
    ("[]", "cannot be read"),
    ('{"result": 3}', "cannot be read"),
    ('{"result": {}, "curve": [], "layers": [], "flags": {}}', "lacks accuracy, "),
  ],
)
def test_a_damaged_file_is_named(store, content, said):
  path = store.path(_cell())
  path.parent.mkdir(parents=True)
  path.write_text(content)
  with pytest.raises(InputError, match=f"{path}: {said}.*the cell runs again"):
    store.read(_cell())


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"flags": None}, "flags is of type NoneType"),
    ({"method": 5}, "method is of type int"),
    ({"accuracy": "0.5"}, "accuracy is of type str"),
    ({"seconds": None}, "seconds is of type NoneType"),
    ({"seed": True}, "seed is of type bool"),
    ({"density": [0.1]}, "density is of type list"),
    ({"curve": 3}, "'int' object is not iterable"),
    ({"curve": [{"round": "1", "eval_accuracy": None}]}, "round is of type str"),
    ({"curve": [{"round": 1, "eval_accuracy": "1"}]}, "eval_accuracy is of type str"),
    ({"curve": [{"round": 1}]}, "'eval_accuracy'"),
    ({"layers": [3]}, "'int' object is not subscriptable"),
    ({"layers": [{"name": 1, "density": 1}]}, "name of a layer is of type int"),
    (
      {"layers": [{"name": "a", "density": None}]},
      "density of a layer is of type None",
    ),
  ],
)
def test_a_file_of_another_form_is_named(store, changes, said):
  path = _write(store, _cell())
  found = json.loads(path.read_text())
  for name, value in changes.items():
    (found if name in found else found["result"])[name] = value
  path.write_text(json.dumps(found))
  for read in (lambda: store.read(_cell()), lambda: store.read_all(_common())):
    with pytest.raises(InputError, match=rf"^{path}: cannot be read \({said}.*again$"):
      read()


def test_figures_that_some_runs_do_not_have_may_lack(store):
  _write(store, _cell(), accuracy=None, auc=None, held_out_accuracy=None)
  assert store.read(_cell())["result"]["auc"] is None


def test_a_stored_method_that_nobody_knows_is_named(store):
  path = _write(store, _cell())
  path.write_text(path.read_text().replace('"method": "fedtiny"', '"method": "other"'))
  with pytest.raises(InputError, match=rf"^{path}: is of a method that .*'other'"):
    store.read_all(_common())


def test_prepared_data_are_there(store):
  assert not store.has_data(_cell())
  assert store.has_data(_cell(dataset="prepared", data_dir="somewhere"))


def test_figures_of_all_rounds_by_hand():
  made: dict[str, Any] = {
    "accuracy": {"sparse": 0.75}, "auc": None, "density_all_parameters": 0.2, "layers": [],
    "cost": {
      "training_flops_per_round": 600.0, "adjust_round_flops": 50.0, "forward_flops": 10.0,
      "memory_bytes": 7, "selection_upload_bytes": 1000, "selection_download_bytes": 2000,
    },
  }  # fmt: skip
  rows = [
    {
      "bytes_up_per_client": 10 + number, "bytes_down_per_client": 20,
      "adjusted_block": 1 if number == 1 else "", "seconds": 2.0,
      "eval_accuracy": 0.5 if number == 1 else "",
    }
    for number in range(3)
  ]  # fmt: skip
  found = comparison_cells._result(_cell(), made, rows, 9.04)
  # 20 examples a round; two ordinary rounds, and one of 50 an example.
  assert found["flops"] == 2 * 600 + 20 * 50
  assert found["upload_bytes"] == 1000 + 10 + 11 + 12
  assert found["download_bytes"] == 2000 + 60
  assert found["held_out_accuracy"] == 0.5
  assert (found["rounds"], found["adjustments"]) == (3, 1)
  assert (found["seconds"], found["round_seconds"]) == (9.0, 6.0)
  assert tuple(found) == comparison_cells.COLUMNS
