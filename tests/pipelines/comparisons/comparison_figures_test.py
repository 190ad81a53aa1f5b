"""Pictures hold the numbers they are drawn from."""

import numpy as np
import pytest

from pipelines.comparisons import comparison_figures
from tests.pipelines.comparisons.comparison_results import finished_cell


@pytest.fixture(name="cells", scope="module")
def fixture_cells():
  return [
    finished_cell("fedavg", 1.0, 0, accuracy=0.9, flops=4e9),
    finished_cell("fedtiny", 0.1, 0, accuracy=0.5, flops=1e9),
    finished_cell("fedtiny", 0.1, 1, accuracy=0.7, flops=1e9),
    finished_cell("fedtiny", 0.02, 0, accuracy=0.4, flops=5e8),
    finished_cell("prunefl", 0.1, 0, accuracy=0.3, flops=2e9),
    finished_cell("prunefl", 0.1, 0, accuracy=0.2, alpha=10.0),
  ]


def _lines(figure):
  """Returns the points of every line with a name."""
  (axes,) = figure.axes
  found: dict[str, list] = {}
  for line in axes.get_lines():
    found.setdefault(line.get_label(), line.get_xydata().tolist())
  for container in axes.containers:
    found[container.get_label()] = container.lines[0].get_xydata().tolist()
  return found


def test_all_pictures_are_there(cells):
  assert set(comparison_figures.draw(cells)) == {
    "accuracy_density", "accuracy_flops", "accuracy_memory", "accuracy_upload",
    "accuracy_rounds_0.1", "accuracy_rounds_0.02", "layer_densities_0.1",
    "layer_densities_0.02", "accuracy_alpha",
  }  # fmt: skip


def test_means_by_density_and_the_dense_level(cells):
  lines = _lines(comparison_figures.draw(cells)["accuracy_density"])
  np.testing.assert_allclose(lines["fedtiny"], [[0.02, 40.0], [0.1, 60.0]])
  np.testing.assert_allclose(lines["prunefl"], [[0.1, 30.0]])
  assert [y for _, y in lines["fedavg"]] == [90.0, 90.0]


def test_costs(cells):
  lines = _lines(comparison_figures.draw(cells)["accuracy_flops"])
  np.testing.assert_allclose(lines["fedtiny"], [[5e8, 40.0], [1e9, 60.0]])
  np.testing.assert_allclose(lines["fedavg"], [[4e9, 90.0]])


def test_curves_leave_out_rounds_without_figures(cells):
  lines = _lines(comparison_figures.draw(cells)["accuracy_rounds_0.1"])
  np.testing.assert_allclose(lines["fedtiny"], [[0, 0.0], [2, 20.0]], atol=1e-9)
  assert set(lines) >= {"fedavg", "fedtiny", "prunefl"}


def test_layers(cells):
  lines = _lines(comparison_figures.draw(cells)["layer_densities_0.1"])
  np.testing.assert_allclose(lines["fedtiny"], [[0, 0.1], [1, 0.05]])
  assert "fedavg" not in lines


def test_alphas(cells):
  lines = _lines(comparison_figures.draw(cells)["accuracy_alpha"])
  np.testing.assert_allclose(lines["prunefl"], [[0.5, 30.0], [10.0, 20.0]])
  # Who met one split alone has no place there.
  assert "fedtiny" not in lines


def test_no_method_met_two_splits():
  cells = [
    finished_cell("fedtiny", 0.1, 0, accuracy=0.5),
    finished_cell("prunefl", 0.1, 0, accuracy=0.2, alpha=10.0),
  ]
  assert "accuracy_alpha" not in comparison_figures.draw(cells)


def test_a_point_tells_its_method():
  """Of 24 methods, no two have both colour and marker."""
  names = [f"method{number}" for number in range(24)]
  cells = [finished_cell(name, 0.1, 0, accuracy=0.5) for name in names]
  (axes,) = comparison_figures.draw(cells)["accuracy_flops"].axes
  looks = {(line.get_color(), line.get_marker()) for line in axes.get_lines()}
  assert len(looks) == 24


def test_files_are_the_same_every_time(cells, tmp_path):
  comparison_figures.write(tmp_path / "one", cells)
  comparison_figures.write(tmp_path / "two", cells)
  names = sorted(path.name for path in (tmp_path / "one").iterdir())
  assert len(names) == 9
  for name in names:
    content = (tmp_path / "one" / name).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "two" / name).read_bytes()


def test_without_accuracies_there_is_nothing_to_draw():
  cell = finished_cell("fedtiny", 0.1, 0, accuracy=None, auc=0.9)
  assert comparison_figures.draw([cell]) == {}
