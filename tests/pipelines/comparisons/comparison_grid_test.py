"""Which cells there are, and what is refused."""

import pytest

from fedtiny_tff.errors import InputError
from pipelines.comparisons import comparison_grid
from tests.pipelines import support


def _common(**changes):
  return comparison_grid.common_config(support.make_config(**changes).values)


def _cells(methods, densities=(0.1,), alphas=(0.5,), seeds=(0,), **changes):
  return comparison_grid.make_cells(
    _common(**changes), methods, densities, alphas, seeds
  )


def test_every_combination_is_a_cell():
  cells = _cells(["fedtiny", "prunefl"], (0.1, 0.02), (0.5, 10.0), (0, 3))
  assert len(cells) == 16
  assert len({cell.name for cell in cells}) == 16
  assert cells[0].name == "fedtiny-density0.1-alpha0.5-seed0"
  assert cells[-1].name == "prunefl-density0.02-alpha10-seed3"
  last = cells[-1].config
  assert (last.strategy, last.target_density) == ("prunefl", 0.02)
  assert (last.dirichlet_alpha, last.seed) == (10.0, 3)
  # Cells of one split stand together and share its records.
  assert [cell.data_name for cell in cells[:4]] == ["alpha0.5-seed0"] * 4


def test_dense_fedavg_runs_once_for_all_densities():
  cells = _cells(["fedavg", "fedtiny"], (0.1, 0.02))
  assert [(cell.method, cell.density) for cell in cells] == [
    ("fedavg", 1.0), ("fedtiny", 0.1), ("fedtiny", 0.02),
  ]  # fmt: skip


def test_all_else_is_equal():
  cells = _cells(["fedtiny", "prunefl"], rounds=7, local_epochs=2, targets=["mcu"])
  first, second = (dict(cell.config.values) for cell in cells)
  assert (first.pop("strategy"), second.pop("strategy")) == ("fedtiny", "prunefl")
  assert first == second
  assert first["rounds"] == 7
  assert first["targets"] == []
  assert first["dense_baseline"] is False


@pytest.mark.parametrize(
  ("method", "changes"),
  [
    ("fedtiny", {"strategy": "fedtiny"}),
    ("fedtiny_no_selection", {"strategy": "fedtiny", "selection": "none"}),
    ("fedtiny_vanilla_selection", {"strategy": "fedtiny", "selection": "vanilla"}),
    ("fedtiny_no_progressive", {"strategy": "fedtiny", "adjust_until_round": 0}),
    (
      "fedtiny:pool_size=3:granularity=entire",
      {"strategy": "fedtiny", "pool_size": 3, "granularity": "entire"},
    ),
    (
      "fedtiny_no_selection:adjust_every_rounds=5",
      {"strategy": "fedtiny", "selection": "none", "adjust_every_rounds": 5},
    ),
    ("my.methods:Mine", {"strategy": "my.methods:Mine"}),
    ("my:Mine:pool_size=3", {"strategy": "my:Mine", "pool_size": 3}),
  ],
)
def test_names_of_methods(method, changes):
  assert comparison_grid.method_flags(method) == changes


def test_variants_have_names_that_are_files():
  (cell,) = _cells(["fedtiny:selection=vanilla"])
  assert cell.name == "fedtiny.selection-vanilla-density0.1-alpha0.5-seed0"
  assert cell.config.selection == "vanilla"
  (cell,) = _cells(["fedtiny:partition_file=a/b.json"])
  assert cell.name == "fedtiny.partition_file-a-b.json-density0.1-alpha0.5-seed0"


def test_a_method_with_other_data_shares_none():
  cells = _cells(
    ["fedtiny", "fedtiny:num_clients=8", "fedtiny:pool_size=3"], (0.1, 0.2)
  )
  assert {cell.data_name for cell in cells if cell.config.num_clients == 8} == {
    "fedtiny.num_clients-8-alpha0.5-seed0"
  }
  assert {cell.data_name for cell in cells if cell.config.num_clients != 8} == {
    "alpha0.5-seed0"
  }


@pytest.mark.parametrize(
  ("method", "said"),
  [
    ("magic", "--methods must name fedavg, .*, or PACKAGE.MODULE:CLASS .* got 'magic'"),
    ("my.methods:", "--methods must name .* got 'my.methods:'"),
    ("fedtiny:selection", "'selection' is no flag that a method may change"),
    ("fedtiny:seed=3", "'seed' is no flag that a method may change"),
    ("fedtiny:rounds=3", "'rounds' is no flag that a method may change"),
    ("fedtiny:pool_size", "'pool_size' is no flag that a method may change"),
    ("fedtiny:colour=red", "'colour' is no flag that a method may change"),
    ("fedtiny:pool_size=many", "--pool_size: .*'many'"),
  ],
)
def test_what_is_no_method_is_refused(method, said):
  with pytest.raises(InputError, match=said):
    comparison_grid.method_flags(method)


@pytest.mark.parametrize(
  ("grid", "said"),
  [
    ({"methods": []}, "--methods is empty"),
    ({"methods": ["fedtiny", "fedtiny"]}, "--methods names a value more than once"),
    ({"seeds": (1, 1)}, "--seeds names a value more than once: 1,1"),
    ({"densities": (0.0,)}, r"--target_density must be in \(0, 1\], got 0"),
    ({"alphas": (-1.0,)}, "--dirichlet_alpha must be positive"),
    (
      {"methods": ["fedavg", "not.there:Mine"]},
      "strategy not.there:Mine: there is no mod",
    ),
    ({"seeds": (-1,)}, "--seed must be at least 0, got -1"),
    ({"methods": ["fedtiny:selection=best"]}, "--selection must be one of .*'best'"),
  ],
)
def test_what_is_no_grid_is_refused(grid, said):
  with pytest.raises(InputError, match=said):
    _cells(**({"methods": ["fedtiny"]} | grid))
