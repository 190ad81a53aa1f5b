"""Means over seeds and their tables, worked out by hand."""

import csv
import json

import pytest

from pipelines.comparisons import comparison_tables
from tests.pipelines.comparisons.comparison_results import finished_cell, result


def test_means_and_sample_deviations():
  rows = [
    result("fedtiny", 0.1, 0, accuracy=0.5, flops=10.0),
    result("fedtiny", 0.1, 1, accuracy=0.7, flops=30.0),
    result("fedtiny", 0.02, 0, accuracy=0.4),
  ]
  first, second = comparison_tables.means(rows)
  assert (first["method"], first["density"], first["seeds"]) == ("fedtiny", 0.1, 2)
  assert first["accuracy"] == pytest.approx(0.6)
  # sqrt((0.01 + 0.01) / 1).
  assert first["accuracy_deviation"] == pytest.approx(0.1414214, rel=1e-6)
  assert first["flops"] == 20.0
  assert (second["accuracy"], second["accuracy_deviation"]) == (0.4, None)
  assert first["auc"] is None


def test_the_table_has_methods_down_and_densities_across():
  rows = [
    result("fedtiny", 0.1, 0, accuracy=0.5),
    result("fedtiny", 0.1, 1, accuracy=0.7),
    result("prunefl", 0.02, 0, accuracy=0.25),
    result("fedavg", 1.0, 0, accuracy=0.9),
  ]
  text = comparison_tables.markdown(rows)
  assert "### Dirichlet α = 0.5" in text
  assert "| method | density 1 | density 0.1 | density 0.02 |" in text
  assert "| fedtiny |  | 60.00 % ± 14.14 |  |" in text
  assert "| prunefl |  |  | 25.00 % |" in text
  assert "| fedavg | 90.00 % |  |  |" in text
  assert "| prunefl | 0.02 | 1e+09 | 1,000 | 200 | 300 | 1 |" in text


def test_every_alpha_has_its_table():
  rows = [result("fedtiny", 0.1, 0), result("fedtiny", 0.1, 0, alpha=10.0)]
  text = comparison_tables.markdown(rows)
  assert text.index("α = 0.5") < text.index("α = 10")


def test_reconstruction_is_told_by_its_auc():
  row = result("fedtiny", 0.1, 0, accuracy=None, auc=0.8125)
  assert "| fedtiny | AUC 0.812 |" in comparison_tables.markdown([row])


def test_files(tmp_path):
  cells = [finished_cell("fedtiny", 0.1, 0), finished_cell("fedavg", 1.0, 0)]
  comparison_tables.write(tmp_path, cells)
  with (tmp_path / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0])[:9] == [
    "method", "density", "seed", "alpha", "accuracy", "rounds", "flops", "memory_bytes",
    "upload_bytes",
  ]  # fmt: skip
  assert [row["method"] for row in rows] == ["fedtiny", "fedavg"]
  assert rows[0]["auc"] == ""
  document = json.loads((tmp_path / "results.json").read_text())
  assert document["results"][0] == cells[0]["result"]
  assert len(document["means"]) == 2
  assert "fedavg" in (tmp_path / "results.md").read_text()
